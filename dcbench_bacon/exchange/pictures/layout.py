"""The layout of a picture of sets: rows, blocks of rows, and the size of an image.

A picture is to be printed on one page. There is a row per class, with the images of
each set side by side; where the rows are too many for the height of a page, they go on
in further blocks beside the first. As many images per class are shown as leave each
image large enough to be seen, and as many classes as then fit.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from dcbench_bacon.errors import UsageError

PAGE = (7.2, 9.4)  # width and height in inches of what A4 and Letter leave for a figure
SMALLEST, LARGEST = 0.18, 0.55  # side of an image in inches
LARGEST_PICTURE = 40.0  # side in inches of a picture that is not for print
DOTS = 300  # per inch
TITLE = 0.45  # height of title and note in inches
SET_GAP, BLOCK_GAP = 0.09, 0.2  # inches
LETTER = 0.068  # width of a letter of 8 points in inches
_MOST_BLOCKS = 8
_MOST_CLASSES = 2000
_MOST_IMAGES = 20  # per class and set, unless more are asked for


class Layout(NamedTuple):
    """The layout of a picture; all lengths are in inches.

    Attributes:
        classes: the number of classes that are shown.
        columns: the number of images per class of each set.
        blocks: the number of blocks that the rows are divided into.
        side: the height and width of an image with its gap.
        names: the width of the names of the classes.
        heading: the height of the names of the sets.
        margin: the width beside the last block, for names that go beyond it.
    """

    classes: int
    columns: tuple[int, ...]
    blocks: int
    side: float
    names: float
    heading: float
    margin: float

    @property
    def rows(self) -> int:
        """The number of rows of the first block."""
        return math.ceil(self.classes / self.blocks)

    @property
    def block(self) -> float:
        """The width of a block."""
        gaps = SET_GAP * (len(self.columns) - 1)
        return self.names + sum(self.columns) * self.side + gaps

    @property
    def size(self) -> tuple[float, float]:
        """The width and the height of the picture."""
        width = self.blocks * self.block + BLOCK_GAP * (self.blocks - 1)
        return width + self.margin, TITLE + self.heading + self.rows * self.side

    @property
    def points(self) -> float:
        """The size of the letters of the classes."""
        return min(8.0, 0.62 * 72 * self.side)


def layout(
    classes: int,
    counts: Sequence[int],
    *,
    names: float,
    heading: float,
    margin: float = 0.0,
    every: bool = False,
    images: int | None = None,
) -> Layout:
    """Return the layout with the most images per class that fits a page.

    Args:
        classes: the number of classes.
        counts: the number of images per class of each set.
        names: the width of the names of the classes in inches.
        heading: the height of the names of the sets in inches.
        margin: the width beside the last block in inches.
        every: whether all classes are shown, even if the picture becomes taller than a
            page.
        images: the most images per class and set; None for as many as fit.

    Raises:
        UsageError: there are too many classes.
    """
    if classes > _MOST_CLASSES:
        raise UsageError(
            f"{classes} classes are too many for one picture; choose at most "
            f"{_MOST_CLASSES} with dcbench plot images --show-classes, or write the "
            "images with dcbench convert --to folder"
        )

    def best(rows: int, shown: int) -> Layout:
        columns = tuple(min(count, shown) for count in counts)
        return max(
            (
                _sized(Layout(rows, columns, blocks, LARGEST, names, heading, margin))
                for blocks in range(1, min(_MOST_BLOCKS, rows) + 1)
            ),
            key=lambda candidate: candidate.side,
        )

    most = min(max(counts), _MOST_IMAGES)
    for shown in [images] if images else range(most, 0, -1):
        if (fitting := best(classes, shown)).side >= SMALLEST:
            return fitting
    shown = images or 1
    if not every:
        for rows in range(classes - 1, 0, -1):
            if (fitting := best(rows, shown)).side >= SMALLEST:
                return fitting
    return _beyond_a_page(best(classes, shown))


def _sized(one: Layout) -> Layout:
    """Return a layout with the largest images that fit a page."""
    empty = one._replace(side=0.0).size
    wide = (PAGE[0] - empty[0]) / (one.blocks * sum(one.columns))
    tall = (PAGE[1] - empty[1]) / one.rows
    return one._replace(side=max(0.0, min(LARGEST, wide, tall)))


def _beyond_a_page(page: Layout) -> Layout:
    """Return a layout with images that can be seen, on more than a page."""
    blocks = range(min(_MOST_BLOCKS, page.classes), 0, -1)
    larger = [page._replace(side=SMALLEST, blocks=count) for count in blocks]
    chosen = next(
        (candidate for candidate in larger if candidate.size[0] <= PAGE[0]), larger[-1]
    )
    empty = chosen._replace(side=0.0).size
    wide = (LARGEST_PICTURE - empty[0]) / (chosen.blocks * sum(chosen.columns))
    tall = (LARGEST_PICTURE - empty[1]) / chosen.rows
    return chosen._replace(side=max(1 / DOTS, min(SMALLEST, wide, tall)))
