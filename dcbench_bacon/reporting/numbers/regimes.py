"""The table of label regimes: every set under hard, soft and renewed labels.

A set is compared with random images of the same seed under the same protocol, labels
and budget, so that a gain is what its images add to that of the labels.
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import pandas as pd

from dcbench_bacon.field_types import Regime
from dcbench_bacon.reporting.literature.references import (
    RANDOM,
    WHOLE,
    SetResults,
    reference,
    results_of,
)
from dcbench_bacon.reporting.numbers import longform
from dcbench_bacon.reporting.numbers import scores as formulas

COLUMNS = [
    *("dataset", "ipc", "regime", "method", "architecture", "protocol", "budget"),
    *("accuracy_mean", "accuracy_std", "sets", "n", "gain", "gain_low", "gain_high"),
    *("pairs", "taught_bytes", "teachers", "teacher_accuracy", "preset", "selection"),
    "recipe",
]
_NUMBERS = [
    *("accuracy_mean", "accuracy_std", "gain", "gain_low", "gain_high"),
    "teacher_accuracy",
]


def regimes(
    frame: pd.DataFrame, *, presets: Sequence[str] = ("paper",)
) -> pd.DataFrame:
    """Return one row per set, network and label regime, in percent.

    ``gain`` is the mean accuracy minus that of random images under the same labels,
    over the ``pairs`` seeds that both have, with a 95 % interval. ``taught_bytes`` is
    the mean size of the labels that a network learned from, and ``teacher_accuracy``
    the teachers' mean accuracy on the real images that they were trained on.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
    """
    results = results_of(frame[frame["regime"].isin(get_args(Regime))], presets)
    rows = [_row(result, results) for result in results]
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(_NUMBERS, float))
    order = ["dataset", "ipc", "architecture", "budget", "regime", "method", "recipe"]
    table = longform.ordered(table, order)
    return table.set_index("recipe")


def _row(result: SetResults, results: list[SetResults]) -> dict[str, Any]:
    """Return the row of a result."""
    percent = result.rows["accuracy"] * 100
    first = result.rows.iloc[0]
    sizes = result.rows.groupby("seed")["taught_bytes"].first()
    return {
        **result.key,
        **{key: first[key] for key in ("regime", "budget", "teachers")},
        **{"teacher_accuracy": 100 * float(result.rows["teacher_accuracy"].mean())},
        **{"accuracy_mean": round(float(percent.mean()), 9)},
        **{"accuracy_std": float(percent.std(ddof=1)), "n": len(percent)},
        **{"sets": result.rows["seed"].nunique()},
        **_gained(result, results),
        **{"taught_bytes": float(sizes.astype(float).mean()), "recipe": result.recipe},
    }


def _gained(result: SetResults, results: list[SetResults]) -> dict[str, float]:
    """Return the gain over random images of the same seeds, with its interval."""
    baseline = reference(result, results, RANDOM)
    if baseline is None or result.key["method"] in (RANDOM, WHOLE):
        return {"gain": math.nan, "gain_low": math.nan, "gain_high": math.nan}
    ours, theirs = result.networks, baseline.result.networks
    interval = formulas.paired_interval(ours, theirs)
    names = ("gain", "gain_low", "gain_high")
    gains = {name: 100 * value for name, value in zip(names, interval, strict=True)}
    return {**gains, "pairs": len(ours.keys() & theirs.keys())}
