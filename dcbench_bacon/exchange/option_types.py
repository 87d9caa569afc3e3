"""Types of the options about sets of other tools; this module imports little."""

from typing import Any

import click

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import stated_classes


class SetIndex(click.ParamType[int | str]):
    """The index of a set among several in a file: a number, or ``all``."""

    name = "number or all"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return the number, or ``all``."""
        if value == "all":
            return "all"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r}: write the number of a set or all", param, ctx)


class Classes(click.ParamType[tuple[str, ...]]):
    """Names of classes: separated by commas, or one per line in a file."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names from the list or from the file."""
        if isinstance(value, tuple):
            return value
        try:
            names = stated_classes(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)
        return names or self.fail("no class given", param, ctx)
