"""The files of figures, and the style that all figures share.

Lines have the colours of Okabe and Ito (2008), which colour-blind readers tell apart,
and markers and dashes of their own, so that they are told apart in print as well.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcbench_bacon.reporting.figures.points import (
    EVALUATED,
    Named,
    headline,
    with_lines,
)
from dcbench_bacon.runtime.disk import files

_NARROWEST = 4.8  # inches; a title and a legend need them beside a single panel
_LETTER, _HANDLE = 0.08, 0.7  # inches of a letter, and of a line in a legend
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
    figure.savefig(buffer, format=format, dpi=dots, metadata=_UNDATED[format])
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str, format: str) -> Path:
    """Write a figure, and return its file.

    Args:
        figure: the figure.
        folder: the folder of the file.
        name: the name of the file, made safe for every file system.
        format: ``png``, ``svg`` or ``pdf``.

    Raises:
        OutputError: the file cannot be written.
    """
    path = folder / f"{slug(name)}.{format}"
    with rc_context(STYLE):
        content = written(figure, format)
    files.write_atomically(path, content)
    return path


def save_each(
    kind: str,
    rows: Sequence[dict[str, Any]],
    named: Named,
    folder: Path,
    format: str,
    draw: Draw,
) -> list[Path]:
    """Write one figure per data set, protocol, preset and selection.

    Args:
        kind: the beginning of the names of the files.
        rows: the accuracies, with the columns of ``points.with_lines``.
        named: gives the printed name of a method or a data set.
        folder: the folder of the files.
        format: ``png``, ``svg`` or ``pdf``.
        draw: draws the rows of a figure, whose lines have these looks.

    Returns:
        The files.

    Raises:
        OutputError: a file cannot be written.
    """
    frame, paths = pd.DataFrame(rows), []
    if frame.empty:
        return []
    for key, group in frame.groupby(EVALUATED, sort=False):
        values = [str(value) for value in tuple(key)]
        group = with_lines(group, named)
        with rc_context(STYLE):
            figure, axes = draw(group, looks(list(dict.fromkeys(group["line"]))))
            axes[0].set_ylabel("Test accuracy (%)")
            legend(figure, axes)
            most = int(figure.get_figwidth() / (1.3 * _LETTER))
            title = "\n".join(wrap(headline(values, named), most))
            figure.suptitle(title, fontweight="bold")
            paths.append(save(figure, folder, "-".join([kind, *values]), format))
    return paths


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


def looks(names: Sequence[str]) -> Looks:
    """Return a colour, a marker and a dash for each name."""
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": DASHES[i % len(DASHES)],
            "markersize": 4.5,
            "linewidth": 1.6,
        }
        for i, name in enumerate(names)
    }


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Add one legend for all panels, below them."""
    entries: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    longest = max(map(len, entries), default=0)
    room = int(figure.get_figwidth() / (_HANDLE + _LETTER * longest))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=max(1, min(4, room, len(entries))),
        frameon=False,
    )
