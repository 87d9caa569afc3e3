"""Results of sets, and the references that they are compared with.

Records of one set under one protocol count together, whatever networks each trained.
Sets of one recipe and seed that differ in their images or labels, as those of two
machines do, are never mixed: each is in a row of its own.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.wording import title

RANDOM, WHOLE = "random", "whole"  # the methods that others are compared with
_SET = [
    *("dataset", "ipc", "method", "distilled_on", "protocol", "preset", "selection"),
    *("set", "judged", "comparable", "but_for_augmentation", "but_for_epochs"),
    *("augmented", "taught", "copy"),
]
_RECIPE = ["dataset", "ipc", "method", "set", "seed"]  # shared by copies of a set


class SetResults(NamedTuple):
    """The networks of one architecture trained on the sets of one recipe.

    Each seed has one set.
    """

    key: dict[str, Any]
    rows: pd.DataFrame

    @property
    def accuracies(self) -> list[list[float]]:
        """Return one list of fractions per set."""
        groups = self.rows.groupby("seed")["accuracy"]
        return [group.tolist() for _, group in groups]

    @property
    def networks(self) -> dict[int, dict[Hashable, float]]:
        """Return the accuracies as fractions, by seed and network.

        A network is a trial under one of the protocol's augmentations, by its place.
        """
        places = pd.factorize(self.rows["augmentation"])[0]
        by_seed: dict[int, dict[Hashable, float]] = {}
        columns = (self.rows[name] for name in ("seed", "trial", "accuracy"))
        for place, seed, trial, accuracy in zip(places, *columns, strict=True):
            by_seed.setdefault(int(seed), {})[int(place), int(trial)] = accuracy
        return by_seed

    @property
    def recipe(self) -> str:
        """Return the digests of set and protocol, as the index shows them.

        Of several sets of one recipe and seed, all but the first have a number, from 2.
        """
        number = int(self.key["copy"]) + 1
        copy = f"#{number}" if number > 1 else ""
        return f"{self.key['set']}-{self.key['judged']}{copy}"

    @property
    def overrides(self) -> str:
        """Return what ``--set`` changed, as text."""
        return str(self.rows["overrides"].iloc[0])

    @property
    def changed(self) -> bool:
        """Return whether ``--set`` changed the recipe."""
        return bool(self.rows["changed"].any())

    def is_all(self, column: str) -> bool:
        """Return whether every row has a property."""
        return bool(self.rows[column].all())


def results_of(frame: pd.DataFrame, presets: Sequence[str]) -> list[SetResults]:
    """Return finished evaluations by set and network, each network of a set once."""
    chosen = frame["preset"].str.removesuffix(CHANGED).isin(list(presets))
    kept = frame[(frame["status"] == "done") & chosen]
    kept = kept.assign(copy=_copies(kept))
    keys = [*_SET, "architecture"]
    kept = kept.drop_duplicates([*keys, "augmentation", "seed", "trial"])
    return [
        SetResults(dict(zip(keys, tuple(key), strict=True)), group)
        for key, group in kept.groupby(keys, sort=False)
    ]


def _copies(rows: pd.DataFrame) -> "pd.Series[int]":
    """Return the number of each row's set among those of its recipe and seed, from 0.

    The set that was evaluated first comes first.
    """
    shas = rows["synthetic_sha256"]
    first = rows.groupby([*_RECIPE, "synthetic_sha256"])["made"].transform("min")
    age = (first + shas).groupby([rows[key] for key in _RECIPE])
    return age.transform(lambda ages: pd.factorize(ages, sort=True)[0]).astype(int)


class ReferenceResults(NamedTuple):
    """The result that another one is compared with.

    Attributes:
        result: the result that is used.
        candidates: number of results that could have been used.
    """

    result: SetResults
    candidates: int

    @property
    def told(self) -> str:
        """Return a note on which result is used and why; empty without a choice."""
        if self.candidates == 1:
            return ""
        result, method = self.result, str(self.result.key["method"])
        if method == WHOLE:
            reason = (
                "those of its recipe" if result.is_all("own_epochs") else "the most"
            )
            reason = f"{result.rows['epochs'].max()} epochs, {reason}"
        else:
            reason = "the newest" if result.changed else "without --set"
        return (
            f"{title(method)}: of {self.candidates} recipes that could serve as the "
            f"reference, {result.recipe} is used ({reason})."
        )


def reference(
    result: SetResults, results: list[SetResults], method: str
) -> ReferenceResults | None:
    """Return the results of a reference under the same protocol and network.

    One epoch on the whole training set has as many updates as hundreds of epochs on a
    small set, so the whole set has a number of epochs of its own, and it has no number
    of images per class. If there are several results, the one with the epochs of its
    recipe is used, otherwise the one with the most epochs. Of several recipes of
    another method, one without ``--set`` is preferred, and among these the newest.

    Args:
        result: the result that is to be compared.
        results: all results.
        method: the method of the reference.

    Returns:
        The reference; None if there is none.
    """
    same = ("but_for_epochs",) if method == WHOLE else ("comparable", "ipc")
    shared = ("dataset", "architecture", *same)
    wanted = {key: result.key[key] for key in shared} | {"method": method}
    candidates = [
        other
        for other in results
        if _preset(other) == _preset(result) and wanted.items() <= other.key.items()
    ]
    if not candidates:
        return None
    preferred = _longest if method == WHOLE else _plainest
    return ReferenceResults(max(candidates, key=preferred), len(candidates))


def _longest(result: SetResults) -> tuple[bool, int, str]:
    """Return a key that prefers the epochs of the recipe, then the most epochs."""
    return result.is_all("own_epochs"), int(result.rows["epochs"].max()), result.recipe


def _plainest(result: SetResults) -> tuple[bool, str, str]:
    """Return a key that prefers a recipe without ``--set``, then the newest."""
    return not result.changed, str(result.rows["made"].max()), result.recipe


def _preset(result: SetResults) -> str:
    """Return the preset without the mark of ``--set``.

    The digests of set and protocol already show what was overridden.
    """
    return str(result.key["preset"]).removesuffix(CHANGED)
