"""Scores of synthetic sets from accuracies: pure functions, fractions throughout.

A method's accuracies come as one list a synthetic set (a seed), each with one accuracy
a network trained on that set. LRS and ARS are those of DD-Ranking (Li et al., 2025),
which defines them on fractions, so that they lie in [0, 1].
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
CONFIDENCE = 0.95
WEIGHT = 0.5  # of both scores, as DD-Ranking has it

Accuracies = Sequence[Sequence[float]]
"""One list a synthetic set, one accuracy in [0, 1] a network."""


class Interval(NamedTuple):
    """A difference of two means and the bounds of its confidence interval."""

    difference: float
    low: float
    high: float


def mean(sets: Accuracies) -> float:
    """The mean over sets of the mean over the networks of each."""
    return float(np.mean([np.mean(networks) for networks in sets]))


def between_sets(sets: Accuracies) -> float:
    """Sample deviation (n - 1) of the means of the sets; nan for a single set."""
    return _deviation([float(np.mean(networks)) for networks in sets])


def between_networks(sets: Accuracies) -> float:
    """Mean over sets of the sample deviation (n - 1) among the networks of a set.

    Sets with a single network have none and do not count; nan if all are such.
    """
    found = [_deviation(networks) for networks in sets if len(networks) > 1]
    return float(np.mean(found)) if found else math.nan


def bootstrap(
    first: Accuracies,
    second: Accuracies,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """A percentile interval of how much better the first method is than the second.

    Each resample draws, for either method and independently, as many sets as there
    are, with replacement, and as many networks as it has of every set drawn. With a
    single set the interval holds the variation between networks alone. Percentile
    intervals of a handful of sets are too narrow: five sets are few.

    Args:
        first: accuracies of one method.
        second: accuracies of the other.
        seed: of the resampling.
        resamples: how many.
        confidence: share of the resampled differences between the bounds.

    Returns:
        The difference, and its bounds: nan if neither method has anything to resample.
    """
    difference = mean(first) - mean(second)
    if all(len(networks) == 1 for networks in (*first, *second)) and (
        len(first) == len(second) == 1
    ):
        return Interval(difference, math.nan, math.nan)
    stream = np.random.default_rng(seed)
    drawn = _resampled(first, stream, resamples) - _resampled(second, stream, resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(difference, float(low), float(high))


def hard_label_recovery(whole: float, hard: float) -> float:
    """HLR: what hard labels leave to the whole training set; lower is better.

    Args:
        whole: accuracy of networks trained on all real images.
        hard: accuracy of networks trained on the set with hard labels.
    """
    return whole - hard


def improvement_over_random(accuracy: float, random: float) -> float:
    """IOR: what the set adds to as many random real images; higher is better.

    Args:
        accuracy: of networks trained on the set, with labels of any kind.
        random: of networks trained on random images with labels of that kind.
    """
    return accuracy - random


def label_robust_score(hlr: float, ior: float, weight: float = WEIGHT) -> float:
    """LRS in [0, 1]: of ``weight * ior - (1 - weight) * hlr``."""
    return _scaled(weight * ior - (1 - weight) * hlr)


def augmentation_robust_score(
    augmented: float, plain: float, weight: float = WEIGHT
) -> float:
    """ARS in [0, 1], from two improvements over random images.

    Args:
        augmented: the improvement when both are trained on with augmentation.
        plain: the improvement without.
        weight: of the first.
    """
    return _scaled(weight * augmented + (1 - weight) * plain)


def _scaled(alpha: float) -> float:
    """Maps [-1, 1] to [0, 1], steeper towards 1: DD-Ranking's normalisation."""
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _resampled(
    sets: Accuracies, stream: np.random.Generator, count: int
) -> npt.NDArray[np.float64]:
    """The means of ``count`` hierarchical resamples."""
    sizes = np.array([len(networks) for networks in sets])
    padded = np.zeros((len(sets), sizes.max()))
    for row, networks in zip(padded, sets, strict=True):
        row[: len(networks)] = networks
    chosen = stream.integers(len(sets), size=(count, len(sets)))
    limits = sizes[chosen][..., None]
    place = np.arange(sizes.max())
    index = (stream.random((*chosen.shape, sizes.max())) * limits).astype(np.int64)
    values = np.where(place < limits, padded[chosen[..., None], index], 0.0)
    means: npt.NDArray[np.float64] = (values.sum(2) / limits[..., 0]).mean(1)
    return means
