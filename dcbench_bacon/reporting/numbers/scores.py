"""Scores of synthetic sets from accuracies: pure functions of fractions.

The accuracies of a method are one list per synthetic set (per seed), with one accuracy
per network trained on that set. LRS and ARS are those of DD-Ranking (Li et al., 2025),
which defines them on fractions, so that they lie in [0, 1].
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST_UNITS = 3  # of a paired interval
WEIGHT = 0.5  # weight of both scores, as in DD-Ranking

Accuracies = Sequence[Sequence[float]]
"""One list per synthetic set, with one accuracy in [0, 1] per network."""


class Interval(NamedTuple):
    """A difference of two means and the bounds of its confidence interval."""

    difference: float
    low: float
    high: float


def mean(sets: Accuracies) -> float:
    """Return the mean over sets of the mean over the networks of each set."""
    return float(np.mean([np.mean(networks) for networks in sets]))


def between_sets(sets: Accuracies) -> float:
    """Return the sample deviation (n - 1) of the sets' means; NaN for one set."""
    return _deviation([float(np.mean(networks)) for networks in sets])


def between_networks(sets: Accuracies) -> float:
    """Return the mean over sets of the sample deviation (n - 1) within a set.

    Sets with a single network have no deviation and do not count; the result is NaN if
    no set has more.
    """
    deviations = [_deviation(networks) for networks in sets if len(networks) > 1]
    return float(np.mean(deviations)) if deviations else math.nan


def bootstrap(
    first: Accuracies,
    second: Accuracies,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return a percentile interval of the difference between two methods.

    Each resample draws, independently for either method, as many sets as there are,
    with replacement, and from every drawn set as many networks as it has. With a single
    set, the interval contains the variation between networks alone. Percentile
    intervals of few sets, such as five, are too narrow.

    Args:
        first: accuracies of one method.
        second: accuracies of the other, whose mean is subtracted.
        seed: seed of the resampling.
        resamples: number of resamples.
        confidence: share of the resampled differences between the bounds, in (0, 1).

    Returns:
        The difference and its bounds, which are NaN if there is nothing to resample.
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


def paired_interval(
    first: Mapping[int, Mapping[Any, float]],
    second: Mapping[int, Mapping[Any, float]],
    *,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return a Student t interval of the mean of paired differences.

    Sets are paired by their seed, and networks by their trial. The units are the
    differences of paired sets, each the mean over its networks; with a single pair of
    sets they are those of its networks, and the interval contains the variation
    between networks alone.

    Args:
        first: accuracies by seed and network.
        second: those that are subtracted.
        confidence: the confidence, in (0, 1).

    Returns:
        The mean difference and its bounds, which are NaN with fewer than three units:
        two accuracies of few test images may well differ by equal amounts.
    """
    sets = [
        [
            ours - second[seed][trial]
            for trial, ours in networks.items()
            if trial in second[seed]
        ]
        for seed, networks in first.items()
        if seed in second
    ]
    sets = [differences for differences in sets if differences]
    units = [float(np.mean(differences)) for differences in sets]
    if len(sets) == 1:
        (units,) = sets
    if len(units) < FEWEST_UNITS:
        return Interval(units[0] if units else math.nan, math.nan, math.nan)
    from scipy.special import stdtrit  # only for these intervals

    middle = math.fsum(units) / len(units)
    quantile = float(stdtrit(len(units) - 1, (1 + confidence) / 2))
    half = quantile * _deviation(units) / math.sqrt(len(units))
    return Interval(middle, middle - half, middle + half)


def hard_label_recovery(whole: float, hard: float) -> float:
    """Return HLR, the loss against the whole training set; lower is better.

    Args:
        whole: accuracy of networks trained on all real images.
        hard: accuracy of networks trained on the set with hard labels.
    """
    return whole - hard


def improvement_over_random(accuracy: float, random: float) -> float:
    """Return IOR, the gain over equally many random real images; higher is better.

    Args:
        accuracy: accuracy of networks trained on the set, with labels of any kind.
        random: accuracy of networks trained on random images with labels of that kind.
    """
    return accuracy - random


def label_robust_score(hlr: float, ior: float, weight: float = WEIGHT) -> float:
    """Return LRS in [0, 1], scaled from ``weight * ior - (1 - weight) * hlr``."""
    return _scaled(weight * ior - (1 - weight) * hlr)


def augmentation_robust_score(
    augmented: float, unaugmented: float, weight: float = WEIGHT
) -> float:
    """Return ARS in [0, 1], from two improvements over random images.

    Args:
        augmented: the improvement when networks are trained with augmentation.
        unaugmented: the improvement without augmentation.
        weight: weight of the first, in [0, 1].
    """
    return _scaled(weight * augmented + (1 - weight) * unaugmented)


def _scaled(alpha: float) -> float:
    """Map [-1, 1] to [0, 1], steeper towards 1, as DD-Ranking does."""
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _resampled(
    sets: Accuracies,
    stream: np.random.Generator,
    count: int,
    chosen: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the means of ``count`` hierarchical resamples.

    Args:
        sets: the accuracies.
        stream: the random numbers.
        count: the number of resamples.
        chosen: the sets of each resample; drawn if None.
    """
    sizes = np.array([len(networks) for networks in sets])
    padded = np.zeros((len(sets), sizes.max()))
    for row, networks in zip(padded, sets, strict=True):
        row[: len(networks)] = networks
    if chosen is None:
        chosen = stream.integers(len(sets), size=(count, len(sets)))
    limits = sizes[chosen][..., None]
    place = np.arange(sizes.max())
    index = (stream.random((*chosen.shape, sizes.max())) * limits).astype(np.int64)
    values = np.where(place < limits, padded[chosen[..., None], index], 0.0)
    means: npt.NDArray[np.float64] = (values.sum(2) / limits[..., 0]).mean(1)
    return means
