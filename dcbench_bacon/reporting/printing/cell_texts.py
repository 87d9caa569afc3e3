"""The texts of cells, the same in the pages of all kinds of tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.numbers.accuracies import accuracy
from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.table import Page
from dcbench_bacon.reporting.wording import MARKS

CELL = ("dataset", "ipc", "method", "architecture", "protocol")
SHOWN = (*CELL, "preset")
KEYS = (*SHOWN, "selection", "seed", "stage")
_PERCENT = ("accuracy_mean", "std_sets", "std_networks")
NOTHING = "—"


def number(value: object, column: str = "") -> str:
    """Return the text of a value: few digits, and a dash where it is missing."""
    if column == "ipc" and value == 0:
        return "all"
    if column.lower() == "protocol":
        return str(value).replace("_", "-")
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return NOTHING
    if column in _PERCENT:
        return f"{value:.2f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def ambiguous(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Return whether rows differ in their recipe and in nothing that is shown."""
    shown = [name for name in (*columns, "overrides") if name in table]
    return table.index.name == "recipe" and bool(table.duplicated(shown).any())


def recipe_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that say how recipes differ from the published ones."""
    changed = bool((table["overrides"] != "").any())
    return ["preset"] * bool(reduced_in(table)) + ["overrides"] * changed


def recipe_texts(row: Mapping[Any, Any], columns: Sequence[str]) -> list[str]:
    """Return the cells of ``recipe_columns``; the preset without a word for changes."""
    return [str(row[name]).removesuffix(CHANGED) or NOTHING for name in columns]


def recipe_notes(table: pd.DataFrame) -> list[str]:
    """Return the keys of the notes on ``recipe_columns``."""
    return ["changed" if name == "set" else name for name in reduced_in(table)]


def reduced_in(table: pd.DataFrame) -> list[str]:
    """Return the words for what differs from the published recipes."""
    presets = " ".join(table["preset"]).split()
    return [name for name in ("quick", "demo", "set") if name in presets]


def chosen_in(table: pd.DataFrame) -> list[str]:
    """Return the selections of the records, those with a mark first."""
    return [name for name in (*MARKS, "final") if name in set(table["selection"])]


def signed(value: float) -> str:
    """Return a difference with its sign; a dash where none may be given."""
    return NOTHING if value != value else f"{round(value, 2) + 0.0:+.2f}"


def measured(row: Mapping[Any, Any]) -> str:
    """Return mean and deviation, with a mark if the pass was chosen."""
    text = accuracy(row["accuracy_mean"], row["accuracy_std"], row["n"])
    return text + MARKS.get(row["selection"], "")


def interval(row: Mapping[Any, Any]) -> str:
    """Return a difference in percentage points, with the bounds of its interval."""
    difference, low, high = (row[f"gain{bound}"] for bound in ("", "_low", "_high"))
    if difference != difference:
        return NOTHING
    bounds = "" if low != low else f" [{low:+.2f}, {high:+.2f}]"
    return f"{difference:+.2f}{bounds}"


def without_empty(page: Page) -> Page:
    """Return a page without the columns in which no row has anything."""
    kept = [
        column
        for column in range(len(page.headings))
        if not page.rows or any(row[column] != NOTHING for row in page.rows)
    ]
    return page._replace(
        headings=[page.headings[column] for column in kept],
        rows=[[row[column] for column in kept] for row in page.rows],
    )
