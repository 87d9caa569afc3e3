"""The page of accuracies under several augmentations."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.published import cite
from dcbench_bacon.reporting.numbers.augmentations import AUGMENTATIONS
from dcbench_bacon.reporting.printing.cell_texts import (
    CELL,
    NOTHING,
    SHOWN,
    ambiguous,
    chosen_in,
    number,
    reduced_in,
    signed,
)
from dcbench_bacon.reporting.table import Page, Table, Text
from dcbench_bacon.reporting.wording import HEADINGS, MARKS, NOTES

_SUMMARIES = {"mean": "Mean (%)", "best": "Best (%)", "transfer": "Transfer (%)"}


def page(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of accuracies under augmentations, beside published ones."""
    cited = [str(key) for key in dict.fromkeys(table["published_source"]) if key]
    reduced, recipe = reduced_in(table), ambiguous(table, (*SHOWN, "selection"))
    under = [str(name) for name in table.columns if name not in AUGMENTATIONS]
    transfer = bool(table["transfer"].notna().any())
    summaries = [name for name in _SUMMARIES if name != "transfer" or transfer]
    headings = [HEADINGS[name] for name in CELL]
    headings += [_SUMMARIES[name] for name in summaries] + under + ["n"]
    headings += ["Preset"] * bool(reduced) + ["Recipe"] * recipe
    rows: list[list[Text]] = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts: list[Text] = [number(row[name], name) for name in CELL]
        texts += [_summary(row, name) for name in summaries]
        texts += [_percent(row[name]) for name in under] + [str(row["n"])]
        texts += [str(row["preset"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    told = ["per_augmentation", *chosen_in(table), *reduced]
    told += ["brackets"] * bool(cited)
    told += ["transfer_published"] * (transfer and bool(cited))
    return Page(headings, rows, [*(NOTES[name] for name in told), *map(cite, cited)])


def _percent(value: float) -> str:
    """Return a percentage with two decimal places; a dash where it is missing."""
    return NOTHING if value != value else f"{value:.2f}"


def _summary(row: Mapping[Any, Any], name: str) -> str:
    """Return the mean, the best or the transfer of a set, and the published one."""
    text, published = _percent(row[name]), row[f"published_{name}"]
    if name == "best":
        text += f"{MARKS['best_test']} {row['best_augmentation']}"
    if published != published:
        return text
    difference = row.get(f"difference_{name}", math.nan)
    return f"{text} ({published}, {signed(difference)})"
