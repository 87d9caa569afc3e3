"""The files of figures, and the style that all figures share.

Lines have the colours of Okabe and Ito (2008), which colour-blind readers tell apart,
and markers and dashes of their own, so that they are told apart in print as well.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcbench_bacon.reporting.figures.points import (
    EVALUATED,
    Named,
    common,
    headline,
    with_lines,
)
from dcbench_bacon.runtime.disk import files

_NARROWEST = 4.8  # inches; a title and a legend need them beside a single panel
_PAGE = 7.2  # width of a printed page in inches
_BOLD = 0.098  # width of a letter of a heading in inches
_LETTER = 0.072  # width of a letter of a legend in inches
_HANDLE = 0.6  # width of what stands before a name in a legend, in inches
_LINE = 0.18  # height of a line of a legend in inches
_MANY_LINES = 4  # of a legend, which is wider if it has more
_LONGEST_ENTRY = 60  # letters of a line of a legend
Looks = dict[str, dict[str, Any]]
Draw = Callable[[pd.DataFrame, Looks], tuple[Figure, list[Axes]]]

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#000000", "#8C564B"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
STYLE: dict[Any, Any] = {
    **{"font.size": 9, "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6},
    **{"axes.axisbelow": True, "text.parse_math": False},
    "svg.fonttype": "none",  # keeps text as text
    "svg.hashsalt": "dcbench",  # gives the same file for the same records
    "pdf.fonttype": 42,
}
_UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {},
}


def written(figure: Figure, format: str, dots: int = 200) -> bytes:
    """Return the content of the file, the same bytes for the same figure.

    Args:
        figure: the figure.
        format: ``png``, ``svg`` or ``pdf``.
        dots: the dots per inch of what is no vector.
    """
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=format, dpi=dots, metadata=_UNDATED[format])
    return buffer.getvalue()


class Drawing(NamedTuple):
    """A figure with what it is of.

    Attributes:
        kind: the kind of figure, such as ``history``.
        dataset: the name of the data set.
        preset: the preset of its records; empty for several.
        ipc: the images per class; empty for several.
        name: the name of its file, without the ending.
        figure: the figure.
    """

    kind: str
    dataset: str
    preset: str
    ipc: str
    name: str
    figure: Figure


def save(drawings: Iterable[Drawing], folder: Path, format: str) -> list[Path]:
    """Write figures, and return their files.

    Args:
        drawings: the figures, whose names are made safe for every file system.
        folder: the folder of the files.
        format: ``png``, ``svg`` or ``pdf``.

    Raises:
        OutputError: a file cannot be written.
    """
    paths = []
    for drawing in drawings:
        path = folder / f"{slug(drawing.name)}.{format}"
        files.write_atomically(path, written(drawing.figure, format))
        paths.append(path)
    return paths


def each_drawn(
    kind: str,
    rows: Sequence[dict[str, Any]],
    named: Named,
    draw: Draw,
    about: str = "",
    told: str = "",
) -> Iterator[Drawing]:
    """Yield one figure per data set, protocol, preset and selection.

    Args:
        kind: the kind of the figures.
        rows: the accuracies, with the columns of ``points.with_lines``.
        named: gives the printed name of a method or a data set.
        draw: draws the rows of a figure, whose lines have these looks.
        about: what the names of the files say after the kind.
        told: what the titles say of all rows, such as their network.
    """
    frame = pd.DataFrame(rows)
    if frame.empty:
        return
    for key, group in frame.groupby(EVALUATED, sort=False):
        values = [str(value) for value in tuple(key)]
        shared = common(group["overrides"])
        group = with_lines(group, named, shared)
        with rc_context(STYLE):
            figure, axes = draw(group, looks(group))
            axes[0].set_ylabel("Test accuracy (%)")
            for panel in axes:
                low, high = panel.get_ylim()
                panel.set_ylim(max(low, -1), min(high, 101))  # bands may leave 0 to 100
            legend(figure, axes)
            room = int(figure.get_size_inches()[0] / _BOLD)
            heading = [*wrap(headline(values, named, told), room), *wrap(shared, room)]
            figure.suptitle("\n".join(heading), fontweight="bold")
        name = "-".join([kind, *[about] * bool(about), *values])
        dataset, _, preset, _ = values
        yield Drawing(kind, dataset, preset, "", name, figure)


def slug(name: str) -> str:
    """Return a name that is safe for every file system.

    Records may come from strangers, and so may the names in them.
    """
    return files.slug(name.replace(" + ", "-"))[:150]


def panels(
    count: int, *, width: float = 3.2, height: float = 2.9
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, at most three in a row."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(max(_NARROWEST, width * columns), height * rows + 0.7),
        layout="constrained",
    )
    axes = figure.subplots(rows, columns, squeeze=False).flat
    kept: list[Axes] = list(axes)
    for empty in kept[count:]:
        empty.set_visible(False)
    return figure, kept[:count]


def looks(rows: pd.DataFrame) -> Looks:
    """Return a colour, a marker and a dash for each line.

    Where there are several networks, the colour tells the method and its settings, and
    marker and dash tell the network.

    Args:
        rows: as ``points.with_lines`` returns them.
    """
    sets = list(dict.fromkeys(zip(rows["method"], rows["overrides"], strict=True)))
    networks = list(dict.fromkeys(rows["architecture"]))
    names: Looks = {}
    for line, method, overrides, network in rows[
        ["line", "method", "overrides", "architecture"]
    ].itertuples(index=False):
        colour = sets.index((method, overrides))
        again = colour // len(COLOURS)  # how often the colour was used before
        marker = colour + again
        if len(networks) > 1:
            marker = networks.index(network) + again * len(networks)
        names[str(line)] = {
            "color": COLOURS[colour % len(COLOURS)],
            "marker": MARKERS[marker % len(MARKERS)],
            "linestyle": DASHES[marker % len(DASHES)],
            "markersize": 4.5,
            "linewidth": 1.6,
        }
    return names


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Add one legend for all panels, below them, for which the figure grows."""
    entries: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    names = {
        "\n".join(wrap(label, _LONGEST_ENTRY)): entry
        for label, entry in entries.items()
    }
    lines = [line for name in names for line in name.split("\n")]
    width, height = figure.get_size_inches()
    column = _HANDLE + _LETTER * max(map(len, lines))
    if len(lines) > _MANY_LINES:
        width = max(width, min(_PAGE, 3 * column))
    columns = int(max(1, min(4, len(names), width // column)))
    rows = -(-len(lines) // columns)
    figure.set_size_inches(max(width, column), height + _LINE * max(0, rows - 1))
    figure.legend(
        list(names.values()),
        list(names),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )
