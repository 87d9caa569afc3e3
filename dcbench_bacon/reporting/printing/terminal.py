"""Tables on a terminal, as wide as it is and never wider."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text as RichText

from dcbench_bacon.reporting.printing.pages import page_of
from dcbench_bacon.reporting.table import Marked, Page, Table, Text

_SHORT = {"Difference": "Diff."}  # headings on a terminal
_STYLES = {"": "", "best": "bold", "second": "underline"}
_NARROWEST = 6  # letters of a column of words that is broken anywhere
# What tells a row from others, beside the first columns of a table.
_KEYS = (
    *("Data set", "IPC", "Method", "Distilled on", "Network", "Protocol", "Seed"),
    *("Stage", "Preset", "Recipe"),
)
_ROW = "Row"  # the number of a row
# What a line above the table can state for all rows.
_CONDITIONS = frozenset({*_KEYS, "Selection", "Device", "torch"} - {"Method"})
_FOLDED = frozenset({"Error", "Device", "Evaluation"})  # sentences, folded anywhere
_READABLE = 24  # letters of a line of such a column

_Split = Callable[[str], list[str]]


def _unbroken(text: str) -> list[str]:
    return [text]


def _at_brackets(text: str) -> list[str]:
    return re.split(r" (?=[(\[])", text)


def _at_words(text: str) -> list[str]:
    return re.split(r" (?!\()|(?<=\w-)(?=\w)| ", text)


class _Breaks(NamedTuple):
    """How headings and cells may be broken."""

    heading: _Split
    cell: _Split


# From not at all to before every bracket and at every space.
_BREAKS = (
    _Breaks(_unbroken, _unbroken),
    _Breaks(_at_words, _unbroken),
    _Breaks(_at_words, _at_brackets),
    _Breaks(_at_words, _at_words),
)


def to_rich(table: Table, width: int) -> RenderableType:
    """Return a table for a terminal.

    In a table that is wider than the terminal, what all rows share is said above it,
    headings break at their spaces and numbers before their brackets. Columns that still
    have no room continue below, in tables that repeat the names of the rows.

    Args:
        table: the table.
        width: width of the terminal in columns.
    """
    page = page_of(table)
    arranged = table.kind in ("paper", "networks")
    shared = ""
    if not arranged and _needs(page, _BREAKS[0]) > width:
        page, shared = _without_shared(page)
    above = [RichText(line) for line in (page.caption, shared) if line]
    parts: list[RenderableType] = [*above] if above else []
    for strip in _strips(page, width, arranged=arranged):
        parts += [RichText(), strip] if parts else [strip]
    return Group(*parts, RichText(), _below(page))


def _without_shared(page: Page) -> tuple[Page, str]:
    """Return a page without conditions that all rows share, and a line of these."""
    columns = list(zip(*page.rows, strict=True))
    shared = [
        number
        for number, heading in enumerate(page.headings)
        if heading in _CONDITIONS
        and len(page.rows) > 1
        and len(set(columns[number])) == 1
    ]
    told = [
        f"{_in_a_sentence(page.headings[number])} {_whole(columns[number][0])}"
        for number in shared
    ]
    kept = [number for number in range(len(page.headings)) if number not in shared]
    line = f"All rows: {', '.join(told)}." if told else ""
    return _only(page, kept), line


def _in_a_sentence(heading: str) -> str:
    """Return a heading without its capital, unless it is an abbreviation."""
    return heading if heading.isupper() else heading[0].lower() + heading[1:]


def _strips(page: Page, width: int, *, arranged: bool) -> list[RichTable]:
    """Return a page as tables with as many of its columns as fit into each.

    Args:
        page: the page.
        width: width of the terminal in columns.
        arranged: whether it is of a layout, whose cells may be broken at every space.
    """
    breaks = _BREAKS if arranged else _BREAKS[:-1]
    chosen = next((b for b in breaks if _needs(page, b) <= width), breaks[-1])
    if _needs(page, chosen) <= width:
        return [_drawn(page, chosen)]
    if not arranged:
        page = _numbered(page)
    first, later = _repeated(page, arranged=arranged)
    strips = [[*first]]
    for column in (i for i in range(len(page.headings)) if i not in first):
        full = _needs(_only(page, [*strips[-1], column]), chosen) > width
        # Names alone may fill the first table, but never a later one.
        if full and strips[-1] not in ([later, first] if arranged else [later]):
            strips.append([*later])
        strips[-1].append(column)
    return [_drawn(_only(page, strip), chosen) for strip in strips]


def _numbered(page: Page) -> Page:
    """Return a page whose rows have numbers."""
    rows: list[list[Text]] = [[str(n), *row] for n, row in enumerate(page.rows, 1)]
    return page._replace(headings=[_ROW, *page.headings], rows=rows)


def _repeated(page: Page, *, arranged: bool) -> tuple[list[int], list[int]]:
    """Return the columns that the first and the later tables of a page begin with.

    In a layout these are the same. Rows of others have long names; their number and
    their method are enough for what is below.
    """
    places = list(enumerate(page.headings))
    if arranged:
        names = [place for place, _ in places if not page.right[place]]
        return names, names
    first = [place for place, heading in places if heading in (_ROW, *_KEYS)]
    return first, [place for place, heading in places if heading in (_ROW, "Method")]


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


def _width(texts: Sequence[str], breaks: _Breaks) -> int:
    """Return the width of a column whose texts are broken in this way."""
    heading, *cells = texts
    pieces = [*breaks.heading(heading)]
    pieces += [piece for cell in cells for piece in breaks.cell(cell)]
    widest = max(map(len, pieces))
    return min(widest, _READABLE) if heading in _FOLDED else widest


def _columns(page: Page) -> list[list[str]]:
    """Return the texts of each column, its heading first."""
    headings = [_SHORT.get(heading, heading) for heading in page.headings]
    rows = [[_whole(cell) for cell in row] for row in page.rows]
    return [list(column) for column in zip(headings, *rows, strict=True)]


def _needs(page: Page, breaks: _Breaks) -> int:
    """Return the width that a page needs with such breaks."""
    return sum(_width(column, breaks) + 1 for column in _columns(page)) - 1


def _drawn(page: Page, breaks: _Breaks) -> RichTable:
    """Return the table without its notes."""
    printed = RichTable(
        box=box.SIMPLE_HEAD,  # no lines between columns, because 80 columns are few
        padding=0,
        show_edge=False,
    )
    for column, right in zip(_columns(page), page.right, strict=True):
        width = _width(column, breaks)
        whole = breaks.cell is _unbroken and column[0] not in _FOLDED
        printed.add_column(
            RichText("\n".join(breaks.heading(column[0])) if right else column[0]),
            justify="right" if right else "left",
            overflow="fold",
            width=width if right or whole else None,
            min_width=None if right else min(_NARROWEST, width),
        )
    for number, row in enumerate(page.rows):
        if page.opens(number):
            printed.add_section()
        printed.add_row(*(_styled(cell) for cell in row))
    return printed


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
