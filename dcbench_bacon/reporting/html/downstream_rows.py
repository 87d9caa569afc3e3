"""The page's tables of downstream uses, as ``dcbench table`` prints them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dcbench_bacon.downstream_store import Candidate, Slimmed, Stage
from dcbench_bacon.reporting import wording
from dcbench_bacon.reporting.html.rows import Facets
from dcbench_bacon.reporting.numbers import downstream_tables, slimming_tables
from dcbench_bacon.reporting.numbers.longform import CHANGED
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
        name: ``continual``, ``nas`` or ``slim``.
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
    stages: Sequence[Stage],
    candidates: Sequence[Candidate],
    slimmed: Sequence[Slimmed],
) -> list[Downstream]:
    """Return the tables of the downstream uses that have records.

    Args:
        stages: the records of ``dcbench continual``.
        candidates: the records of ``dcbench nas``.
        slimmed: the records of ``dcbench slim``.
    """
    learned = downstream_tables.continual(stages)
    searched = downstream_tables.search(candidates)
    pruned = slimming_tables.slimmed(slimmed)
    tables = [
        _table("continual", "Continual learning", learned, downstream_tables.stages),
        _table("nas", "Architecture search", searched, downstream_tables.correlations),
        _table("slim", "Slimming", pruned, slimming_tables.ratios),
    ]
    return [use for use in tables if use.rows]


def _table(
    kind: Kind,
    title: str,
    frame: pd.DataFrame,
    arranged: Callable[[pd.DataFrame], Table],
) -> Downstream:
    """Return the table of a use.

    Args:
        kind: the name of the use.
        title: the heading of its section.
        frame: the numbers.
        arranged: gives the rows that are printed of them.
    """
    if frame.empty:
        return Downstream(kind, title, (), (), ())
    page = page_of(Table(kind, frame))
    printed = arranged(frame).frame.to_dict("records")
    rows = [
        Row(
            _facets(row),
            wording.title(row["Method"]),
            tuple(text.whole if isinstance(text, Marked) else text for text in texts),
        )
        for row, texts in zip(printed, page.rows, strict=True)
    ]
    headings = tuple(zip(page.headings, page.right, strict=True))
    return Downstream(kind, title, headings, tuple(rows), tuple(page.notes))


def _facets(row: Mapping[Any, Any]) -> Facets:
    """Return the facets of a row that is printed; without a preset, it is ``paper``."""
    ipc = str(row["IPC"])
    preset = str(row.get("Preset", "paper")).removesuffix(CHANGED)
    network = str(row.get("Network", ""))
    return Facets(str(row["Data set"]), "all" if ipc == "0" else ipc, network, preset)
