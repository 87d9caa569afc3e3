"""Figures of downstream uses: accuracy against classes seen, and against pruning."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcbench_bacon.downstream_store import Slimmed, Stage
from dcbench_bacon.reporting.figures.curves import lines, panels_over
from dcbench_bacon.reporting.figures.figure_files import (
    Drawing,
    Looks,
    each_drawn,
    panels,
)
from dcbench_bacon.reporting.figures.points import about_ipc
from dcbench_bacon.reporting.numbers.downstream_tables import identity, told_apart
from dcbench_bacon.reporting.wording import namer

_PLAIN = {"overrides": "", "selection": "final"}  # downstream uses report the last pass


def continual(records: Iterable[Stage], presets: Sequence[str]) -> Iterator[Drawing]:
    """Draw the accuracy against the number of classes seen, a panel per IPC.

    Args:
        records: the records of ``dcbench continual``.
        presets: the presets whose records are used.

    Yields:
        One figure per data set, number of tasks, protocol and preset. Bands are the
        sample standard deviation over networks, orders of classes and sets.
    """
    kept = [record for record in told_apart(records) if record.preset in presets]
    draw = panels_over("Classes seen")
    for tasks in sorted({record.recipe.whole_number("tasks") for record in kept}):
        rows = [
            {**identity(record), **_PLAIN, "x": len(record.classes)}
            | {"architecture": result.architecture, "y": 100 * result.accuracy}
            for record in kept
            if record.recipe.settings["tasks"] == tasks
            for result in record.evaluations
        ]
        about, told = f"{tasks}-tasks", f"{tasks} tasks"
        yield from each_drawn("continual", rows, namer({}), draw, about, told)


def slim(records: Iterable[Slimmed], presets: Sequence[str]) -> Iterator[Drawing]:
    """Draw the accuracy against the share of parameters pruned, a panel per IPC.

    Networks lose different shares of their parameters at one share of their channels:
    they are one point, at the mean.

    Args:
        records: the records of ``dcbench slim``.
        presets: the presets whose records are used.

    Yields:
        One figure per network, data set, protocol and preset. Grey are the networks
        before pruning and after it, without recovery.
    """
    kept = [record for record in told_apart(records) if record.preset in presets]
    frame = pd.DataFrame(
        {**identity(record), **_PLAIN, "ratio": record.ratio}
        | {"x": 100 * (record.pruned_share or 0.0)}
        | {"architecture": record.architecture, "y": 100 * result.accuracy}
        | {"whole": 100 * (record.whole_accuracy or 0.0)}
        | {"pruned": 100 * (record.pruned_accuracy or 0.0)}
        for record in kept
        for result in record.evaluations
    )
    if frame.empty:
        return
    point = ["dataset", "protocol", "preset", "architecture", "ratio"]
    frame["x"] = frame.groupby(point)["x"].transform("mean").round(1)

    def draw(group: pd.DataFrame, look: Looks) -> tuple[Figure, list[Axes]]:
        counts = sorted(set(group["ipc"]))
        figure, axes = panels(len(counts))
        for panel, ipc in zip(axes, counts, strict=True):
            part = group[group["ipc"] == ipc]
            lines(panel, part, look)
            _references(panel, part)
            panel.set_title(about_ipc(int(ipc)))
            panel.set_xlabel("Parameters pruned (%)")
        return figure, axes

    networks = sorted(set(frame["architecture"]))
    for network in networks:
        rows = frame[frame["architecture"] == network].to_dict("records")
        about = network if len(networks) > 1 else ""
        yield from each_drawn("slim", rows, namer({}), draw, about, network)


def _references(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the networks before pruning, and after it without recovery."""
    grey: dict[str, Any] = {"color": "#777777", "linewidth": 1.2}
    axes.axhline(rows["whole"].mean(), label="unpruned", linestyle="-", **grey)
    before = rows.groupby("x")["pruned"].mean()
    axes.plot(before.index, before, label="no recovery", linestyle=":", **grey)
