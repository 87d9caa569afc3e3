"""Figures of accuracies against steps, and against a setting that was swept."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcbench_bacon.reporting.figures.figure_files import (
    Draw,
    Drawing,
    Looks,
    each_drawn,
    panels,
)
from dcbench_bacon.reporting.figures.points import (
    WATCHING,
    about_ipc,
    done,
    facts_about,
    named_in,
    overridden,
)
from dcbench_bacon.schema import Record

_MOST_TICKS = 8  # of equal distances, for which a panel has room


def history(records: Iterable[Record], presets: Sequence[str]) -> Iterator[Drawing]:
    """Draw the accuracy against the steps of the distillation, a panel per IPC.

    Args:
        records: only those with evaluations on the way are used.
        presets: the presets whose records are used.

    Yields:
        One figure per data set, protocol, preset and selection. Bands are the sample
        standard deviation over networks and seeds.
    """
    kept = [record for record in done(records, presets) if record.history]
    rows = []
    for record in kept:
        last = record.recipe.settings.get("steps")
        entries: list[tuple[object, str, float]] = [
            (result.step, result.architecture, result.accuracy)
            for result in record.history
        ]
        entries += [
            (last, result.architecture, result.accuracy)
            for result in record.evaluations
        ]
        rows += [
            {**facts_about(record), "overrides": overridden(record), "x": step}
            | {"architecture": architecture, "y": 100 * accuracy}
            for step, architecture, accuracy in entries
            if step is not None
        ]
    return each_drawn("history", rows, named_in(kept), panels_over("Step"))


def ablation(
    records: Iterable[Record], presets: Sequence[str], key: str | None = None
) -> Iterator[Drawing]:
    """Draw the accuracy against a setting that records differ in, a panel per IPC.

    Args:
        records: the records.
        presets: the presets whose records are used.
        key: a key of a recipe, or ``protocol.KEY``; None for each that was overridden
            in some record, but for how often networks are tested on the way.

    Yields:
        One figure per key, data set, protocol, preset and selection. A line joins
        records that differ in this key alone, the record of its default included.
    """
    kept = done(records, presets)
    overrides = {name for record in kept for name in record.recipe.overrides}
    keys = [key] if key else sorted(overrides - {WATCHING})
    for name in keys:
        rows = [row for record in kept for row in _swept(record, name)]
        rows = _with_several_values(rows)
        yield from each_drawn("ablation", rows, named_in(kept), panels_over(name), name)


def _swept(record: Record, key: str) -> list[dict[str, Any]]:
    """Return the accuracies of a record at its value of a setting."""
    group, _, field = key.rpartition(".")
    settings = dict(record.recipe.settings)
    protocol = msgspec.to_builtins(record.recipe.protocol)
    values = protocol if group == "protocol" else settings
    if field not in values:
        return []
    value = values.pop(field)
    same = json.dumps([settings, protocol], sort_keys=True, default=str)
    return [
        {**facts_about(record), "overrides": overridden(record, key), "x": value}
        | {
            "architecture": result.architecture,
            "y": 100 * result.accuracy,
            "same": same,
        }
        for result in record.evaluations
    ]


def _with_several_values(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows whose recipes differ from another's in the swept key alone."""
    values: dict[Any, set[str]] = {}

    def line(row: dict[str, Any]) -> Any:
        names = ("dataset", "ipc", "method", "same", "architecture")
        return tuple(row[name] for name in names)

    for row in rows:
        values.setdefault(line(row), set()).add(repr(row["x"]))
    return [row for row in rows if len(values[line(row)]) > 1]


def panels_over(axis: str) -> Draw:
    """Return the function that draws a panel per IPC over an axis of this name."""

    def draw(group: pd.DataFrame, look: Looks) -> tuple[Figure, list[Axes]]:
        counts = sorted(set(group["ipc"]), key=lambda ipc: (ipc == 0, ipc))
        figure, axes = panels(len(counts))
        for panel, ipc in zip(axes, counts, strict=True):
            lines(panel, group[group["ipc"] == ipc], look)
            panel.set_title(about_ipc(int(ipc)))
            panel.set_xlabel(axis)
        return figure, axes

    return draw


def lines(axes: Axes, rows: pd.DataFrame, look: Looks) -> None:
    """Draw the mean of each line over x, with a band of one deviation."""
    numeric = all(
        isinstance(x, int | float) and not isinstance(x, bool) for x in rows["x"]
    )
    ticks = sorted({str(x) for x in rows["x"]})
    rows = rows.assign(
        place=rows["x"].astype(float)
        if numeric
        else [float(ticks.index(str(x))) for x in rows["x"]]
    )
    for name, part in rows.groupby("line", sort=False):
        summary = part.groupby("place")["y"].agg(["mean", "std"])
        style = look[str(name)]
        axes.plot(summary.index, summary["mean"], label=str(name), **style)
        low, high = summary["mean"] - summary["std"], summary["mean"] + summary["std"]
        axes.fill_between(
            summary.index, low, high, color=style["color"], alpha=0.18, linewidth=0
        )
    if not numeric:
        axes.set_xticks(range(len(ticks)), ticks)
    elif _apart(places := sorted(set(rows["place"]))):
        axes.set_xticks(places, [f"{place:g}" for place in places])


def _apart(places: Sequence[float]) -> bool:
    """Return whether values have room for a tick each."""
    gaps = [after - before for before, after in pairwise(places)]
    return bool(gaps) and min(gaps) >= (places[-1] - places[0]) / _MOST_TICKS
