"""The table of slimmed networks: pure functions of their records."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from dcbench_bacon.downstream_store import Slimmed
from dcbench_bacon.reporting.numbers import longform
from dcbench_bacon.reporting.numbers.downstream_tables import (
    identity,
    page,
    told_apart,
)
from dcbench_bacon.reporting.table import Table

_ROW = ["dataset", "ipc", "method", "architecture", "protocol", "preset", "recipe"]
SLIMMED = [
    *(*_ROW[:5], "ratio", "pruned_share", "accuracy_mean", "accuracy_std", "n"),
    *("whole_accuracy", "pruned_accuracy", *_ROW[5:]),
]
_NOTES = (
    "Accuracy in percent: mean ± sample standard deviation over n networks, which were "
    "trained on real images, pruned by their batch-norm scales, and then trained on "
    "the set alone, the unpruned network labelling every batch.",
    "Columns: the share of the channels that is gone, and in brackets that of the "
    "parameters.",
    "Pruned: before the recovery; unpruned: the networks as trained on real images.",
)


def slimmed(records: Iterable[Slimmed]) -> pd.DataFrame:
    """Return one row per set and ratio; accuracies in percent.

    ``accuracy_std`` pools networks and sets (ddof 1, missing when n is 1).
    """
    rows = [
        {
            **identity(record),
            **{"architecture": record.architecture, "ratio": record.ratio},
            **{"pruned_share": record.pruned_share, "accuracy": 100 * result.accuracy},
            "whole_accuracy": 100 * (record.whole_accuracy or 0.0),
            "pruned_accuracy": 100 * (record.pruned_accuracy or 0.0),
        }
        for record in told_apart(records)
        for result in record.evaluations
    ]
    columns = [*_ROW, "ratio", "pruned_share", "accuracy"]
    frame = pd.DataFrame(rows, columns=[*columns, "whole_accuracy", "pruned_accuracy"])
    frame = longform.ordered(frame, [*_ROW, "ratio", "accuracy"])
    table = frame.groupby([*_ROW, "ratio"], sort=False).agg(
        pruned_share=("pruned_share", "mean"),
        accuracy_mean=("accuracy", "mean"),
        accuracy_std=("accuracy", "std"),
        n=("accuracy", "count"),
        whole_accuracy=("whole_accuracy", "mean"),
        pruned_accuracy=("pruned_accuracy", "mean"),
    )
    return table.reset_index()[SLIMMED]


def ratios(table: pd.DataFrame) -> Table:
    """Return a table for people: one row per set, one column per ratio.

    Args:
        table: made by ``slimmed``.
    """
    every = sorted(set(table["ratio"]))
    shares = table.groupby("ratio")["pruned_share"].mean()
    names = {r: f"{100 * r:.0f} % ({100 * shares[r]:.0f} %)" for r in every}
    rows: list[dict[str, Any]] = []
    for _, network in table.groupby(["dataset", "architecture"], sort=False):
        first = {**network.iloc[0][_ROW]}
        blank = {**first, "ipc": "", "protocol": "", "recipe": ""}
        whole = f"{network['whole_accuracy'].mean():.2f}"
        before = network.groupby("ratio")["pruned_accuracy"].mean()
        rows.append(
            {**blank, "method": "unpruned", **dict.fromkeys(names.values(), whole)}
        )
        rows.append(
            {**blank, "method": "pruned"}
            | {names[r]: f"{before[r]:.2f}" for r in every if r in before}
        )
        for key, group in network.groupby(_ROW, sort=False):
            cells = {row["ratio"]: row for row in group.to_dict("records")}
            row = dict(zip(_ROW, tuple(key), strict=True))
            row |= {names[r]: _accuracy(cells[r]) for r in every if r in cells}
            rows.append({**row, "n": str(int(group["n"].max()))})
    columns = [*_ROW[:5], *names.values(), "n", *_ROW[5:]]
    texts = pd.DataFrame(rows, columns=columns)
    texts[[*names.values(), "n"]] = texts[[*names.values(), "n"]].fillna("—")
    return page(texts, _NOTES)


def _accuracy(row: dict[Any, Any]) -> str:
    """Return mean and deviation."""
    mean, std = float(row["accuracy_mean"]), float(row["accuracy_std"])
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std == std else "")
