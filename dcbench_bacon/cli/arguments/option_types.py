"""Types of the values of options; this module imports little."""

from collections.abc import Iterable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import stated_classes
from dcbench_bacon.networks.pool_names import EVERY, POOLS
from dcbench_bacon.plugins import Registry


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


def completed(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    """Return the completions of the last of several names separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in names
        if name.startswith(last) and name not in given
    ]


class NameList(click.ParamType[tuple[str, ...]]):
    """Names separated by commas, checked against a registry.

    Args:
        registry: the registry that has the names.
        everything: the names that ``all`` means; every name of the registry if None.
    """

    name = "names"

    def __init__(
        self, registry: Registry, everything: Sequence[str] | None = None
    ) -> None:
        """Keep the registry and the names that ``all`` means."""
        self.registry = registry
        self.everything = everything

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, after a check against the registry."""
        if isinstance(value, tuple):
            return value
        if value == "all":
            return tuple(self.everything or self.registry.names())
        names = [name.strip() for name in str(value).split(",") if name.strip()]
        if not names:
            self.fail(f"no {self.registry.kind} given", param, ctx)
        try:
            return tuple(dict.fromkeys(self._resolve(name) for name in names))
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names of the registry that continue what was typed."""
        everything = [] if "," in incomplete else ["all"]
        return completed(incomplete, [*self.registry.names(), *everything])

    def _resolve(self, name: str) -> str:
        kind, colon, path = name.partition(":")
        kind, at, size = kind.partition("@")
        return self.registry.resolve(kind) + at + size + colon + path


class IntList(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas.

    Args:
        least: the smallest number that is allowed.
    """

    name = "numbers"

    def __init__(self, least: int) -> None:
        """Keep the bound."""
        self.least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers, after a check of their bound."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(dict.fromkeys(int(text) for text in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r}: write whole numbers, such as 1,10,50", param, ctx)
        for number in numbers:
            if number < self.least:
                self.fail(f"{number} is less than {self.least}", param, ctx)
        return numbers


class Texts(click.ParamType[tuple[str, ...]]):
    """Names separated by commas that are checked later.

    Args:
        every: what ``all`` stands for; empty where it is a name like others.
    """

    name = "names"

    def __init__(self, every: tuple[str, ...] = ()) -> None:
        """Keep what ``all`` stands for."""
        self.every = every

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names."""
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in str(value).split(",")]
        if names == ["all"] and self.every:
            return self.every
        return tuple(dict.fromkeys(name for name in names if name))


class Networks(Texts):
    """Names of networks and pools separated by commas, which are checked later."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the networks and pools that continue what was typed."""
        networks = dict.fromkeys(name for pool in POOLS.values() for name in pool)
        return completed(incomplete, [*networks, *POOLS, EVERY])


class Ratios(click.ParamType[tuple[float, ...]]):
    """Numbers between 0 and 1, separated by commas."""

    name = "ratios"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers, after a check of their bounds."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(dict.fromkeys(float(t) for t in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r}: write numbers such as 0.3,0.5", param, ctx)
        for number in numbers:
            if not 0 < number < 1:
                self.fail(f"{number:g} is not between 0 and 1", param, ctx)
        return numbers
