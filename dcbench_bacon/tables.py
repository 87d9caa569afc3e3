"""Records to tables: a pure function, the measured beside the published.

Every function gives the same output whatever the order of the records. Tables carry
the recipe digest as their index, so that two recipes are two rows and never one mean.
"""

import html
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pandas as pd
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from dcbench_bacon.errors import UsageError
from dcbench_bacon.published import cite, lookup
from dcbench_bacon.schema import Record

SUMMARY = (
    "dataset ipc method architecture accuracy_mean accuracy_std n published_mean "
    "published_source difference profile selection"
).split()
PHASES = ("data", "augmentation", "real forward", "synthetic", "queue", "update")
FORMATS = ("md", "csv", "latex", "html")

# Rows come in these orders; whatever else there is follows alphabetically.
_ORDER: dict[str, Sequence[str]] = {
    "dataset": "mnist fashion_mnist svhn cifar10 cifar100 tiny_imagenet".split(),
    "method": "random dm idm bacon bacon+idm bacon+dm".split(),
    "architecture": ("ConvNet", "ConvNetD4"),
    "profile": ("paper", "quick", "demo"),
}
_GROUP = "dataset ipc method architecture profile selection digest".split()
_TITLES = {
    **{name: name.upper() for name in "mnist svhn dm idm bacon dc dsa mtt".split()},
    **{"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"},
    **{"cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"},
    **{"imagenet1k": "ImageNet-1K", "imagenet100": "ImageNet-100"},
    **{"bacon+idm": "BACON + IDM", "bacon+dm": "BACON + DM", "digits": "Digits"},
    **{"random": "Random", "herding": "Herding", "whole": "Whole data set"},
    **{"k_center": "K-Center", "k_means": "K-Means"},
}
_MARKS = {"best_test": "†", "best_val": "‡"}
_NOTES = {
    "best_test": "† Chosen on the test set: optimistic.",
    "best_val": "‡ Pass chosen on a validation split held out of train.",
    "quick": "Profile quick: a reduced recipe, not comparable with published numbers.",
    "demo": "Profile demo: a reduced recipe, not comparable with published numbers.",
    "std": "Accuracy in percent: mean ± sample standard deviation (n - 1 in the "
    "denominator) over n trained networks, all networks and seeds pooled.",
    "difference": "Difference: measured minus published, in percentage points.",
    "sets": "Between sets: standard deviation over seeds of the means per seed. "
    "Between networks: mean over seeds of the deviation within a seed (n - 1 both).",
}


def _by(columns: Sequence[str]) -> Callable[[pd.Series], pd.Series]:
    """A sort key for ``sort_values``: known names first, in their order."""

    def key(column: pd.Series) -> pd.Series:
        known = {name: i for i, name in enumerate(_ORDER.get(str(column.name), ()))}
        if not known:
            return column
        return column.map(lambda name: f"{known.get(name, len(known)):03d}{name}")

    return key


def _sorted(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows by ``columns``, then renumbered."""
    return table.sort_values(list(columns), key=_by(columns), ignore_index=True)
