"""The figures of the page: dot plots in HTML, and heat maps as inline SVG."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from markupsafe import Markup

from dcbench_bacon.reporting.figures import bars, curves, plots
from dcbench_bacon.reporting.figures.figure_files import Drawing, written
from dcbench_bacon.reporting.figures.pareto_figure import pareto
from dcbench_bacon.reporting.figures.points import named_in
from dcbench_bacon.reporting.html.rows import PRESETS, Accuracy, Facets
from dcbench_bacon.reporting.numbers import comparison, longform
from dcbench_bacon.schema import Record

MOST_DOTS = 20  # rows of a panel; the table has the rest
MOST_BARS = 40  # of a figure of step times; the table has longer ones
MOST_FIGURES = 24  # of a kind
_STEPS = (1, 2, 5, 10, 20, 25)  # distances of the lines of a scale


@dataclass(frozen=True)
class Dot:
    """One row of a panel, with places in percent of the panel's width."""

    row: Accuracy
    place: float
    low: float
    high: float
    published: float | None


@dataclass(frozen=True)
class Panel:
    """The accuracies on one data set with one number of images.

    Attributes:
        facets: what the panel can be filtered by.
        dots: the rows, the best first.
        ticks: the accuracies on the scale in percent, with their places.
        more: the number of rows that are in the table alone.
        changes: the overridden values, where they are those of all rows.
    """

    facets: Facets
    dots: tuple[Dot, ...]
    ticks: tuple[tuple[int, float], ...]
    more: int
    changes: str


def panels(rows: Sequence[Accuracy]) -> list[Panel]:
    """Return a panel per data set, images per class and preset.

    Where several networks were trained, the panel is of the one with the most rows;
    heat maps show all of them. Rows with overridden values are in the table alone,
    unless there are no others.
    """
    groups: dict[tuple[str, str, str], list[Accuracy]] = {}
    for row in rows:
        facets = row.facets
        if facets.ipc != "all":
            groups.setdefault((facets.dataset, facets.ipc, facets.preset), []).append(
                row
            )
    return [_panel(group) for group in groups.values()]


def _panel(rows: Sequence[Accuracy]) -> Panel:
    """Return the panel of the network with the most rows."""
    network = Counter(row.facets.network for row in rows).most_common(1)[0][0]
    best_first = [row for row in rows if row.facets.network == network]
    best_first = [row for row in best_first if not row.changes] or best_first
    best_first.sort(key=lambda row: -row.mean)
    shown = best_first[:MOST_DOTS]
    low, high, step = _scale(shown)

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    dots = [
        Dot(
            row=row,
            place=place(row.mean),
            low=place(row.mean - (row.std or 0)),
            high=place(row.mean + (row.std or 0)),
            published=None if row.published is None else place(row.published),
        )
        for row in shown
    ]
    ticks = [(value, place(float(value))) for value in range(low, high + 1, step)]
    more = len(rows) - len(shown)
    changes = {row.changes for row in shown}
    common = changes.pop() if len(changes) == 1 else ""
    return Panel(shown[0].facets, tuple(dots), tuple(ticks), more, common)


def _scale(rows: Iterable[Accuracy]) -> tuple[int, int, int]:
    """Return the ends of a scale in percent that holds all rows, and its step."""
    ends = [row.mean + side * (row.std or 0) for row in rows for side in (-1, 1)]
    ends += [row.published for row in rows if row.published is not None]
    low, high = max(0.0, min(ends)), min(100.0, max(ends))
    step = next((s for s in _STEPS if (high - low) / s <= 4), _STEPS[-1])
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    return first, max(last, first + step), step


_TITLES = {
    "transfer": "Accuracy of every set on every network",
    "history": "Accuracy on the way",
    "ablation": "A setting that was swept",
    "pareto": "Accuracy against cost",
    "timing": "Seconds per step, by phase",
}


@dataclass(frozen=True)
class Inline:
    """A figure as SVG, with what it can be filtered by.

    Attributes:
        facets: what it can be filtered by; empty for several.
        svg: the figure.
        label: a sentence that says what it is of.
    """

    facets: Facets
    svg: Markup
    label: str


def heat_maps(records: Sequence[Record]) -> list[Inline]:
    """Return heat maps of sets on networks, where there are several networks.

    Args:
        records: as ``longform.told_apart`` returns them.
    """
    frame = longform.frame(records)
    table = comparison.transfer(frame, presets=PRESETS)
    several = table.groupby(plots.FIGURE)["architecture"].transform("nunique") > 1
    drawn = plots.transfer(table[several.to_numpy(dtype=bool)], named_in(records))
    return _inlined(drawn, "heat", records)


def curves_of(records: Sequence[Record]) -> list[Inline]:
    """Return the figures of accuracies on the way, swept settings and cost.

    Args:
        records: as ``longform.told_apart`` returns them.
    """
    drawn = chain(
        curves.history(records, PRESETS),
        curves.ablation(records, PRESETS),
        pareto(records, PRESETS),
    )
    return _inlined(drawn, "curve", records)


def step_times(records: Sequence[Record]) -> list[Inline]:
    """Return the figures of the time per step; long ones are left to the table.

    Args:
        records: with those of ``dcbench time``.
    """
    return _inlined(bars.timing(records, PRESETS, MOST_BARS), "time", records)


def _inlined(
    drawings: Iterable[Drawing], prefix: str, records: Sequence[Record]
) -> list[Inline]:
    """Return figures of records as parts of a page, the first ``MOST_FIGURES``."""
    named, figures = named_in(records), []
    for number, drawing in enumerate(islice(drawings, MOST_FIGURES)):
        facets = Facets(drawing.dataset, drawing.ipc, "", drawing.preset)
        images = f", {drawing.ipc} images per class" if drawing.ipc else ""
        title = f"{_TITLES[drawing.kind]}: {named(drawing.dataset)}"
        label = f"{title}{images}, preset {drawing.preset}"
        svg = _inline(written(drawing.figure, "svg"), f"{prefix}{number}")
        figures.append(Inline(facets, svg, label))
    return figures


def _inline(content: bytes, name: str) -> Markup:
    """Return an SVG file as part of a page: no prologue, and names of its own.

    The text in it was escaped when the figure was drawn.
    """
    text = content.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns:xlink="[^"]*"| xmlns="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    for before in (' id="', 'href="#', "url(#"):
        text = text.replace(before, f"{before}{name}-")
    size = '<svg aria-hidden="true" focusable="false" '
    return Markup(text.replace("<svg ", size, 1))
