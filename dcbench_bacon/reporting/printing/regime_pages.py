"""The page of label regimes."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.printing.cell_texts import (
    NOTHING,
    chosen_in,
    interval,
    measured,
    number,
    reduced_in,
)
from dcbench_bacon.reporting.table import Page, Table, Text
from dcbench_bacon.reporting.wording import HEADINGS, NOTES

_SAME = {"architecture": "Network", "budget": "Updates per network"}
_EPOCHS = "epochs"  # of the protocol, instead of a budget
_KEY = ("dataset", "ipc", "regime", "method", *_SAME, "teachers")


def page(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of label regimes; a column that is the same for all is a note."""
    table = table.assign(budget=table["budget"].map(lambda n: str(n) if n else _EPOCHS))
    one = [name for name in _SAME if table[name].nunique() == 1]
    reduced, recipe = reduced_in(table), bool(table.duplicated(list(_KEY)).any())
    shown = [*_KEY[:2], *(name for name in _SAME if name not in one), *_KEY[2:4]]
    headings = [HEADINGS.get(name, _SAME.get(name, name)) for name in shown]
    headings += ["Accuracy (%)", "Over random", "Labels (kB)", "Teacher"]
    headings += ["Recipe"] * recipe
    rows: list[list[Text]] = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts: list[Text] = [number(row[name], name) for name in shown]
        texts += [measured(row), interval(row), _kilobytes(row["taught_bytes"])]
        rows.append([*texts, _teacher(row), *[str(index)] * recipe])
    notes = [f"{_SAME[name]}: {table[name].iloc[0]}." for name in one]
    protocols = dict.fromkeys(str(name).partition(",")[0] for name in table["protocol"])
    notes += [f"Protocol: {', '.join(protocols)}."] * bool(protocols)
    notes += [NOTES[name] for name in ("regimes", "std", *chosen_in(table), *reduced)]
    return Page(headings, rows, notes)


def _teacher(row: Mapping[Any, Any]) -> str:
    """Return the teachers and, where it is known, how accurate they are."""
    accuracy = row["teacher_accuracy"]
    known = "" if accuracy != accuracy else f" ({accuracy:.0f} %)"
    return f"{row['teachers']}{known}" if row["teachers"] else "none"


def _kilobytes(size: float) -> str:
    """Return a size in thousands of bytes."""
    if size != size:
        return NOTHING
    return f"{size / 1e3:.2f}" if size < 1e5 else f"{size / 1e3:.0f}"
