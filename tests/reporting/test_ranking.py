"""Ranks of methods over data sets, and comparisons by paired intervals."""

import math

import msgspec
import pandas as pd
import pytest
from records import record
from scipy import stats

from dcbench_bacon.reporting.numbers import longform, scores
from dcbench_bacon.reporting.numbers.contents import table_of
from dcbench_bacon.reporting.numbers.ranking import OUTCOMES, order_of, ranking
from dcbench_bacon.schema import Cell, Record


def found(accuracies: dict[str, dict[str, list[float]]]) -> list[Record]:
    """One set per method and data set, with several networks each."""
    return [
        record(Cell(method, dataset, 10), tuple(networks))
        for dataset, methods in accuracies.items()
        for method, networks in methods.items()
    ]


def row_of(table: pd.DataFrame, method: str) -> dict[str, object]:
    (row,) = table[table["method"] == method].to_dict("records")
    return {str(name): value for name, value in row.items()}


def outcomes(table: pd.DataFrame, method: str) -> list[object]:
    row = row_of(table, method)
    return [row[name] for name in OUTCOMES]


THREE = {
    "mnist": {
        "dm": [0.90, 0.92, 0.91],
        "idm": [0.95, 0.97, 0.96],
        "bacon": [0.95, 0.97, 0.96],
    },
    "svhn": {"dm": [0.60, 0.62, 0.61], "idm": [0.50, 0.90, 0.52]},
    "cifar10": {"dm": [0.40]},  # one method is no comparison
}


def test_ranks_and_outcomes_by_hand() -> None:
    table = ranking(longform.frame(found(THREE)))
    assert row_of(table, "dm")["mean_rank"] == 2.5  # 3rd of three, 2nd of two
    assert row_of(table, "idm")["mean_rank"] == 1.25  # half of the first place, 1st
    assert row_of(table, "bacon")["mean_rank"] == 1.5
    assert [row_of(table, name)["best"] for name in ("dm", "idm", "bacon")] == [0, 2, 1]
    assert outcomes(table, "idm") == [1, 2, 0, 0]  # ties: bacon on mnist, dm on svhn
    assert outcomes(table, "dm") == [0, 1, 2, 0]
    assert list(table["method"]) == ["idm", "bacon", "dm"]


def test_the_order_that_intervals_allow_is_told() -> None:
    """On MNIST both are above random, and not above each other."""
    random = {"random": [0.80, 0.83, 0.81]}
    several = {
        **THREE,
        "mnist": THREE["mnist"] | random,
        "svhn": random | {"dm": [0.9]},
    }
    told = order_of(longform.frame(found(several)))
    assert told == [
        "MNIST, IPC 10: above random images by more than a 95 % interval: IDM, BACON, "
        "DM.",
        "MNIST, IPC 10: no order between IDM and BACON.",
        "SVHN, IPC 10: above random images by more than a 95 % interval: none.",
    ]


def test_whoever_has_no_order_is_told_apart() -> None:
    """Arms of a sweep and networks once had one name, and six arms made 15 pairs."""
    made: list[Record] = []
    for network in ("ConvNet", "MLP"):
        for weight in ("0", "0.5", "1"):
            base = record(
                Cell("bacon", "mnist", 1),
                (0.5, 0.7, 0.6),
                overrides={
                    "tv_weight": weight,
                },
            )
            judged = [
                msgspec.structs.replace(each, architecture=network)
                for each in base.evaluations
            ]
            settings = {"tv_weight": float(weight)}
            recipe = msgspec.structs.replace(base.recipe, settings=settings)
            made.append(
                msgspec.structs.replace(
                    base, evaluations=judged, recipe=recipe, digest=f"{len(made):08}"
                )
            )
    arms = "BACON (tv_weight=0), BACON (tv_weight=0.5) and BACON (tv_weight=1)"
    assert sorted(order_of(longform.frame(made))) == [
        f"MNIST, IPC 1, ConvNet: no order between {arms}.",
        f"MNIST, IPC 1, MLP: no order between {arms}.",
    ]


def test_a_reference_alone_is_compared_with() -> None:
    table = ranking(longform.frame(found(THREE)), against="dm")
    assert outcomes(table, "idm") == [1, 1, 0, 0]
    assert outcomes(table, "dm") == [0, 0, 0, 0]


def test_two_networks_are_not_tested() -> None:
    single = {"mnist": {"dm": [0.9, 0.9], "idm": [0.95, 0.95]}}
    table = table_of(found(single), "summary")
    assert outcomes(table.frame, "idm") == [0, 0, 0, 1]


def test_evaluations_never_mix_and_settings_are_competitors() -> None:
    """What --set changes in the protocol makes a case, in the method a competitor."""
    made = found({"mnist": {"dm": [0.9, 0.9], "bacon": [0.8, 0.8]}})
    replace = msgspec.structs.replace
    for each in made[:2]:
        longer = replace(each.recipe.protocol, epochs=9)
        overrides = {"protocol.epochs": "9"}
        recipe = replace(each.recipe, protocol=longer, overrides=overrides)
        made.append(replace(each, recipe=recipe, digest="a0000000"))
        overrides = {"tv_weight": "0"}
        recipe = replace(each.recipe, settings={"tv_weight": 0}, overrides=overrides)
        made.append(replace(each, recipe=recipe, digest="a0000001"))
    table = ranking(longform.frame(made))
    assert sorted(zip(table["method"], table["own_overrides"], strict=True)) == [
        *(("bacon", ""), ("bacon", "tv_weight=0")),
        *(("dm", ""), ("dm", "tv_weight=0")),
    ]
    cases = dict(zip(table["own_overrides"], table["cases"], strict=True))
    assert cases == {"": 2, "tv_weight=0": 1}


def test_the_whole_set_is_no_competitor() -> None:
    made = [*found(THREE), record(Cell("whole", "mnist", 0), (0.99, 0.99))]
    assert "whole" not in set(ranking(longform.frame(made))["method"])


def test_paired_interval_is_that_of_the_paired_t_test() -> None:
    first = {seed: {0: 0.5 + 0.02 * seed, 1: 0.52 + 0.01 * seed} for seed in range(4)}
    second = {seed: {0: 0.5, 1: 0.5 + 0.03 * (seed % 2)} for seed in range(1, 5)}
    shared = range(1, 4)
    ours, theirs = (
        [sum(each[seed].values()) / 2 for seed in shared] for each in (first, second)
    )
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    interval = scores.paired_interval(first, second)
    assert interval[1:] == pytest.approx((expected.low, expected.high))
    of_one_set = (
        {0: dict(enumerate(each))} for each in ((0.5, 0.7, 0.6), (0.4, 0.5, 0.3))
    )
    networks = scores.paired_interval(*of_one_set)
    expected = stats.ttest_rel([0.5, 0.7, 0.6], [0.4, 0.5, 0.3]).confidence_interval(
        0.95
    )
    assert networks[1:] == pytest.approx((expected.low, expected.high))
    assert math.isnan(scores.paired_interval({0: {0: 0.5}}, {1: {0: 0.4}}).low)
