"""Sets that count together, and which of them others are held against.

Records of one set under one protocol count together, whatever networks each trained.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from dcbench_bacon.reporting.longform import CHANGED
from dcbench_bacon.reporting.wording import title

RANDOM, WHOLE = "random", "whole"  # the methods that others are held against
_SET = [
    *("dataset", "ipc", "method", "distilled_on", "protocol", "profile", "selection"),
    *("set", "judged", "comparable", "but_for_augmentation", "but_for_passes"),
    *("augmented", "taught"),
]


class SetResults(NamedTuple):
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


def results_of(frame: pd.DataFrame, profiles: Sequence[str]) -> list[SetResults]:
    """Finished evaluations by set and network, each network of a set once."""
    chosen = frame["profile"].str.removesuffix(CHANGED).isin(list(profiles))
    kept = frame[(frame["status"] == "done") & chosen]
    keys = [*_SET, "architecture"]
    kept = kept.drop_duplicates([*keys, "seed", "trial"])
    return [
        SetResults(dict(zip(keys, tuple(key), strict=True)), group)
        for key, group in kept.groupby(keys, sort=False)
    ]


class ReferenceResults(NamedTuple):
    """What a result is held against, and how many results could have been.

    Attributes:
        result: the one that is used.
        candidates: how many there were.
    """

    result: SetResults
    candidates: int

    @property
    def told(self) -> str:
        """Which one was used and why, where there was a choice; else empty."""
        if self.candidates == 1:
            return ""
        result, method = self.result, str(self.result.key["method"])
        if method == WHOLE:
            reason = (
                "those of its recipe" if result.is_all("own_passes") else "the most"
            )
            reason = f"{result.rows['passes'].max()} passes, {reason}"
        else:
            reason = "the newest" if result.changed else "without --set"
        return (
            f"{title(method)}: of {self.candidates} recipes that could be held "
            f"against, {result.recipe} is used ({reason})."
        )


def reference(
    result: SetResults, results: list[SetResults], method: str
) -> ReferenceResults | None:
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
    return ReferenceResults(max(found, key=preferred), len(found))


def _longest(result: SetResults) -> tuple[bool, int, str]:
    """A key that is largest for the passes of the recipe, then for the most."""
    return result.is_all("own_passes"), int(result.rows["passes"].max()), result.recipe


def _plainest(result: SetResults) -> tuple[bool, str, str]:
    """A key that is largest without ``--set``, then for the newest."""
    return not result.changed, str(result.rows["made"].max()), result.recipe


def _profile(result: SetResults) -> str:
    """The profile, whatever was overridden: that is seen in set and protocol."""
    return str(result.key["profile"]).removesuffix(CHANGED)
