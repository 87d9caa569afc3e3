"""Values of options about the sets of other tools; imports nothing heavy."""

from typing import Any

import click

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import stated_classes


class SetIndex(click.ParamType[int | str]):
    """Which of several sets in a file: a number, or ``all``."""

    name = "number or all"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Reads the number."""
        if value == "all":
            return "all"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r}: write the number of a set or all", param, ctx)


class Classes(click.ParamType[tuple[str, ...]]):
    """Names of classes: separated by commas, or a line each in a file."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Splits, or reads the file."""
        if isinstance(value, tuple):
            return value
        try:
            names = stated_classes(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)
        return names or self.fail("no class given", param, ctx)
