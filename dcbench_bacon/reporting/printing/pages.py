"""Pages of tables: headings, rounded numbers, marks and footnotes, by kind of table."""

import itertools
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.published import cite
from dcbench_bacon.reporting.numbers import downstream_tables, slimming_tables
from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.printing import (
    ablation_page,
    augmentation_pages,
    comparison_pages,
    layout_pages,
    regime_pages,
    time_pages,
)
from dcbench_bacon.reporting.printing.cell_texts import (
    CELL,
    KEYS,
    NOTHING,
    SHOWN,
    ambiguous,
    chosen_in,
    measured,
    number,
    recipe_columns,
    recipe_notes,
    recipe_texts,
    signed,
)
from dcbench_bacon.reporting.printing.footnotes import Footnotes
from dcbench_bacon.reporting.table import Kind, Marked, Page, Table, Text, printable
from dcbench_bacon.reporting.wording import HEADINGS, LEFT, NOTES, namer


def _published(row: Mapping[Any, Any], cited: list[str], notes: Footnotes) -> str:
    """Return the published mean and deviation, the source's number, and marks."""
    if not row["published_source"]:
        return NOTHING
    std, number = row["published_std"], cited.index(row["published_source"]) + 1
    spread = f" ± {std}" if std == std else ""
    return f"{row['published_mean']}{spread} [{number}]{notes.marks(row)}"


def _compare(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of a summary: measured beside published, with footnotes."""
    cited = [str(key) for key in dict.fromkeys(table["published_source"]) if key]
    compared = bool(table["difference"].notna().any())
    headings = [*(HEADINGS[name] for name in CELL), "Measured (%)"]
    headings += ["Published (%)"] * bool(cited) + ["Difference"] * compared
    more, recipe = recipe_columns(table), ambiguous(table, (*SHOWN, "selection"))
    headings += [HEADINGS[name] for name in more] + ["Recipe"] * recipe
    footnotes = Footnotes()
    rows: list[list[Text]] = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts: list[Text] = [number(row[name], name) for name in CELL]
        texts.append(measured(row))
        texts += [_published(row, cited, footnotes)] * bool(cited)
        texts += [signed(row["difference"])] * compared
        texts += recipe_texts(row, more) + [str(index)] * recipe
        rows.append(texts)
    told = ["std", *chosen_in(table), *recipe_notes(table), *["difference"] * compared]
    told.append("published" if cited else "unpublished")
    notes = [NOTES[name] for name in told] + footnotes.lines()
    notes += [f"[{i}] {cite(key)}" for i, key in enumerate(cited, 1)]
    return Page(headings, rows, notes)


def _plain(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of rows that are printed as they are, with rounded numbers."""
    if len(table):
        table = table.dropna(axis=1, how="all")
        filled = [name for name in table.columns if (table[name] != "").any()]
        table = table[filled]
    if "overrides" in table:
        table = table.assign(preset=table["preset"].str.removesuffix(CHANGED))
    names = [str(name) for name in table.columns]
    headings = [HEADINGS.get(name, name) for name in names]
    rows: list[list[Text]] = [
        [number(cell, column) for cell, column in zip(row, names, strict=True)]
        for row in table.itertuples(index=False)
    ]
    if ambiguous(table, [name for name in names if name in KEYS]):
        headings.append("Recipe")
        for row, recipe in zip(rows, table.index, strict=True):
            row.append(str(recipe))
    notes = [NOTES["sets"]] if "std_sets" in table else []
    notes += [NOTES["changed"]] if "overrides" in table else []
    notes += [NOTES["timing"]] if "median_seconds" in table else []
    return Page(headings, rows, notes)


def _downstream(table: Table) -> Page:
    """Return the page of a downstream use."""
    notes = [NOTES.get(note, note) for note in table.notes]
    return _plain(table.frame, table)._replace(notes=notes)


_PAGES: dict[Kind, Callable[[pd.DataFrame, Table], Page]] = {
    **{"accuracy": _compare, "transfer": comparison_pages.transfer},
    **{"scores": comparison_pages.scores, "cost": comparison_pages.cost},
    "summary": comparison_pages.ranking,
    "augmentations": augmentation_pages.page,
    "time_table": time_pages.page,
    **dict.fromkeys(("paper", "networks", "methods"), layout_pages.page),
    **{"published": layout_pages.literature, "regimes": regime_pages.page},
    "ablation": ablation_page.page,
    "continual": lambda frame, _: _downstream(downstream_tables.stages(frame)),
    "slim": lambda frame, _: _downstream(slimming_tables.ratios(frame)),
    "nas": lambda frame, _: _downstream(downstream_tables.correlations(frame)),
}
_NAMED = ("dataset", "method", "against", "Data set", "Method")


def page_of(table: Table) -> Page:
    """Return a table as people read it: headings, rounded numbers, footnotes."""
    frame, named = table.frame.copy(), cache(namer(table.titles))
    for column in _NAMED:
        if column in frame:
            frame[column] = frame[column].map(named)
    page = _PAGES.get(table.kind, _plain)(frame, table)
    notes = [*page.notes, *(NOTES.get(note, note) for note in table.notes)]
    return page._replace(
        headings=[printable(heading) for heading in page.headings],
        rows=[[_clean(cell) for cell in row] for row in page.rows],
        notes=[printable(note) for note in dict.fromkeys(notes)],
        left=page.left or LEFT,
        caption=printable(table.caption),
        label=table.label,
        opening=_openings(page.rows) if page.opening is None else page.opening,
    )


def _openings(rows: list[list[Text]]) -> frozenset[int]:
    """Return the rows that differ from the one above in their first two cells."""
    pairs = enumerate(itertools.pairwise(rows), 1)
    return frozenset(n for n, (above, row) in pairs if above[:2] != row[:2])


def _clean(cell: Text) -> Text:
    """Return a cell without line breaks and control characters."""
    if isinstance(cell, Marked):
        return cell._replace(text=printable(cell.text), rest=printable(cell.rest))
    return printable(cell)
