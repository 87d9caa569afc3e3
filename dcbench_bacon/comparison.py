"""Sets against each other: across networks (transfer), and against their references.

Both tables are made from the long form of ``tables.frame``. Records of one set under
one protocol count together, whatever networks each trained. The index names set and
protocol, so that two recipes are two rows and never one mean.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from dcbench_bacon import scores as formulas
from dcbench_bacon.longform import CHANGED
from dcbench_bacon.wording import title

__all__ = ["SCORES", "TRANSFER", "scores", "transfer"]

RANDOM, WHOLE = "random", "whole"  # the methods that others are held against

TRANSFER = [
    *("dataset", "ipc", "method", "distilled_on", "architecture", "protocol"),
    *("accuracy_mean", "accuracy_std", "sets", "n", "profile", "selection"),
]
SCORES = [
    *("dataset", "ipc", "method", "architecture", "protocol", "accuracy_mean"),
    *("std_sets", "sets", "std_networks", "n", "gain", "gain_low", "gain_high", "against"),
    *("hlr", "ior", "lrs", "ars", "distillation_seconds", "evaluation_seconds"),
    *("set_bytes", "label_bytes", "profile", "selection"),
    *("against_recipe", "random_recipe", "whole_recipe"),
]
_NUMBERS = [
    *("accuracy_mean", "std_sets", "std_networks", "gain", "gain_low", "gain_high"),
    *("hlr", "ior", "lrs", "ars", "distillation_seconds", "evaluation_seconds"),
    *("set_bytes", "label_bytes"),
]
_SET = [
    *("dataset", "ipc", "method", "distilled_on", "protocol", "profile", "selection"),
    *("set", "judged", "comparable", "but_for_augmentation", "but_for_passes"),
    *("augmented", "taught"),
]


class _Result(NamedTuple):
    """The networks of one architecture trained on the sets of one recipe."""

    key: dict[str, Any]
    rows: pd.DataFrame

    @property
    def accuracies(self) -> list[list[float]]:
        """One list a set, fractions."""
        groups = self.rows.groupby("seed")["accuracy"]
        return [group.tolist() for _, group in groups]

    @property
    def recipe(self) -> str:
        """Set and protocol, as the index shows them."""
        return f"{self.key['set']}-{self.key['judged']}"

    @property
    def changed(self) -> bool:
        """Whether ``--set`` changed the recipe."""
        return bool(self.rows["changed"].any())

    def is_all(self, column: str) -> bool:
        """Whether every row has this property."""
        return bool(self.rows[column].all())


def _results(frame: pd.DataFrame, profiles: Sequence[str]) -> list[_Result]:
    """Finished evaluations by set and network, each network of a set once."""
    chosen = frame["profile"].str.removesuffix(CHANGED).isin(list(profiles))
    kept = frame[(frame["status"] == "done") & chosen]
    keys = [*_SET, "architecture"]
    kept = kept.drop_duplicates([*keys, "seed", "trial"])
    return [
        _Result(dict(zip(keys, tuple(key), strict=True)), group)
        for key, group in kept.groupby(keys, sort=False)
    ]


def _table(results: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """A frame of these columns, indexed by recipe, even when there is no row."""
    table = pd.DataFrame(results, columns=[*columns, "recipe"])
    return table.set_index("recipe")


def transfer(
    frame: pd.DataFrame, *, profiles: Sequence[str] = ("paper",)
) -> pd.DataFrame:
    """Accuracy of every set on every network, a row each; percent.

    ``distilled_on`` is the network of the distillation, empty for a selection of real
    images. ``accuracy_std`` pools all networks and seeds (ddof 1, missing if n is 1).

    Args:
        frame: the long form of ``tables.frame``; only records that are done count.
        profiles: whose records enter.
    """
    rows = []
    for result in _results(frame, profiles):
        percent = result.rows["accuracy"] * 100
        rows.append(
            {
                **result.key,
                **{"accuracy_mean": round(float(percent.mean()), 9)},
                **{"accuracy_std": float(percent.std(ddof=1)), "n": len(percent)},
                **{"sets": result.rows["seed"].nunique(), "recipe": result.recipe},
            }
        )
    numbers = dict.fromkeys(("accuracy_mean", "accuracy_std"), float)
    return _table(rows, TRANSFER).astype(numbers)


def scores(
    frame: pd.DataFrame,
    *,
    profiles: Sequence[str] = ("paper",),
    against: str = RANDOM,
) -> pd.DataFrame:
    """Accuracy with both deviations, scores against references, and cost.

    Accuracies, deviations and ``gain`` are percent; HLR, IOR, LRS and ARS are
    fractions, see the module ``scores``. What needs another method or the whole
    training set is missing where there is no record of it under the same protocol; HLR
    and LRS, which speak of hard labels, where a teacher labels the images or the set has
    soft labels. ARS is that of a training with augmentation, and takes a record of one without. Seconds are
    means over sets: of distilling one, and of training and testing the networks of the
    row on it.

    Args:
        frame: the long form of ``tables.frame``; only records that are done count.
        profiles: whose records enter.
        against: the method that ``gain`` is held against.
    """
    results = _results(frame, profiles)
    rows, notes = [], []
    for result in results:
        references = {
            name: _reference(result, results, name) for name in (against, RANDOM, WHOLE)
        }
        used = {name: found.result for name, found in references.items() if found}
        notes += [found.told for found in references.values() if found]
        rows.append(
            {
                **result.key,
                **_accuracy(result),
                **_gained(result, used, against),
                **_against(result, used, results),
                **_cost(result),
                "recipe": result.recipe,
            }
        )
    table = _table(rows, SCORES).astype(dict.fromkeys(_NUMBERS, float))
    table.attrs["notes"] = list(dict.fromkeys(filter(None, notes)))
    return table


def _accuracy(result: _Result) -> dict[str, float]:
    """Mean and both deviations, percent."""
    found = result.accuracies
    return {
        "accuracy_mean": round(100 * formulas.mean(found), 9),
        "std_sets": 100 * formulas.between_sets(found),
        "std_networks": 100 * formulas.between_networks(found),
        "sets": len(found),
        "n": sum(map(len, found)),
    }


class _Reference(NamedTuple):
    """What a result is held against, and how many results could have been.

    Attributes:
        result: the one that is used.
        candidates: how many there were.
    """

    result: _Result
    candidates: int

    @property
    def told(self) -> str:
        """Which one was used and why, where there was a choice; else empty."""
        if self.candidates == 1:
            return ""
        result, method = self.result, str(self.result.key["method"])
        if method == WHOLE:
            reason = "those of its recipe" if result.is_all("own_passes") else "the most"
            reason = f"{result.rows['passes'].max()} passes, {reason}"
        else:
            reason = "the newest" if result.changed else "without --set"
        return (
            f"{title(method)}: of {self.candidates} recipes that could be held "
            f"against, {result.recipe} is used ({reason})."
        )


def _reference(
    result: _Result, results: list[_Result], method: str
) -> _Reference | None:
    """The results of a reference under the same protocol on the same network.

    For the whole training set a pass is as many updates as hundreds over a small set:
    it has a number of passes of its own, and no number of images per class. Of several
    the one with the passes of its recipe is used, otherwise the one with the most; of
    several recipes of another method the one without ``--set``, and of these the
    newest.

    Args:
        result: what is held against it.
        results: all there are.
        method: of the reference.
    """
    same = ("but_for_passes",) if method == WHOLE else ("comparable", "ipc")
    shared = ("dataset", "architecture", *same)
    wanted = {key: result.key[key] for key in shared} | {"method": method}
    found = [
        other
        for other in results
        if _profile(other) == _profile(result) and wanted.items() <= other.key.items()
    ]
    if not found:
        return None
    preferred = _longest if method == WHOLE else _plainest
    return _Reference(max(found, key=preferred), len(found))


def _longest(result: _Result) -> tuple[bool, int, str]:
    """A key that is largest for the passes of the recipe, then for the most."""
    return result.is_all("own_passes"), int(result.rows["passes"].max()), result.recipe


def _plainest(result: _Result) -> tuple[bool, str, str]:
    """A key that is largest without ``--set``, then for the newest."""
    return not result.changed, str(result.rows["made"].max()), result.recipe


def _profile(result: _Result) -> str:
    """The profile, whatever was overridden: that is seen in set and protocol."""
    return str(result.key["profile"]).removesuffix(CHANGED)


def _gain(result: _Result, random: _Result | None) -> float:
    """Improvement over random images; nan without a record of them."""
    if random is None:
        return math.nan
    ours, theirs = formulas.mean(result.accuracies), formulas.mean(random.accuracies)
    return formulas.improvement_over_random(ours, theirs)


def _gained(
    result: _Result, references: dict[str, _Result], method: str
) -> dict[str, Any]:
    """The difference from another method with the bounds of its interval, percent."""
    found: dict[str, Any] = {"against": method}
    other = references.get(method)
    if other and result.key["method"] not in (method, WHOLE):
        interval = formulas.bootstrap(result.accuracies, other.accuracies)
        names = ("gain", "gain_low", "gain_high")
        found |= {name: 100 * v for name, v in zip(names, interval, strict=True)}
        found["against_recipe"] = other.recipe
    return found


def _against(
    result: _Result, references: dict[str, _Result], results: list[_Result]
) -> dict[str, Any]:
    """The scores that need other records; what there are."""
    found: dict[str, Any] = {}
    random, whole = references.get(RANDOM), references.get(WHOLE)
    is_reference = result.key["method"] in (RANDOM, WHOLE)
    hard = result.is_all("hard") and not result.key["taught"]
    if random and not is_reference:
        found["random_recipe"] = random.recipe
        found["ior"] = _gain(result, random)
        found["ars"] = _augmentation_score(result, random, results)
    if whole and hard and result.key["method"] != WHOLE:
        found["whole_recipe"] = whole.recipe
        reached = formulas.mean(whole.accuracies)
        ours = formulas.mean(result.accuracies)
        found["hlr"] = formulas.hard_label_recovery(reached, ours)
    if "hlr" in found and "ior" in found:
        found["lrs"] = formulas.label_robust_score(found["hlr"], found["ior"])
    return found


def _augmentation_score(
    result: _Result, random: _Result, results: list[_Result]
) -> float:
    """ARS of an augmented training; nan where none without was recorded."""
    plain = _without_augmentation(result, results)
    if plain is None:
        return math.nan
    images = _reference(plain, results, RANDOM)
    without = _gain(plain, images.result if images else None)
    return formulas.augmentation_robust_score(_gain(result, random), without)


def _without_augmentation(result: _Result, results: list[_Result]) -> _Result | None:
    """The same set without augmentation; one that is so itself has none."""
    same = ("dataset", "ipc", "method", "architecture", "set", "but_for_augmentation")
    for other in results:
        alike = all(other.key[key] == result.key[key] for key in same)
        if alike and result.key["augmented"] and not other.key["augmented"]:
            return other
    return None


def _cost(result: _Result) -> dict[str, float]:
    """Seconds and bytes, means over sets."""
    sets = result.rows.groupby("seed")
    fixed = ["distillation_seconds", "set_bytes", "label_bytes"]
    costs = sets[fixed].first().astype(float).mean()
    spent = float(sets["seconds"].sum().mean())
    return {"evaluation_seconds": spent, **{key: float(costs[key]) for key in fixed}}
