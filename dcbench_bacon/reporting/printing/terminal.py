"""Tables on a terminal, as wide as it is and never wider."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text as RichText

from dcbench_bacon.reporting.printing.pages import page_of
from dcbench_bacon.reporting.table import LayoutKind, Marked, Page, Table, Text

_SHORT = {"Difference": "Diff."}  # headings on a terminal
_STYLES = {"": "", "best": "bold", "second": "underline"}
_NARROWEST = 6  # letters of a column of words that is broken anywhere

# How a cell may be broken, from not at all to before every bracket and at every space.
_Split = Callable[[str], list[str]]
_SPLITS: tuple[_Split, ...] = (
    lambda text: [text],
    lambda text: re.split(r" (?=[(\[])", text),
    lambda text: re.split(r" (?!\()|(?<=\w-)(?=\w)| ", text),
)


def to_rich(table: Table, width: int) -> RenderableType:
    """Return a table for a terminal.

    Args:
        table: the table.
        width: width of the terminal in columns. In a table that is wider, numbers break
            before their brackets, then at every space; the columns of a layout that
            still has no room continue below in a table of their own.
    """
    page = page_of(table)
    if table.kind in get_args(LayoutKind):
        return _in_strips(page, width)
    split = _SPLITS[0] if _needs(page, _SPLITS[0]) <= width else _SPLITS[1]
    return Group(_drawn(page, split), _below(page))


def _in_strips(page: Page, width: int) -> RenderableType:
    """Return the tables of a layout, with as many of its columns as fit into each."""
    split = next((s for s in _SPLITS if _needs(page, s) <= width), _SPLITS[-1])
    fixed = [i for i, right in enumerate(page.right) if not right]
    free = [i for i, right in enumerate(page.right) if right]

    def fits(part: Page, *, whole: bool = False) -> bool:
        return _needs(part, split, whole=whole) <= width

    strips = _strips(page, fixed, free, fits)
    unbroken = _strips(page, fixed, free, partial(fits, whole=True))
    whole = len(unbroken) == len(strips)  # words are broken if that saves a strip
    strips = unbroken if whole else strips
    printed = [_drawn(_only(page, [*fixed, *strip]), split, whole) for strip in strips]
    above = [RichText(page.caption), RichText()] if page.caption else []
    return Group(*above, *printed, _below(page))


def _strips(
    page: Page, fixed: list[int], free: list[int], fits: Callable[[Page], bool]
) -> list[list[int]]:
    """Return the free columns of each strip: as many as fit beside the fixed ones."""
    strips: list[list[int]] = [[]]
    for column in free:
        if strips[-1] and not fits(_only(page, [*fixed, *strips[-1], column])):
            strips.append([])
        strips[-1].append(column)
    return strips


def _only(page: Page, columns: Sequence[int]) -> Page:
    """Return a page with some of the columns."""
    return page._replace(
        headings=[page.headings[i] for i in columns],
        rows=[[row[i] for i in columns] for row in page.rows],
    )


def _below(page: Page) -> RichText:
    """Return the footnotes."""
    return RichText("\n".join(page.notes), style="dim")


def _whole(cell: Text) -> str:
    return cell.whole if isinstance(cell, Marked) else cell


def _width(texts: Sequence[str], split: _Split) -> int:
    """Return the width of a column whose texts are broken in this way."""
    return max(len(piece) for text in texts for piece in split(text))


def _columns(page: Page) -> list[list[str]]:
    """Return the texts of each column, its heading first."""
    headings = [_SHORT.get(heading, heading) for heading in page.headings]
    rows = [[_whole(cell) for cell in row] for row in page.rows]
    return [list(column) for column in zip(headings, *rows, strict=True)]


def _needs(page: Page, split: _Split, *, whole: bool = False) -> int:
    """Return the width that a page needs; words are never broken by a layout.

    Args:
        page: the page.
        split: how cells are broken.
        whole: whether columns of words are not broken at all.
    """
    columns = zip(_columns(page), page.right, strict=True)
    ways = [
        (column, split if right or not whole else _SPLITS[0])
        for column, right in columns
    ]
    return sum(_width(*way) + 1 for way in ways) - 1


def _drawn(page: Page, split: _Split, whole: bool = False) -> RichTable:
    """Return the table without its notes; see ``_needs``."""
    printed = RichTable(
        box=box.SIMPLE_HEAD,  # no lines between columns, because 80 columns are few
        padding=0,
        show_edge=False,
    )
    for column, right in zip(_columns(page), page.right, strict=True):
        unbroken, broken = _width(column, _SPLITS[0]), _width(column, split)
        least = unbroken if whole else min(_NARROWEST, unbroken)
        printed.add_column(
            RichText(
                _heading(column[0], split, broken if right or not whole else least)
            ),
            justify="right" if right else "left",
            overflow="fold",
            width=broken if right and split is not _SPLITS[0] else None,
            min_width=None if right else least,
        )
    for number, row in enumerate(page.rows):
        if page.opens(number):
            printed.add_section()
        printed.add_row(*(_styled(cell) for cell in row))
    return printed


def _heading(text: str, split: _Split, width: int) -> str:
    """Return a heading, broken in words where its column is narrow and else nowhere."""
    if split is not _SPLITS[2] or len(text) <= width:
        return text
    words = text.split(" ")
    return "\n".join(words if max(map(len, words)) <= width else split(text))


def _styled(cell: Text) -> RichText:
    """Return a cell whose best or second best number is emphasised."""
    if not isinstance(cell, Marked):
        return RichText(cell)
    styled = RichText(cell.text, style="")
    styled.stylize(_STYLES[cell.emphasis])
    return (
        styled.append(f" {cell.rest}", style="not bold not underline")
        if cell.rest
        else styled
    )
