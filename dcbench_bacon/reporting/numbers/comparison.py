"""Tables that compare sets: across networks (transfer), and with references (scores).

Both tables are made from the long form of ``longform.frame``. The index names set and
protocol, so that two recipes are two rows and never one mean.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.references import (
    RANDOM,
    WHOLE,
    SetResults,
    reference,
    results_of,
)
from dcbench_bacon.reporting.numbers import scores as formulas
from dcbench_bacon.reporting.numbers.cost import cost_of

__all__ = ["SCORES", "TRANSFER", "scores", "transfer"]

TRANSFER = [
    *("dataset", "ipc", "method", "distilled_on", "architecture", "protocol"),
    *("accuracy_mean", "accuracy_std", "sets", "n", "preset", "selection", "overrides"),
]
SCORES = [
    *("dataset", "ipc", "method", "architecture", "protocol", "accuracy_mean"),
    *(
        "std_sets",
        "sets",
        "std_networks",
        "n",
        "gain",
        "gain_low",
        "gain_high",
        "against",
    ),
    *("hlr", "ior", "lrs", "ars", "distillation_seconds", "evaluation_seconds"),
    *("set_bytes", "label_bytes", "preset", "selection", "overrides"),
    *("against_recipe", "random_recipe", "whole_recipe"),
]
_NUMBERS = [
    *("accuracy_mean", "std_sets", "std_networks", "gain", "gain_low", "gain_high"),
    *("hlr", "ior", "lrs", "ars", "distillation_seconds", "evaluation_seconds"),
    *("set_bytes", "label_bytes"),
]


def _table(results: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Return a frame of these columns, indexed by recipe, even without any row."""
    table = pd.DataFrame(results, columns=[*columns, "recipe"])
    return table.set_index("recipe")


def transfer(
    frame: pd.DataFrame, *, presets: Sequence[str] = ("paper",)
) -> pd.DataFrame:
    """Return the accuracy in percent, one row per set and network.

    ``distilled_on`` is the network of the distillation, empty for a selection of real
    images. ``accuracy_std`` pools all networks and seeds (ddof 1, missing if n is 1).

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
    """
    rows = []
    for result in results_of(frame, presets):
        percent = result.rows["accuracy"] * 100
        rows.append(
            {
                **result.key,
                **{"accuracy_mean": round(float(percent.mean()), 9)},
                **{"accuracy_std": float(percent.std(ddof=1)), "n": len(percent)},
                **{"sets": result.rows["seed"].nunique(), "recipe": result.recipe},
                "overrides": result.overrides,
            }
        )
    numbers = dict.fromkeys(("accuracy_mean", "accuracy_std"), float)
    return _table(rows, TRANSFER).astype(numbers)


def scores(
    frame: pd.DataFrame,
    *,
    presets: Sequence[str] = ("paper",),
    against: str = RANDOM,
) -> pd.DataFrame:
    """Return accuracies with both deviations, scores, and cost, one row per set.

    Accuracies, deviations and ``gain`` are percent; HLR, IOR, LRS and ARS are
    fractions, see the module ``scores``. A score that needs another method or the whole
    training set is missing if there is no record of it under the same protocol. HLR and
    LRS, which are defined for hard labels, are missing if the set or a teacher has soft
    labels. ARS belongs to a training with augmentation and needs a record of one
    without. Seconds are means over sets: of distilling a set, and of training and
    testing the networks of the row on it. ``references.reference`` chooses among
    several references, and a note of the table names the one that is used.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
        against: the method that ``gain`` is measured from.
    """
    results = results_of(frame, presets)
    rows, notes = [], []
    for result in results:
        references = {
            name: reference(result, results, name) for name in (against, RANDOM, WHOLE)
        }
        used = {name: entry.result for name, entry in references.items() if entry}
        held = _gained(result, used, against) | _against(result, used, results)
        rows.append(
            {
                **result.key,
                **_accuracy(result),
                "overrides": result.overrides,
                **held,
                **cost_of(result),
                "recipe": result.recipe,
            }
        )
        shown = [held.get(f"{name}_recipe") for name in ("against", "random", "whole")]
        notes += [
            entry.told
            for entry in references.values()
            if entry and entry.result.recipe in shown
        ]
    table = _table(rows, SCORES).astype(dict.fromkeys(_NUMBERS, float))
    table.attrs["notes"] = list(dict.fromkeys(filter(None, notes)))
    return table


def _accuracy(result: SetResults) -> dict[str, float]:
    """Return mean and both deviations in percent."""
    accuracies = result.accuracies
    return {
        "accuracy_mean": round(100 * formulas.mean(accuracies), 9),
        "std_sets": 100 * formulas.between_sets(accuracies),
        "std_networks": 100 * formulas.between_networks(accuracies),
        "sets": len(accuracies),
        "n": sum(map(len, accuracies)),
    }


def _gain(result: SetResults, random: SetResults | None) -> float:
    """Return the improvement over random images; NaN without a record of them."""
    if random is None:
        return math.nan
    ours, theirs = formulas.mean(result.accuracies), formulas.mean(random.accuracies)
    return formulas.improvement_over_random(ours, theirs)


def _gained(
    result: SetResults, references: dict[str, SetResults], method: str
) -> dict[str, Any]:
    """Return the difference from another method and its interval, in percent."""
    columns: dict[str, Any] = {"against": method}
    other = references.get(method)
    if other and result.key["method"] not in (method, WHOLE):
        interval = formulas.bootstrap(result.accuracies, other.accuracies)
        names = ("gain", "gain_low", "gain_high")
        columns |= {name: 100 * v for name, v in zip(names, interval, strict=True)}
        columns["against_recipe"] = other.recipe
    return columns


def _against(
    result: SetResults, references: dict[str, SetResults], results: list[SetResults]
) -> dict[str, Any]:
    """Return those of the scores that the records of references allow."""
    columns: dict[str, Any] = {}
    random, whole = references.get(RANDOM), references.get(WHOLE)
    is_reference = result.key["method"] in (RANDOM, WHOLE)
    hard = result.is_all("hard") and not result.key["taught"]
    if random and not is_reference:
        columns["random_recipe"] = random.recipe
        columns["ior"] = _gain(result, random)
        columns["ars"] = _augmentation_score(result, random, results)
    if whole and hard and result.key["method"] != WHOLE:
        columns["whole_recipe"] = whole.recipe
        reached = formulas.mean(whole.accuracies)
        ours = formulas.mean(result.accuracies)
        columns["hlr"] = formulas.hard_label_recovery(reached, ours)
    if "hlr" in columns and "ior" in columns:
        columns["lrs"] = formulas.label_robust_score(columns["hlr"], columns["ior"])
    return columns


def _augmentation_score(
    result: SetResults, random: SetResults, results: list[SetResults]
) -> float:
    """Return ARS of an augmented training; NaN without a record of a plain one."""
    unaugmented = _without_augmentation(result, results)
    if unaugmented is None:
        return math.nan
    images = reference(unaugmented, results, RANDOM)
    without = _gain(unaugmented, images.result if images else None)
    return formulas.augmentation_robust_score(_gain(result, random), without)


def _without_augmentation(
    result: SetResults, results: list[SetResults]
) -> SetResults | None:
    """Return the result of the same set, trained without augmentation, if any."""
    set_key = ("dataset", "ipc", "method", "set", "copy")
    same = (*set_key, "architecture", "but_for_augmentation")
    for other in results:
        alike = all(other.key[key] == result.key[key] for key in same)
        if alike and result.key["augmented"] and not other.key["augmented"]:
            return other
    return None
