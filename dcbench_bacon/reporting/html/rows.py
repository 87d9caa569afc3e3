"""The rows of the page's tables, from the same frames as all other tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import pandas as pd

from dcbench_bacon.field_types import Preset
from dcbench_bacon.reporting.figures.points import Named, named_in, overridden
from dcbench_bacon.reporting.literature.published import SOURCES
from dcbench_bacon.reporting.numbers import longform, tables
from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.printing.footnotes import Footnotes
from dcbench_bacon.reporting.wording import MARKS
from dcbench_bacon.schema import Record

PRESETS = get_args(Preset)
_KEY = ("dataset", "ipc", "method", "protocol", "preset", "selection")


@dataclass(frozen=True)
class Facets:
    """The words that a row, a figure or a picture can be filtered by.

    Attributes:
        dataset: the name of the data set.
        ipc: images per class; ``all`` for the whole training set.
        network: the name of the network; empty where networks do not matter.
        preset: the name of the preset, whether or not values were overridden.
    """

    dataset: str
    ipc: str
    network: str
    preset: str


def facets(row: Mapping[Any, Any], network: str = "") -> Facets:
    """Return the facets of a row of a table."""
    ipc = int(row["ipc"])
    preset = str(row["preset"]).removesuffix(CHANGED)
    return Facets(str(row["dataset"]), str(ipc) if ipc else "all", network, preset)


@dataclass(frozen=True)
class Accuracy:
    """A row of the main table.

    Attributes:
        facets: what it can be filtered by.
        method: the printed name of the method.
        recipe: the digest of the recipe.
        protocol: the name of the protocol.
        preset: the preset, with a word where values were overridden.
        mark: the mark of a selection other than the last pass.
        mean: the mean accuracy in percent.
        std: its deviation in percentage points; None if n is 1.
        n: the number of networks.
        published: the published mean in percent; None where there is none.
        published_std: its deviation; None where it has none.
        changes: the values that were overridden.
        source: the name of the source.
        marks: the marks of footnotes.
        difference: measured minus published; None where they cannot be compared.
        records: the numbers of the records behind the mean.
        best: whether it is the best of the rows that it can be compared with.
    """

    facets: Facets
    method: str
    recipe: str
    protocol: str
    preset: str
    mark: str
    mean: float
    std: float | None
    n: int
    published: float | None
    published_std: float | None
    changes: str
    source: str
    marks: str
    difference: float | None
    records: tuple[int, ...]
    best: bool = False


@dataclass
class Accuracies:
    """The rows of the main table, with what stands below it."""

    rows: list[Accuracy]
    footnotes: list[str]
    citations: dict[str, str] = field(default_factory=dict)


def accuracies(records: Sequence[Record]) -> Accuracies:
    """Return the main table: measured accuracies beside published ones.

    Args:
        records: as ``longform.told_apart`` returns them.
    """
    behind = _records_behind(records)
    changed = [overridden(record) for record in records]
    notes, cited = Footnotes(), {}
    named = named_in(records)
    rows = []
    table = tables.summary(longform.frame(records), presets=PRESETS)
    for recipe, row in zip(table.index, table.to_dict("records"), strict=True):
        marks = ""
        if row["published_source"]:
            marks = notes.marks(row)
            source = SOURCES[row["published_source"]]
            cited[row["published_source"]] = source.citation
        key = (recipe, *(row[name] for name in _KEY), row["architecture"])
        numbers = tuple(behind[key])
        rows.append(_accuracy(recipe, row, named, marks, numbers, changed[numbers[0]]))
    return Accuracies(_with_best(rows), notes.lines(), cited)


def _accuracy(
    recipe: Any,
    row: Mapping[Any, Any],
    named: Named,
    marks: str,
    records: tuple[int, ...],
    changes: str,
) -> Accuracy:
    """Return a row of the main table."""
    return Accuracy(
        facets=facets(row, str(row["architecture"])),
        method=named(row["method"]),
        recipe=str(recipe),
        protocol=str(row["protocol"]),
        preset=str(row["preset"]),
        mark=MARKS.get(row["selection"], ""),
        mean=float(row["accuracy_mean"]),
        std=optional(row["accuracy_std"]),
        n=int(row["n"]),
        published=optional(row["published_mean"]),
        published_std=optional(row["published_std"]),
        changes=changes,
        source=str(row["published_source"]),
        marks=marks,
        difference=optional(row["difference"]),
        records=records,
    )


def _records_behind(records: Sequence[Record]) -> dict[Any, list[int]]:
    """Return the numbers of the finished records behind each row of a summary."""
    behind: dict[Any, list[int]] = {}
    for number, record in enumerate(records):
        if record.status != "done":
            continue
        identity = longform.identity(record)
        key = (identity["digest"], *(identity[name] for name in _KEY))
        for network in dict.fromkeys(
            result.architecture for result in record.evaluations
        ):
            behind.setdefault((*key, network), []).append(number)
    return behind


def _with_best(rows: Iterable[Accuracy]) -> list[Accuracy]:
    """Return the rows; the best of several comparable ones says so."""
    rows = list(rows)
    groups: dict[Any, list[float]] = {}
    for row in rows:
        groups.setdefault(_peers(row), []).append(row.mean)
    return [
        replace(row, best=len(groups[_peers(row)]) > 1)
        if row.mean == max(groups[_peers(row)])
        else row
        for row in rows
    ]


def _peers(row: Accuracy) -> tuple[Any, ...]:
    """Return what rows have in common whose accuracies are compared."""
    return row.facets, row.protocol, row.preset, row.mark


def optional(value: Any) -> float | None:
    """Return a number, or None where a table has none."""
    if value is None or value is pd.NA or value == "":
        return None
    return None if math.isnan(value) else float(value)


@dataclass(frozen=True)
class Unfinished:
    """A cell that is not done: what it is of, and why."""

    facets: Facets
    method: str
    seed: int
    status: str
    error: str


def unfinished(records: Sequence[Record]) -> list[Unfinished]:
    """Return the cells that failed or diverged, each with its error."""
    named = named_in(records)
    return [
        Unfinished(
            facets=facets(row),
            method=named(row["method"]),
            seed=int(row["seed"]),
            status=str(row["status"]),
            error=str(row["error"]),
        )
        for row in tables.unfinished(records).to_dict("records")
    ]
