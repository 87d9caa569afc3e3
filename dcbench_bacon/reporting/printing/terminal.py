"""Tables on a terminal, as wide as it is and never wider."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, get_args

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text as RichText

from dcbench_bacon.reporting.printing.pages import page_of
from dcbench_bacon.reporting.table import LayoutKind, Marked, Page, Table, Text

_SHORT = {"Difference": "Diff."}  # headings on a terminal
_STYLES = {"": "", "best": "bold", "second": "underline"}
_NARROWEST = 6  # letters of a column of words that is broken anywhere
# What tells a row from others, beside the first columns of a table.
_KEYS = (
    *("Data set", "IPC", "Method", "Distilled on", "Network", "Protocol", "Seed"),
    *("Stage", "Preset", "Changed", "Recipe"),
)
_ROW = "Row"  # the number of a row
# What a line above the table can state for all rows.
_CONDITIONS = frozenset({*_KEYS, "Selection", "Device", "torch"} - {"Method"})
_FOLDED = frozenset(
    {"Error", "Device", "Evaluation", "Changed"}
)  # sentences, folded anywhere
_READABLE = 24  # letters of a line of such a column

_Split = Callable[[str], list[str]]


def _unbroken(text: str) -> list[str]:
    return [text]


def _at_brackets(text: str) -> list[str]:
    return re.split(r" (?=[(\[])", text)


def _at_words(text: str) -> list[str]:
    return re.split(r" (?!\()|(?<=\w-)(?=\w)| ", text)


class _Breaks(NamedTuple):
    """How headings, and the cells of columns of words and of numbers, may be broken."""

    heading: _Split
    words: _Split
    numbers: _Split


_UNBROKEN = _Breaks(_unbroken, _unbroken, _unbroken)
# How the rows of a table, and those of a layout, may be broken if they have no room.
_OF_ROWS = (
    _UNBROKEN,
    _Breaks(_at_words, _unbroken, _unbroken),
    _Breaks(_at_words, _unbroken, _at_brackets),
)
_OF_LAYOUTS = (*_OF_ROWS, _Breaks(_at_words, _at_words, _at_words))


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
    arranged = table.kind in (*get_args(LayoutKind), "ablation")
    shared = ""
    if not arranged and _needs(page, _UNBROKEN) > width:
        page, shared = _without_shared(page)
    parts: list[RenderableType] = [
        RichText(line) for line in (page.caption, shared) if line
    ]
    strips = _of_layout(page, width) if arranged else _of_rows(page, width)
    for strip in strips:
        parts += [RichText(), strip] if parts else [strip]
    return Group(*parts, *([RichText(), _below(page)] if page.notes else []))


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


def _of_rows(page: Page, width: int) -> list[RichTable]:
    """Return a page as tables, of which those below refer to rows by their numbers."""
    breaks = next((b for b in _OF_ROWS if _needs(page, b) <= width), None)
    if breaks:
        return [_drawn(page, breaks)]
    breaks, page = _OF_ROWS[-1], _numbered(page)
    first, later = (
        [place for place, heading in enumerate(page.headings) if heading in names]
        for names in ((_ROW, *_KEYS), (_ROW, "Method"))
    )
    strips = _strips(page, first, later, _fits(breaks, width))
    return [_drawn(_only(page, strip), breaks) for strip in strips]


def _numbered(page: Page) -> Page:
    """Return a page whose rows have numbers."""
    rows: list[list[Text]] = [[str(n), *row] for n, row in enumerate(page.rows, 1)]
    return page._replace(headings=[_ROW, *page.headings], rows=rows)


def _of_layout(page: Page, width: int) -> list[RichTable]:
    """Return a page as tables that all begin with the names of its rows."""
    breaks = next((b for b in _OF_LAYOUTS if _needs(page, b) <= width), _OF_LAYOUTS[-1])
    names = [place for place, right in enumerate(page.right) if not right]
    unbroken = breaks._replace(words=_unbroken)
    strips, wider = (
        _strips(page, names, names, _fits(choice, width))
        for choice in (breaks, unbroken)
    )
    if len(wider) == len(strips):  # words are broken if that saves a table
        strips, breaks = wider, unbroken
    parts = [_only(page, strip) for strip in strips]
    if len(parts) > 1:
        parts = list(map(_with_numbers, parts))
    return [_drawn(part, breaks) for part in parts]


def _with_numbers(page: Page) -> Page:
    """Return a page without rows that have numbers in other columns alone.

    What a row says of those below it, such as the images per class, is kept by the
    first row that remains of them.
    """
    rows: list[list[Text]] = []
    opening: list[int] = []
    about: list[Text] = []  # the first cell of the rows that are left out
    begins = True  # whether the next row is the first that remains of them
    for number, row in enumerate(page.rows):
        if page.opens(number) or not number:
            about, begins = row[:1], True
        cells = zip(row, page.right, strict=True)
        if all(_whole(cell) in ("", "-") for cell, right in cells if right):
            continue
        if begins:
            opening += [len(rows)] * bool(rows)
        rows.append([*about, *row[1:]] if begins else row)
        begins = False
    return page._replace(rows=rows, opening=frozenset(opening)) if rows else page


def _fits(breaks: _Breaks, width: int) -> Callable[[Page], bool]:
    """Return whether a page with such breaks is not wider than a terminal."""
    return lambda page: _needs(page, breaks) <= width


def _strips(
    page: Page, first: list[int], later: list[int], fits: Callable[[Page], bool]
) -> list[list[int]]:
    """Return the columns of each table: as many as fit beside the repeated ones.

    Args:
        page: the page.
        first: the columns that the first table begins with.
        later: those of the tables below it.
        fits: whether a page with some of the columns has room.
    """
    strips = [[*first]]
    for column in (i for i in range(len(page.headings)) if i not in first):
        full = not fits(_only(page, [*strips[-1], column]))
        if full and strips[-1] != later:  # at least one column beside the repeated ones
            strips.append([*later])
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


def _width(texts: Sequence[str], breaks: _Breaks, *, right: bool) -> int:
    """Return the width of a column whose texts are broken in this way."""
    heading, *cells = texts
    split = breaks.numbers if right else breaks.words
    pieces = [
        *breaks.heading(heading),
        *(part for cell in cells for part in split(cell)),
    ]
    widest = max(map(len, pieces))
    return min(widest, _READABLE) if heading in _FOLDED else widest


def _columns(page: Page) -> list[list[str]]:
    """Return the texts of each column, its heading first."""
    headings = [_SHORT.get(heading, heading) for heading in page.headings]
    rows = [[_whole(cell) for cell in row] for row in page.rows]
    return [list(column) for column in zip(headings, *rows, strict=True)]


def _needs(page: Page, breaks: _Breaks) -> int:
    """Return the width that a page needs with such breaks."""
    columns = zip(_columns(page), page.right, strict=True)
    return sum(_width(column, breaks, right=right) + 1 for column, right in columns) - 1


def _drawn(page: Page, breaks: _Breaks) -> RichTable:
    """Return the table without its notes."""
    printed = RichTable(
        box=box.SIMPLE_HEAD,  # no lines between columns, because 80 columns are few
        padding=0,
        show_edge=False,
    )
    for column, right in zip(_columns(page), page.right, strict=True):
        width = _width(column, breaks, right=right)
        free = not right and breaks.words is not _unbroken
        free |= column[0] in _FOLDED  # such a column takes what the others leave
        printed.add_column(
            RichText(_heading(column[0], breaks.heading, width)),
            justify="right" if right else "left",
            overflow="fold",
            width=None if free else width,
            min_width=min(_NARROWEST, width) if free else None,
        )
    for number, row in enumerate(page.rows):
        if page.opens(number):
            printed.add_section()
        printed.add_row(*(_styled(cell) for cell in row))
    return printed


def _heading(text: str, split: _Split, width: int) -> str:
    """Return a heading, broken in words where its column is narrow and else nowhere."""
    if len(text) <= width:
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
