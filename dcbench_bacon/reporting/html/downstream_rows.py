"""The page's tables of downstream uses, as ``dcbench table`` prints them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dcbench_bacon.downstream_store import Candidate, Stage
from dcbench_bacon.reporting.html.rows import Facets, facets, named
from dcbench_bacon.reporting.numbers import downstream_tables
from dcbench_bacon.reporting.printing.pages import page_of
from dcbench_bacon.reporting.table import Kind, Marked, Table


@dataclass(frozen=True)
class Row:
    """A row: what it can be filtered by, the method, and the texts of its cells."""

    facets: Facets
    method: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Downstream:
    """The table of a downstream use.

    Attributes:
        name: ``continual`` or ``nas``.
        title: the heading of its section.
        headings: the headings of the columns, and whether each is of numbers.
        rows: the rows.
        notes: the sentences below it.
    """

    name: str
    title: str
    headings: tuple[tuple[str, bool], ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def downstream(
    stages: Sequence[Stage], candidates: Sequence[Candidate]
) -> list[Downstream]:
    """Return the tables of continual learning and of architecture search.

    Args:
        stages: the records of ``dcbench continual``.
        candidates: the records of ``dcbench nas``.

    Returns:
        A table for each use that has records.
    """
    learned = downstream_tables.continual(stages)
    rows = learned[downstream_tables.STAGED].drop_duplicates()
    searched = downstream_tables.search(candidates)
    made = [
        _table("continual", "Continual learning", learned, rows),
        _table("nas", "Architecture search", searched, searched),
    ]
    return [each for each in made if each.rows]


def _table(kind: Kind, title: str, frame: pd.DataFrame, of: pd.DataFrame) -> Downstream:
    """Return the table of a use, whose rows are of those of another frame."""
    page = page_of(Table(kind, frame))
    rows = [
        Row(
            facets(row, str(row.get("architecture", ""))),
            named(row["method"]),
            tuple(each.whole if isinstance(each, Marked) else each for each in texts),
        )
        for row, texts in zip(of.to_dict("records"), page.rows, strict=True)
    ]
    headings = tuple(zip(page.headings, page.right, strict=True))
    return Downstream(kind, title, headings, tuple(rows), tuple(page.notes))
