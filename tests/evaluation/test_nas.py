"""Architecture search: the grid, rank correlations by hand, what a search finds."""

import math
import random
from collections.abc import Sequence

import pytest

from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.downstream import nas
from dcbench_bacon.networks import builder


def grid(**changes: tuple[object, ...]) -> nas.NetworkGrid:
    axes = {
        **{"depths": (1, 2), "widths": (8,), "norms": ("IN",)},
        **{"activations": ("AR",), "poolings": ("AP",)},
    }
    return nas.NetworkGrid(**{**axes, **changes})  # type: ignore[arg-type]


def floats(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values]


def test_names_of_a_grid() -> None:
    assert grid().names() == ["ConvNetD1W8", "ConvNetD2W8"]
    found = grid(norms=("IN", "BN"), activations=("ASwish",), poolings=("MP", "AP"))
    assert found.names() == [
        *("ConvNetD1W8ASwishMP", "ConvNetD1W8ASwish"),
        *("ConvNetD1W8BNASwishMP", "ConvNetD1W8BNASwish"),
        *("ConvNetD2W8ASwishMP", "ConvNetD2W8ASwish"),
        *("ConvNetD2W8BNASwishMP", "ConvNetD2W8BNASwish"),
    ]


@pytest.mark.slow
def test_all_of_a_grid_are_networks_and_no_two_the_same() -> None:
    names = grid(widths=(8, 12), **nas.AXES).names()
    assert len(set(names)) == len(names) == 2 * 2 * 5 * 4 * 3
    structures = {
        str(builder.build(name, channels=1, size=8, classes=2)) for name in names
    }
    assert len(structures) == len(names)


@pytest.mark.parametrize(
    ("axis", "value"),
    [("norms", "MP"), ("activations", "BN"), ("poolings", "XP"), ("norms", "none")],
)
def test_choices_of_another_axis_are_refused(axis: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"--{axis} {value}: write some of"):
        grid(**{axis: (value,)}).names()
    with pytest.raises(UsageError, match=f"--{axis} : write some of"):
        grid(**{axis: ()}).names()


@pytest.mark.parametrize(
    ("first", "second", "spearman", "kendall"),
    [
        ([1, 2, 3], [10, 20, 30], 1, 1),
        ([1, 2, 3], [3, 2, 1], -1, -1),
        # d = 0, 1, -1, 0: rho = 1 - 6 * 2 / (4 * 15); 5 of 6 pairs agree.
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8, 4 / 6),
        # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 over the root of
        # 4.5 * 5; tau-b: 5 agree, none disagrees, one tie: 5 / sqrt(5 * 6).
        ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5), 5 / math.sqrt(30)),
        # Ranks 1.5, 1.5, 3 against 1, 2.5, 2.5: covariance 0.75 over 1.5; one pair
        # agrees, one is tied in each.
        ([0, 0, 1], [0, 1, 1], 0.5, 0.5),
    ],
)
def test_correlations_by_hand(
    first: list[float], second: list[float], spearman: float, kendall: float
) -> None:
    first, second = floats(first), floats(second)
    found = nas.correlation(first, second)
    assert found == pytest.approx((spearman, kendall))
    assert nas.correlation(second, first) == pytest.approx(found)
    stretched = [math.exp(value) for value in first]  # only ranks count
    assert nas.correlation(stretched, second) == pytest.approx(found)


def kendall(first: list[int], second: list[int]) -> float:
    """Tau-b, pair by pair."""
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    signs = [
        (math.copysign(1, a) * (a != 0), math.copysign(1, b) * (b != 0))
        for a, b in ((first[i] - first[j], second[i] - second[j]) for i, j in pairs)
    ]
    apart = [sum(sign[side] != 0 for sign in signs) for side in (0, 1)]
    return sum(a * b for a, b in signs) / math.sqrt(apart[0] * apart[1])


def spearman(first: list[int], second: list[int]) -> float:
    """Pearson's correlation of average ranks."""

    def ranks(values: list[int]) -> list[float]:
        return [
            sum(other < value for other in values)
            + (sum(other == value for other in values) - 1) / 2
            for value in values
        ]

    one, other = ranks(first), ranks(second)
    middle = (len(first) - 1) / 2
    a, b = [rank - middle for rank in one], [rank - middle for rank in other]
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.mark.parametrize("seed", range(20))
def test_correlations_against_their_definitions(seed: int) -> None:
    draws = random.Random(seed)
    first = [0, 9, *(draws.randrange(6) for _ in range(12))]
    second = [4, 5, *(draws.randrange(6) for _ in range(12))]
    found = nas.correlation(floats(first), floats(second))
    assert found.spearman == pytest.approx(spearman(first, second))
    assert found.kendall == pytest.approx(kendall(first, second))


@pytest.mark.parametrize(
    ("first", "second"), [([], []), ([1], [1]), ([2, 2], [1, 3]), ([1, 3], [2, 2])]
)
def test_one_rank_alone_correlates_with_nothing(
    first: list[float], second: list[float]
) -> None:
    found = nas.correlation(floats(first), floats(second))
    assert all(math.isnan(value) for value in found)


def test_a_search_by_hand() -> None:
    proxy = [0.5, 0.9, 0.7, 0.8, 0.1]
    whole = [0.60, 0.70, 0.80, 0.75, 0.50]
    found = nas.search(proxy, whole, 3)
    assert found.best == 1  # the best on the set, not the best there is
    assert found.among_top == pytest.approx((-1.0, -1.0))  # 0.9 0.8 0.7: 0.70 0.75 0.80
    # Ranks 2 5 3 4 1 against 2 3 5 4 1: rho = 1 - 6 * 8 / (5 * 24); 7 of 10 agree.
    assert found.overall == pytest.approx((0.6, 0.4))


def test_the_top_is_of_the_set_and_of_equals_the_earlier() -> None:
    found = nas.search([0.9, 0.9, 0.9, 0.2], [0.1, 0.3, 0.2, 0.4], 2)
    assert found.best == 0
    assert math.isnan(found.among_top.spearman)  # two equals
    found = nas.search([0.8, 0.9, 0.8, 0.2], [0.1, 0.3, 0.7, 0.4], 2)
    assert found.among_top == pytest.approx((1.0, 1.0))  # 1 and 0, not 2
    whole = nas.search([0.8, 0.9, 0.8, 0.2], [0.1, 0.3, 0.7, 0.4], 9)
    assert whole.among_top == pytest.approx(whole.overall)
