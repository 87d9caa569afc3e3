"""Records as the points of figures."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import pandas as pd

from dcbench_bacon.recipes.toml_tables import PROTOCOL_PREFIX
from dcbench_bacon.reporting.numbers import longform
from dcbench_bacon.reporting.wording import namer
from dcbench_bacon.schema import Record

WATCHING = "protocol.evaluate_every"  # costs time, but decides neither set nor number
_LONGEST = 32  # letters of a name; longer ones are cut
EVALUATED = ["dataset", "protocol", "preset", "selection"]  # a figure for each
Named = Callable[[str], str]


def done(records: Iterable[Record], presets: Sequence[str]) -> list[Record]:
    """Return the finished records of the presets."""
    return [
        record
        for record in longform.told_apart(records)
        if record.status == "done" and record.recipe.preset in presets
    ]


def named_in(records: Sequence[Record]) -> Named:
    """Return the function that gives a printed name, first as records state it."""
    return cache(namer(longform.titles(records)))


def facts_about(record: Record) -> dict[str, Any]:
    """Return what decides which figure and which line a record belongs to."""
    facts = longform.identity(record)
    facts["preset"] = record.recipe.preset
    return facts


def overridden(record: Record, *without: str) -> str:
    """Return the overrides of a record as text, without the prefix of a protocol."""
    return ", ".join(
        f"{key.removeprefix(PROTOCOL_PREFIX)}={value}"
        for key, value in record.recipe.overrides.items()
        if key not in without
    )


def cut(name: str) -> str:
    """Return a name that leaves room for the figure; records may have any names."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."


def of_evaluation(record: Record) -> list[str]:
    """Return the overridden keys that have nothing to do with the set."""
    keys = record.recipe.overrides
    return [key for key in keys if key.startswith(PROTOCOL_PREFIX)]


def in_order(records: Iterable[Record]) -> list[Record]:
    """Return records in the order of all tables, those of a sweep by its values."""
    every = list(records)
    columns = ["dataset", "ipc", "preset", "method", "changes", "seed"]
    rows = [
        (
            *(record.cell.dataset, record.cell.ipc, record.recipe.preset),
            *(record.cell.method, overridden(record), record.cell.seed, number),
        )
        for number, record in enumerate(every)
    ]
    frame = pd.DataFrame(rows, columns=[*columns, "number"])
    return [every[number] for number in longform.ordered(frame, columns)["number"]]


def common(overrides: "pd.Series[str]") -> str:
    """Return the overrides that all records share; empty if they differ in one."""
    return str(overrides.iloc[0]) if overrides.nunique() == 1 else ""


def with_lines(rows: pd.DataFrame, named: Named, shared: str = "") -> pd.DataFrame:
    """Return the rows in the order of all tables, with the name of each one's line.

    Args:
        rows: the accuracies.
        named: gives the printed name of a method.
        shared: the overrides of all rows, which no line repeats.
    """
    rows = longform.ordered(rows, ["method", "overrides", "architecture"])
    pairs = zip(rows["method"], rows["overrides"], strict=True)
    lines = pd.Series(
        [f"{named(m)}, {o}" if o and o != shared else named(m) for m, o in pairs]
    )
    if rows["architecture"].nunique() > 1:
        lines += " on " + rows["architecture"]
    return rows.assign(line=lines)


def about_ipc(ipc: int) -> str:
    """Return the title of a panel."""
    return f"{ipc} image{'s' * (ipc != 1)} per class" if ipc else "All images"


def headline(values: Sequence[str], named: Named, told: str = "") -> str:
    """Return the title of a figure: data set, and how its sets were evaluated."""
    dataset, protocol, preset, selection = values
    more = [told] * bool(told)
    more += [f"protocol {protocol.replace('_', '-')}"]
    more += [f"preset {preset}"] * (preset != "paper")
    more += [f"selection {selection}"] * (selection != "final")
    return f"{named(dataset)} ({', '.join(more)})"
