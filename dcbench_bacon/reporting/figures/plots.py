"""Figures from the tables of records; nothing is measured again.

The colours are those of cividis (Nunez, Anderton and Renslow, PLOS ONE 2018), which
look the same to colour-blind readers and keep their order in shades of grey.
"""

from collections.abc import Iterator
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dcbench_bacon.reporting.figures.figure_files import STYLE, Drawing
from dcbench_bacon.reporting.figures.points import Named, cut
from dcbench_bacon.reporting.wording import title

_MAP = colormaps["cividis"]
_CELL = (0.95, 0.52)  # width and height of a cell in inches
FIGURE = ["dataset", "ipc", "preset", "selection"]  # what a heat map is of
_LETTER = 0.08  # width of a letter in inches
_SELECTED = {
    "final": "after the last pass",
    "best_val": "pass chosen on a validation split",
    "best_test": "pass chosen on the test set: optimistic",
}


def transfer(table: pd.DataFrame, named: Named = title) -> Iterator[Drawing]:
    """Draw heat maps of the accuracies of sets on networks.

    Args:
        table: made by ``comparison.transfer``.
        named: gives the printed name of a method or a data set.

    Yields:
        One figure per data set, images per class, preset and selection. The whole
        training set is a row in each figure of its data set.
    """
    for _, group in _with_whole(table).groupby(FIGURE, sort=False):
        dataset, ipc, preset, selection = map(str, group[FIGURE].iloc[0])
        name = f"transfer-{dataset}-ipc{ipc}-{preset}-{selection}"
        with rc_context(STYLE | {"axes.grid": False}):
            figure = heat_map(group, named)
        yield Drawing("transfer", dataset, preset, ipc, name, figure)


