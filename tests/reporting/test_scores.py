"""Scores against values computed by hand, and the bootstrap against a plain loop."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcbench_bacon.reporting.numbers import scores

FIRST = [[0.62, 0.64], [0.60, 0.61]]
SECOND = [[0.50, 0.53], [0.51, 0.48]]


# specification (peers.md), 2: HLR .30 and IOR .15 give alpha -.075 and .238.
def test_label_robust_score_by_hand() -> None:
    hlr = scores.hard_label_recovery(0.85, 0.55)
    ior = scores.improvement_over_random(0.55, 0.40)
    assert hlr == pytest.approx(0.30)
    assert ior == pytest.approx(0.15)
    expected = (0.9277434863 - 0.3678794412) / (2.7182818285 - 0.3678794412)
    assert scores.label_robust_score(hlr, ior) == pytest.approx(expected)
    assert expected == pytest.approx(0.238, abs=5e-4)


@pytest.mark.parametrize(
    ("hlr", "ior", "weight", "expected"),
    [
        (-1.0, 1.0, 0.5, 1.0),
        (1.0, -1.0, 0.5, 0.0),
        (0.0, 0.0, 0.5, 0.2689414214),  # (1 - 1/e) / (e - 1/e) = 1 / (1 + e)
        (0.4, 0.2, 1.0, (math.exp(0.2) - math.exp(-1)) / (math.e - math.exp(-1))),
        (0.4, 0.2, 0.0, (math.exp(-0.4) - math.exp(-1)) / (math.e - math.exp(-1))),
        (0.4, 0.2, 0.75, (math.exp(0.05) - math.exp(-1)) / (math.e - math.exp(-1))),
    ],
)
def test_label_robust_score(
    hlr: float, ior: float, weight: float, expected: float
) -> None:
    assert scores.label_robust_score(hlr, ior, weight) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("augmented", "plain", "weight", "expected"),
    [
        (0.3, 0.1, 0.5, (math.exp(0.2) - math.exp(-1)) / (math.e - math.exp(-1))),
        (0.3, 0.1, 0.25, (math.exp(0.15) - math.exp(-1)) / (math.e - math.exp(-1))),
        (1.0, 1.0, 0.5, 1.0),
        (-1.0, -1.0, 0.3, 0.0),
    ],
)
def test_augmentation_robust_score(
    augmented: float, plain: float, weight: float, expected: float
) -> None:
    found = scores.augmentation_robust_score(augmented, plain, weight)
    assert found == pytest.approx(expected)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_scores_lie_between_0_and_1(hlr: float, ior: float, weight: float) -> None:
    found = scores.label_robust_score(hlr, ior, weight)
    assert -1e-9 <= found <= 1 + 1e-9
    assert scores.label_robust_score(hlr, ior + 0.1, 0.5) > (
        scores.label_robust_score(hlr, ior, 0.5)
    )


def test_both_deviations_by_hand() -> None:
    sets = [[0.62, 0.64], [0.60, 0.61], [0.5]]
    means = [0.63, 0.605, 0.5]
    within = [statistics.stdev(sets[0]), statistics.stdev(sets[1])]
    assert scores.mean(sets) == pytest.approx(statistics.fmean(means))
    assert scores.between_sets(sets) == pytest.approx(statistics.stdev(means))
    assert scores.between_networks(sets) == pytest.approx(statistics.fmean(within))
    assert math.isnan(scores.between_sets([[0.5, 0.6]]))
    assert math.isnan(scores.between_networks([[0.5], [0.6]]))


def slow_bootstrap(first: scores.Accuracies, second: scores.Accuracies) -> list[float]:
    """The definition, one resample after the other; the bounds at 95 %."""
    stream = random.Random(1)

    def resampled(sets: scores.Accuracies) -> float:
        chosen = [stream.choice(sets) for _ in sets]
        return statistics.fmean(
            statistics.fmean(stream.choice(networks) for _ in networks)
            for networks in chosen
        )

    drawn = sorted(resampled(first) - resampled(second) for _ in range(20_000))
    return [drawn[500], drawn[19_500]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FIRST, SECOND),
        ([[0.1, 0.5, 0.9], [0.2], [0.3, 0.4]], SECOND),  # unequal numbers
        ([[0.3, 0.5, 0.6, 0.8]], [[0.2, 0.3, 0.5]]),  # one set each
    ],
)
def test_bootstrap_is_the_plain_loop(
    first: scores.Accuracies, second: scores.Accuracies
) -> None:
    found = scores.bootstrap(first, second, resamples=20_000)
    assert found.difference == pytest.approx(scores.mean(first) - scores.mean(second))
    low, high = slow_bootstrap(first, second)
    # Two samples of 20,000 from distributions of few distinct values.
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)
    assert found.low <= found.difference <= found.high


def test_bootstrap_is_seeded() -> None:
    assert scores.bootstrap(FIRST, SECOND) == scores.bootstrap(FIRST, SECOND, seed=0)
    other = scores.bootstrap(FIRST, [[0.1, 0.3, 0.7], [0.2, 0.4, 0.5]], seed=1)
    assert other != scores.bootstrap(FIRST, [[0.1, 0.3, 0.7], [0.2, 0.4, 0.5]], seed=2)


def test_sets_that_differ_widen_the_interval() -> None:
    """Networks alike within sets, sets apart: pooling networks would hide it."""
    apart = scores.bootstrap([[0.4] * 20, [0.6] * 20], [[0.5] * 20] * 2)
    assert (apart.low, apart.high) == pytest.approx((-0.1, 0.1))
    alike = scores.bootstrap([[0.4, 0.6] * 10] * 2, [[0.5] * 20] * 2)
    assert alike.high - alike.low < 0.1


def test_a_single_network_has_no_interval() -> None:
    found = scores.bootstrap([[0.5]], [[0.4]])
    assert found.difference == pytest.approx(0.1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
