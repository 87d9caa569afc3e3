"""The rows that a layout adds to its methods: gains over one of them, and ratios."""

import pandas as pd

from dcbench_bacon.plugins import facts_of
from dcbench_bacon.reporting.numbers.layout_numbers import EVALUATED, VALUES

COLUMNS = [
    *("block", "role", "row", "column", "dataset", "ipc", "method", "architecture"),
    *("distilled_on", "overrides", "recipe", "family", *EVALUATED, *VALUES),
    *("published_source", "published_architecture", "published_evaluation"),
    *("not_compared", "remarks"),
]


def gains(block: pd.DataFrame, over: str) -> pd.DataFrame:
    """Return how far the best method of each column is above another.

    Measured accuracies are compared where there are any, otherwise published ones.
    """
    rows = []
    ours, value = block[block["role"] == "measured"], "accuracy_mean"
    if ours.empty:
        ours, value = block[block["role"] == "published"], "published_mean"
    for column, group in ours.groupby("column", sort=False):
        others = group.loc[group["method"] != over, value]
        base = group.loc[group["method"] == over, value]
        gain = others.max() - base.max() if len(others) and len(base) else None
        first = {**group.iloc[0][["block", "dataset", "ipc"]]}
        rows.append(
            {**first, "role": "gain", "row": over, "column": column}
            | {"gain": gain, "method": over}
        )
    gains = pd.DataFrame(rows, columns=COLUMNS)
    return gains if gains["gain"].notna().any() else gains[:0]


def ratios(block: pd.DataFrame) -> pd.DataFrame:
    """Return how many percent of the training images each column has."""
    rows = []
    for column, group in block.groupby("column", sort=False):
        ipc, facts = int(group["ipc"].iloc[0]), facts_of(str(column))
        ratio = 100 * ipc * facts.classes / facts.train if facts else None
        place = {"block": group["block"].iloc[0], "ipc": ipc, "column": column}
        about = {"dataset": column, "role": "ratio", "row": "", "method": ""}
        rows.append(place | about | {"ratio": ratio})
    return pd.DataFrame(rows, columns=COLUMNS)
