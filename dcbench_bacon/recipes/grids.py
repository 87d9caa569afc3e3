"""Grids that are ready to run, such as the ablation of a paper; see ``grids.toml``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from dcbench_bacon import schema
from dcbench_bacon.errors import UsageError, unknown
from dcbench_bacon.recipes.toml_tables import convert, literal, read

GRIDS = Path(__file__).with_name("grids.toml")


class Arm(Struct, frozen=True, kw_only=True, rename={"sets": "set"}):
    """One arm of a grid.

    Attributes:
        title: what tables call it.
        sets: the values that it sets, by key of the recipe.
        needs: keys that the user must state with ``--set`` for this arm.
        takes: keys that the user may state, and that are for arms with them alone.
    """

    title: str
    sets: dict[str, bool | int | float | str] = {}
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    @property
    def settable(self) -> set[str]:
        """Return the keys of ``--set`` that are not for arms without them."""
        return {*self.needs, *self.takes}

    @property
    def overrides(self) -> dict[str, str]:
        """Return the values as ``--set`` takes them."""
        return {
            key: value
            if isinstance(value, str)
            else msgspec.json.encode(value).decode()
            for key, value in self.sets.items()
        }


class ReadyGrid(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grid of cells in several arms.

    Attributes:
        title: one line about it.
        source: where it was published.
        methods: names of methods, unless the user names others.
        datasets: names of data sets, unless the user names others.
        ipc: numbers of images per class, unless the user names others.
        arms: the arms; the others are compared with the first.
    """

    title: str
    source: str
    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    ipc: tuple[int, ...]
    arms: tuple[Arm, ...]

    def overrides(
        self, given: Mapping[str, str]
    ) -> Iterator[tuple[Arm, dict[str, str]]]:
        """Yield the arms that can run, each with all that it sets.

        Args:
            given: the values of ``--set`` by key. Those that only some arms need are
                not those of the others.

        Raises:
            UsageError: a key of ``--set`` is one that the arms differ in.
        """
        if both := [key for key in given if any(key in arm.sets for arm in self.arms)]:
            raise UsageError(
                f"--set {both[0]}: the arms of the grid differ in it; leave it out, or "
                "use --sweep instead of --grid"
            )
        for arm in self.arms:
            if all(key in given for key in arm.needs):
                others = self._of_some - arm.settable
                stated = {k: v for k, v in given.items() if k not in others}
                yield arm, {**stated, **arm.overrides}

    @property
    def _of_some(self) -> set[str]:
        """Return the keys of ``--set`` that only some arms take."""
        return {key for arm in self.arms for key in arm.settable}

    def left_out(self, given: Mapping[str, str]) -> list[str]:
        """Return a line about each arm that cannot run, with the remedy."""
        return [
            f"left out: {arm.title}, which needs --set {key}=..."
            for arm in self.arms
            for key in arm.needs
            if key not in given
        ]

    def arm_of(self, record: schema.Record) -> tuple[Arm, dict[str, str]] | None:
        """Return the arm that a record belongs to, and what else its recipe sets.

        Returns:
            The arm and the other overrides; None if the record is of no arm.
        """
        keys = {key for arm in self.arms for key in arm.sets}
        overrides = record.recipe.overrides
        of_arms = {key: literal(text) for key, text in overrides.items() if key in keys}
        rest = {k: v for k, v in overrides.items() if k not in keys | self._of_some}
        return next(((arm, rest) for arm in self.arms if arm.sets == of_arms), None)


def grid_titles() -> dict[str, str]:
    """Return one line about each grid, by name."""
    return {name: str(table["title"]) for name, table in read(GRIDS).items()}


def ready_grid(name: str) -> ReadyGrid:
    """Return a grid by its name; ``_`` means ``-``.

    Raises:
        UsageError: there is no such grid; the message lists the names.
    """
    document: Mapping[str, Any] = read(GRIDS)
    if (typed := name.replace("_", "-")) not in document:
        raise unknown("grid", name, document)
    return convert(document[typed], ReadyGrid, f"{GRIDS} [{typed}]")
