"""The figure of accuracies against images and against seconds."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dcbench_bacon.plugins import facts_of
from dcbench_bacon.reporting.figures.figure_files import (
    Drawing,
    Looks,
    each_drawn,
    panels,
)
from dcbench_bacon.reporting.figures.points import (
    done,
    facts_about,
    named_in,
    overridden,
)
from dcbench_bacon.schema import Record


def pareto(records: Iterable[Record], presets: Sequence[str]) -> Iterator[Drawing]:
    """Draw the accuracy against the images of a set and the seconds to make it.

    Args:
        records: the records.
        presets: the presets whose records are used.

    Yields:
        One figure per network, data set, protocol, preset and selection. The grey
        steps are the best accuracy up to each cost.
    """
    kept = [record for record in done(records, presets) if record.cell.ipc]
    rows = []
    for record in kept:
        facts = facts_of(record.cell.dataset)
        spent = sum(cost.seconds for cost in record.distillation.values())
        shared = {
            **facts_about(record),
            "overrides": overridden(record),
            "seconds": spent,
        }
        shared["images"] = record.cell.ipc * facts.classes if facts else record.images
        rows += [
            {**shared, "architecture": result.architecture, "y": 100 * result.accuracy}
            for result in record.evaluations
        ]
    networks = sorted({str(row["architecture"]) for row in rows})
    for network in networks:
        of_network = [row for row in rows if row["architecture"] == network]
        about = network if len(networks) > 1 else ""
        yield from each_drawn(
            "pareto", of_network, named_in(kept), _draw, about, network
        )


def _draw(group: pd.DataFrame, look: Looks) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel per cost in which sets differ."""
    costs = {"images": "Images in the set", "seconds": "Seconds to distil"}
    if group["images"].nunique() == 1 and (group["seconds"] > 0).any():
        del costs["images"]
    figure, axes = panels(len(costs), width=3.6)
    for panel, (cost, label) in zip(axes, costs.items(), strict=True):
        _costs(panel, group, cost, look)
        panel.set_xlabel(label)
    return figure, axes


def _costs(axes: Axes, rows: pd.DataFrame, cost: str, look: Looks) -> None:
    """Draw the accuracy of each method over a cost, and the best up to each cost."""
    rows = rows[rows[cost].notna() & (rows[cost].astype(float) > 0)]
    means = rows.groupby(["line", "ipc"], sort=False).agg(
        x=(cost, "mean"), y=("y", "mean"), std=("y", "std")
    )
    front = means.sort_values("x")
    if len(front):
        best = front["y"].cummax()
        axes.step(
            front["x"], best, where="post", color="#bbbbbb", linewidth=4, zorder=0
        )
        axes.set_xscale("log")
        axes.set_xlim(front["x"].min() / 1.6, front["x"].max() * 1.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    for name, part in means.groupby("line", sort=False):
        part = part.sort_values("x")
        axes.errorbar(
            part["x"],
            part["y"],
            part["std"].fillna(0),
            label=str(name),
            capsize=2,
            **look[str(name)],
        )
