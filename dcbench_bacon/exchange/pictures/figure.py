"""Pictures of sets side by side, with class names, for a paper or a slide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.exchange.pictures import layout as layouts
from dcbench_bacon.exchange.pictures.layout import (
    BLOCK_GAP,
    DOTS,
    LETTER,
    SET_GAP,
    TITLE,
    Layout,
)
from dcbench_bacon.exchange.pictures.mosaic import gap, mosaic, most_per_class
from dcbench_bacon.reporting.figures.figure_files import STYLE, written
from dcbench_bacon.reporting.wording import title
from dcbench_bacon.schema import DatasetInfo

FORMATS = ("png", "svg", "pdf")
_LONGEST = {False: 24, True: 16}  # letters of a class, of few and of many classes
_MANY = 20  # classes
_LONGEST_SET = 30  # letters of the name of a set
_SLANT = math.radians(40)  # of names that are wider than their images
_EDGE = 0.05  # inches of white around everything
_NEAR_NAME = 0.06  # inches between a name and its images
_TEXT: dict[str, Any] = {"color": "#222222", "parse_math": False}


@dataclass(frozen=True)
class Shown:
    """A set that is shown.

    Attributes:
        name: the name above its images.
        synthetic: the set, decoded or not; whitened images are stretched to their own
            range.
        info: the facts of its data set.
    """

    name: str
    synthetic: SyntheticSet
    info: DatasetInfo

    @property
    def count(self) -> int:
        """The images per class; the most of all classes if these differ."""
        return most_per_class(self.synthetic)

    @property
    def amount(self) -> str:
        """The images per class in words."""
        even = self.count * self.info.classes == len(self.synthetic.labels)
        return f"{self.count}" if even else f"up to {self.count}"


@dataclass(frozen=True)
class Choice:
    """The classes and images of sets that are shown.

    Attributes:
        classes: the classes in the order of the rows; None for all that fit a page.
        images: the most images per class and set; None for as many as fit.
    """

    classes: tuple[int, ...] | None = None
    images: int | None = None


def name_above(synthetic: SyntheticSet, file: str) -> str:
    """Return the name of a set as its file has it: its own name, or its method.

    Args:
        synthetic: the set.
        file: the name of the file, for a set without either.
    """
    provenance = synthetic.provenance
    cell = provenance.get("cell")
    method = str(cell.get("method") or "") if isinstance(cell, dict) else ""
    return str(provenance.get("name") or "") or title(method) or file


def draw(shown: Sequence[Shown], choice: Choice, format: str = "png") -> bytes:
    """Draw sets of one data set side by side, with a row per class.

    Args:
        shown: the sets; the names of the classes are those of the first.
        choice: what is shown of them.
        format: ``png``, ``svg`` or ``pdf``.

    Returns:
        The content of the file; the same sets make the same bytes.

    Raises:
        UsageError: there are too many images, or too large ones, for one picture.
    """
    info = shown[0].info
    classes = choice.classes or tuple(range(info.classes))
    longest = _LONGEST[len(classes) > _MANY]
    names = [_cut(info.class_names[label], longest) for label in classes]
    headings = _headings(shown)

    def placed(**more: float) -> Layout:
        return layouts.layout(
            len(classes),
            [drawn.count for drawn in shown],
            **{"names": LETTER * max(map(len, names)) + _NEAR_NAME, **more},
            every=choice.classes is not None,
            images=choice.images,
        )

    place = placed(heading=_height(headings))
    if turned := _too_narrow(place, headings):
        place = placed(**_slanted(headings))
    note = _note(shown, place, len(classes))
    width, height = place.size
    width = max(width, LETTER * len(note), 1.4 * LETTER * len(info.title))
    with rc_context(STYLE):
        figure = Figure((width + 2 * _EDGE, height + 2 * _EDGE))
        axes = _canvas(figure, width, height)
        for block in range(place.blocks):
            end = min((block + 1) * place.rows, place.classes)
            part = slice(block * place.rows, end)
            left = block * (place.block + BLOCK_GAP)
            _block(axes, place, left, shown, classes[part], names[part], format)
            _head(axes, place, left, headings, _last_gap(info, place), turned=turned)
        _title(axes, info, note)
        return written(figure, format, DOTS)


def _canvas(figure: Figure, width: float, height: float) -> Axes:
    """Return axes over the whole figure, in inches from the corner of its content."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-_EDGE, width + _EDGE)
    axes.set_ylim(height + _EDGE, -_EDGE)
    axes.set_autoscale_on(False)
    return axes


