"""The accuracies that a file's authors stored with their sets."""

import math
import re
from collections.abc import Mapping
from typing import Any

_MOST_NETWORKS = 100
_MOST_NUMBERS = 100_000
_NAME = re.compile(r"[\w.+:-]{1,60}")


def of_set(stored: Any, index: int, count: int) -> Mapping[str, tuple[float, ...]]:
    """Return the accuracies of one set, by network.

    VICO's ``accs_all_exps`` has one list per network, in which the numbers of all sets
    follow each other, equally many per set.

    Args:
        stored: the value in a stranger's file; parts with another layout are left out.
        index: index of the set in the file, from 0.
        count: number of sets in the file.

    Returns:
        Fractions in [0, 1]; networks whose numbers do not divide among the sets are
        left out.
    """
    if not isinstance(stored, dict) or len(stored) > _MOST_NETWORKS:
        return {}
    by_network = {}
    for name, values in stored.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            continue
        if not isinstance(values, list) or len(values) > _MOST_NUMBERS:
            continue
        share, rest = divmod(len(values), count)
        accuracies = values[index * share : (index + 1) * share]
        if share and not rest and all(map(_fraction, accuracies)):
            by_network[name] = tuple(map(float, accuracies))
    return by_network


def _fraction(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) and 0 <= value <= 1
