"""The page of an ablation: arms as rows, data sets and numbers of images as columns."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.numbers.layout_numbers import EVALUATED
from dcbench_bacon.reporting.printing.layout_pages import NOTHING, deviating, signed
from dcbench_bacon.reporting.table import Marked, Page, Table, Text
from dcbench_bacon.reporting.wording import MARKS, NOTES

_COLUMN = ("dataset", "ipc", "architecture")
_BLOCK = ("method", *EVALUATED, "others")


def page(frame: pd.DataFrame, table: Table) -> Page:
    """Return the page of ``ablation.ablation``, a block per method and evaluation."""
    several = frame["architecture"].nunique() > 1
    columns = list(
        dict.fromkeys(frame[list(_COLUMN)].itertuples(index=False, name=None))
    )
    headings = ["Method", "Arm"]
    headings += [_heading(*column, several=several) for column in columns]
    differing = [name for name in _BLOCK[1:] if frame[name].nunique() > 1]
    rows: list[list[Text]] = []
    opening = set()
    for _, block in frame.groupby(list(_BLOCK), sort=False):
        opening.add(len(rows))
        first = block.iloc[0]
        about = ", ".join(filter(None, (str(first[n]) for n in ("method", *differing))))
        for arm, group in block.groupby("arm", sort=False):
            cells = {
                tuple(row[name] for name in _COLUMN): row
                for row in group.to_dict("records")
            }
            texts: list[Text] = [
                _cell(cells[column]) if column in cells else NOTHING
                for column in columns
            ]
            rows.append([about, str(arm), *texts])
            about = ""
    left = frozenset(headings[:2])
    return Page(headings, rows, _notes(frame), left, opening=frozenset(opening - {0}))


def _heading(dataset: str, ipc: int, architecture: str, *, several: bool) -> str:
    """Return the heading of a column."""
    return f"{dataset}, IPC {ipc}" + f", {architecture}" * several


def _cell(row: Mapping[Any, Any]) -> Text:
    """Return an accuracy, and in brackets the difference to the first arm."""
    text = deviating(f"{row['accuracy_mean']:.1f}", row["accuracy_std"])
    text += MARKS.get(row["selection"], "")
    if row["difference"] != row["difference"]:
        return Marked(text)
    clear = row["difference_low"] > 0 or row["difference_high"] < 0
    return Marked(text, f"({signed(row['difference'])}{'*' * clear})")


def _notes(frame: pd.DataFrame) -> list[str]:
    """Return what the cells are."""
    if frame.empty:
        return []
    low, high = int(frame["n"].min()), int(frame["n"].max())
    n = str(low) if low == high else f"{low} to {high}"
    presets = set(frame["preset"])
    chosen = [name for name in MARKS if name in set(frame["selection"])]
    others = sorted(set(frame["others"]) - {""})
    also = [f"All arms: --set {text}." for text in others if len(others) == 1]
    told = [*chosen, *(name for name in ("quick", "demo") if name in presets)]
    notes = [f"{NOTES['layout']} n = {n}.", NOTES["arms"], *also]
    return [*notes, *(NOTES[name] for name in told)]