def _block(
    axes: Axes,
    place: Layout,
    left: float,
    shown: Sequence[Shown],
    classes: Sequence[int],
    names: Sequence[str],
    format: str,
) -> None:
    """Draw the rows of a block: names, and the images of each set."""
    top = TITLE + place.heading
    for row, name in enumerate(names):
        middle = top + (row + 0.5) * place.side
        right = left + place.names - _NEAR_NAME
        style = {"ha": "right", "va": "center_baseline", **_TEXT}
        axes.text(right, middle, name, fontsize=place.points, **style)
    x = left + place.names
    for drawn, columns in zip(shown, place.columns, strict=True):
        pixels = mosaic(drawn.synthetic, drawn.info, classes, columns)
        edge = _last_gap(drawn.info, place)
        width, height = columns * place.side, len(classes) * place.side
        axes.imshow(
            pixels,
            extent=(x, x + width - edge, top + height - edge, top),
            # Files of vectors keep the pixels of the set; others are resampled.
            interpolation="antialiased" if format == "png" else "none",
            aspect="auto",
        )
        x += width + SET_GAP


def _headings(shown: Sequence[Shown]) -> list[str]:
    """Return the name above each set, with what is special about it."""
    counts = {drawn.count for drawn in shown}
    headings = []
    for drawn in shown:
        partition = drawn.synthetic.partition
        notes = [f"{drawn.amount} per class"] * (len(counts) > 1)
        notes += ["ZCA-whitened"] * bool(drawn.synthetic.provenance.get("zca"))
        notes += [f"{partition}x{partition} in each"] * (partition > 1)
        name = _cut(drawn.name, _LONGEST_SET)
        headings.append("\n".join([name, ", ".join(notes)]) if notes else name)
    return headings


def _too_narrow(place: Layout, headings: Sequence[str]) -> bool:
    """Return whether a heading is wider than its images."""
    return any(
        _length(heading) > columns * place.side
        for heading, columns in zip(headings, place.columns, strict=True)
    )


def _length(heading: str) -> float:
    """Return the length of a heading in inches."""
    return LETTER * max(map(len, heading.split("\n")))


def _height(headings: Sequence[str]) -> float:
    """Return the height of the headings in inches."""
    return 0.08 + 0.13 * max(heading.count("\n") + 1 for heading in headings)


def _slanted(headings: Sequence[str]) -> dict[str, float]:
    """Return the height of slanted headings, and how far they go to the right."""
    up, along = math.sin(_SLANT), math.cos(_SLANT)
    rise = up * max(map(_length, headings)) + along * _height(headings)
    return {"heading": rise, "margin": along * _length(headings[-1])}


def _last_gap(info: DatasetInfo, place: Layout) -> float:
    """Return the width of the gap after the last image, which has no pixels."""
    between = gap(info.size)
    return place.side * between / (info.size + between)


def _head(
    axes: Axes,
    place: Layout,
    left: float,
    headings: Sequence[str],
    edge: float,
    *,
    turned: bool,
) -> None:
    """Write the names of the sets above their images."""
    x, bottom = left + place.names, TITLE + place.heading - 0.05
    for heading, columns in zip(headings, place.columns, strict=True):
        width = columns * place.side
        style: dict[str, Any] = {"fontsize": 8, "va": "bottom", "linespacing": 1.1}
        if turned:
            style |= {
                "rotation": math.degrees(_SLANT),
                "rotation_mode": "anchor",
                "ha": "left",
            }
            axes.text(x + 0.35 * place.side, bottom, heading, **style, **_TEXT)
        else:
            axes.text(
                x + (width - edge) / 2, bottom, heading, ha="center", **style, **_TEXT
            )
        x += width + SET_GAP


def _title(axes: Axes, info: DatasetInfo, note: str) -> None:
    """Write the name of the data set, and below it what is shown."""
    name = _cut(info.title, 2 * _LONGEST_SET)
    axes.text(0, 0.02, name, va="top", fontsize=10, fontweight="bold", **_TEXT)
    axes.text(0, 0.23, note, va="top", fontsize=8, **_TEXT)


def _note(shown: Sequence[Shown], place: Layout, classes: int) -> str:
    """Return a line about what is shown and what is left out."""
    counts = {drawn.count for drawn in shown}
    most = max(counts)
    notes = []
    if len(counts) == 1:
        notes += [f"{shown[0].amount} image{'s' * (most != 1)} per class"]
    if max(place.columns) < most:
        notes += [f"first {max(place.columns)} shown"]
    if place.classes < classes:
        notes += [f"first {place.classes} of {classes} classes"]
    elif classes < shown[0].info.classes:
        notes += [f"{classes} of {shown[0].info.classes} classes"]
    return ", ".join(notes)


def _cut(name: str, longest: int) -> str:
    """Return a name of at most so many letters; files may have any names."""
    name = " ".join(name.split())
    if len(name) <= longest:
        return name
    end = longest // 3  # where sets of one file, or of one recipe, differ
    return f"{name[: longest - 1 - end]}…{name[-end:]}"