def _with_whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the whole training set repeated for every IPC.

    Where nothing else was measured on a data set, its rows stay as they are.
    """
    same = ["dataset", "preset", "selection"]
    whole, sets = table[table["ipc"] == 0], table[table["ipc"] > 0]
    wanted = sets[[*same, "ipc"]].drop_duplicates()
    index = whole.index.name
    rows = whole.reset_index().drop(columns="ipc").merge(wanted, on=same, how="left")
    rows["ipc"] = rows["ipc"].fillna(0).astype(int)
    return pd.concat([sets, rows.set_index(index)[list(table.columns)]])


def heat_map(table: pd.DataFrame, named: Named = title) -> Figure:
    """Return a heat map: one row per set, one column per network.

    Each cell has the mean accuracy as a colour and as a number. A frame marks the
    network that a set was distilled on; hatching marks what was not measured.

    Args:
        table: made by ``comparison.transfer``, of one data set, number of images per
            class, preset and selection.
        named: gives the printed name of a method or a data set.
    """
    columns = list(dict.fromkeys(table["architecture"]))
    table = table.assign(
        place=table.groupby(["method", "distilled_on"], sort=False).ngroup()
    ).sort_values(["place", "overrides"], kind="stable")
    labels = _labels(table, named)
    rows = list(dict.fromkeys(labels))
    means = np.full((len(rows), len(columns)), np.nan)
    widest = max(len(line) for label in rows for line in label.split("\n"))
    margin = 1.6 + _LETTER * widest  # width of the colour bar and of the labels
    size = (margin + _CELL[0] * len(columns), 2.0 + _CELL[1] * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    scale = _scale(table["accuracy_mean"])
    for label, row in zip(labels, table.to_dict("records"), strict=True):
        y, x = rows.index(label), columns.index(row["architecture"])
        means[y, x] = row["accuracy_mean"]
        _write(axes, x, y, row, _ink(scale, row["accuracy_mean"]))
        if row["architecture"] == row["distilled_on"]:
            _frame(axes, x, y)
    _hatch(axes, means)
    image = axes.imshow(means, cmap=_MAP, norm=scale, aspect="auto")
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("Test accuracy (%)")
    bar.outline.set_visible(False)
    _finish(axes, rows, columns, _headline(table.iloc[0], named), _details(table))
    return figure


def _labels(table: pd.DataFrame, named: Named) -> list[str]:
    """Return each row's label: method, network, and what else tells sets apart.

    That is what --set changed, and the recipe where that is the same as well.
    """
    names = [
        cut(named(method)) + (f"\n({cut(network)})" if network else "")
        for method, network in zip(table["method"], table["distilled_on"], strict=True)
    ]
    for details in (table["overrides"], table.index):
        several: dict[str, set[str]] = {}
        for name, recipe in zip(names, table.index, strict=True):
            several.setdefault(name, set()).add(recipe)
        names = [
            f"{name}\n{cut(detail)}" if len(several[name]) > 1 and detail else name
            for name, detail in zip(names, details, strict=True)
        ]
    return names


def _scale(means: "pd.Series[float]") -> Normalize:
    """Return a scale from the worst to the best mean, at least one point apart."""
    low, high = float(means.min()), float(means.max())
    return Normalize(low, max(high, low + 1))


def _ink(scale: Normalize, value: float) -> str:
    """Return white or black, whichever is easier to read on the colour of a value."""
    red, green, blue, _ = _MAP(scale(value))
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "white"


def _write(axes: Axes, x: int, y: int, row: dict[Any, Any], ink: str) -> None:
    """Write the mean into a cell, and the deviation below it."""
    mean, std = row["accuracy_mean"], row["accuracy_std"]
    deviates = std == std
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    axes.text(x, y - 0.12 * deviates, f"{mean:.1f}", **style, fontsize=10)
    if deviates:
        axes.text(x, y + 0.26, f"± {std:.1f}", **style, fontsize=7)


def _frame(axes: Axes, x: int, y: int) -> None:
    """Draw a frame around a cell."""
    box = Rectangle((x - 0.46, y - 0.45), 0.92, 0.9, fill=False)
    box.set(edgecolor="white", linewidth=1.6)
    axes.add_patch(box)


def _hatch(axes: Axes, means: np.ndarray) -> None:
    """Hatch the cells that were not measured."""
    for y, x in zip(*np.nonzero(np.isnan(means)), strict=True):
        box = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="#f0f0f0")
        box.set(edgecolor="#c0c0c0", hatch="///", linewidth=0)
        axes.add_patch(box)


def _finish(
    axes: Axes, rows: list[str], columns: list[str], headline: str, details: str
) -> None:
    """Add labels, the title and lines between the cells."""
    turned = max(map(len, columns)) > 9
    axes.set_xticks(range(len(columns)), map(cut, columns))
    if turned:
        axes.tick_params(axis="x", rotation=35)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("Trained on the set and tested")
    axes.set_ylabel("Set (distilled on)")
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    lines = wrap(details, 30 + 14 * len(columns))
    axes.set_title(headline, fontweight="bold", pad=10 + 12 * len(lines))
    axes.annotate(
        "\n".join(lines),
        (0.5, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )


def _headline(row: "pd.Series[Any]", named: Named) -> str:
    """Return the first line of the title: data set and images per class."""
    ipc, name = int(row["ipc"]), cut(named(row["dataset"]))
    if ipc == 0:
        return f"{name}, all images"
    return f"{name}, {ipc} image{'s' * (ipc > 1)} per class"


def _details(table: pd.DataFrame) -> str:
    """Return the second line of the title: selection, networks and preset."""
    first = table.iloc[0]
    counts = sorted({int(table["n"].min()), int(table["n"].max())})
    networks = " to ".join(map(str, counts))
    selected = _SELECTED[first["selection"]]
    told = f"{selected}; n = {networks} networks; preset {first['preset']}"
    framed = bool((table["architecture"] == table["distilled_on"]).any())
    return told + "; framed: the network of the distillation" * framed
