"""Transfer and scores: what is compared with what, by hand; and the heat map."""

import math
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from commandline import invoke
from matplotlib.colors import Normalize
from records import record

from dcbench_bacon.data.sets import set_identity
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.field_types import LabelKind
from dcbench_bacon.reporting.figures import plots
from dcbench_bacon.reporting.figures.figure_files import save
from dcbench_bacon.reporting.numbers import comparison, longform, scores
from dcbench_bacon.reporting.numbers.contents import captioned
from dcbench_bacon.reporting.printing import rendering
from dcbench_bacon.schema import Cell, Record
from dcbench_bacon.store import Store

GOLDEN = Path(__file__).parents[1] / "golden"


def made(
    method: str,
    accuracies: tuple[float, ...],
    *,
    seed: int = 0,
    ipc: int = 10,
    network: str = "ConvNet",
    distilled_on: str | None = None,
    rules: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **others: Any,
) -> Record:
    """A record whose protocol and settings differ as given."""
    plain = record(
        Cell(method, "cifar10", ipc, seed), accuracies, architecture=network, **others
    )
    changed: dict[str, Any] = {"architectures": (network,), **(rules or {})}
    protocol = msgspec.structs.replace(plain.recipe.protocol, **changed)
    learnt = method not in ("random", "whole")
    own = {"architecture": distilled_on or "ConvNet"} if learnt else {}
    recipe = msgspec.structs.replace(
        plain.recipe, protocol=protocol, settings={**own, **(settings or {})}
    )
    return msgspec.structs.replace(
        plain, recipe=recipe, synthetic_bytes=120_400, label_bytes=400
    )


FIGURES = ("ipc10-paper-final", "ipc10-paper-best_test")
RECIPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{8}")  # changes with every new key
PLAIN = {"augmentation": "none"}


def records() -> list[Record]:
    """Two methods with their references, with and without augmentation."""
    return [
        made("random", (0.25, 0.27)),
        made("random", (0.20, 0.22), rules=PLAIN),
        made("whole", (0.85,), ipc=0, rules={"epochs": 101}),
        made("dm", (0.48, 0.50)),
        made("dm", (0.49, 0.51), seed=1),
        made("dm", (0.40, 0.44), rules=PLAIN),
        made("bacon", (0.62, 0.64, 0.61)),
        made("dm", (0.30, 0.31), network="MLP"),
        made("bacon", (0.45,), network="MLP", selection="best_test"),
        made("idm", (0.5, 0.52), network="ResNet18", distilled_on="ConvNetD4"),
        made("dm", (0.9,), preset="quick", digest="00000009"),
        made("dm", (), status="failed"),
    ]


def printed(frame: pd.DataFrame, format: str) -> str:
    """The text of a table of either kind."""
    made = captioned("scores" if "lrs" in frame else "transfer", frame)
    return rendering.render(made, format)


@cache
def outputs() -> dict[str, str]:
    """The text of every golden file."""
    long = longform.frame(records())
    found = {
        "transfer": comparison.transfer(long),
        "scores": comparison.scores(long),
    }
    return {
        f"{name}.{kind}": RECIPE.sub("set-protocol", printed(table, format))
        for name, table in found.items()
        for kind, format in (("csv", "csv"), ("md", "md"), ("tex", "latex"))
    }


def test_golden() -> None:
    for name, text in outputs().items():
        assert text == (GOLDEN / name).read_text(encoding="utf-8"), name


def scored(found: list[Record], **values: object) -> "pd.Series[Any]":
    """The one row of the scores with these values."""
    table = comparison.scores(longform.frame(found))
    for key, value in values.items():
        table = table[table[key] == value]
    (_, row), *others = list(table.iterrows())
    assert not others
    return row


def test_scores_by_hand() -> None:
    table = comparison.scores(longform.frame(records()))
    row = table[(table["method"] == "dm") & (table["sets"] == 2)].iloc[0]
    ours, theirs = [[0.48, 0.50], [0.49, 0.51]], [[0.25, 0.27]]
    assert row["accuracy_mean"] == pytest.approx(49.5)
    assert row["std_sets"] == pytest.approx(100 * scores.between_sets(ours))
    assert row["std_networks"] == pytest.approx(100 * scores.between_networks(ours))
    interval = scores.bootstrap(ours, theirs)
    assert row["gain"] == pytest.approx(23.5)
    assert row["gain_low"] == pytest.approx(100 * interval.low)
    assert row["gain_high"] == pytest.approx(100 * interval.high)
    hlr, ior = 0.85 - 0.495, 0.495 - 0.26
    assert row["hlr"] == pytest.approx(hlr)
    assert row["ior"] == pytest.approx(ior)
    assert row["lrs"] == pytest.approx(scores.label_robust_score(hlr, ior))
    expected = scores.augmentation_robust_score(ior, 0.42 - 0.21)
    assert row["ars"] == pytest.approx(expected)
    assert row["distillation_seconds"] == pytest.approx(2.0)
    assert row["evaluation_seconds"] == pytest.approx(2 * 1.5)
    assert (row["set_bytes"], row["label_bytes"]) == (120_400, 400)


@pytest.mark.parametrize(
    ("rules", "network"),
    [({"learning_rate": 0.5}, "ConvNet"), (PLAIN, "ConvNet"), ({}, "MLP")],
)
def test_references_of_another_protocol_do_not_count(
    rules: dict[str, Any], network: str
) -> None:
    found = [
        made("dm", (0.5,)),
        made("random", (0.2,), rules=rules, network=network),
        made("whole", (0.8,), ipc=0, rules=rules, network=network),
    ]
    row = scored(found, method="dm")
    for key in ("gain", "hlr", "ior", "lrs", "ars"):
        assert math.isnan(row[key]), key


def test_epochs_may_differ_for_the_whole_set_alone() -> None:
    rules = {"epochs": 8}
    references = [
        made("random", (0.2,), rules=rules),
        made("whole", (0.8,), ipc=0, rules=rules),
    ]
    row = scored([made("dm", (0.5,)), *references], method="dm")
    assert math.isnan(row["ior"])
    assert row["hlr"] == pytest.approx(0.3)


def test_more_networks_are_the_same_protocol() -> None:
    found = [
        made("dm", (0.5,), rules={"architectures": ("ConvNet", "MLP"), "networks": 2}),
        made("random", (0.2,)),
    ]
    assert scored(found, method="dm")["ior"] == pytest.approx(0.3)


def test_random_images_are_as_many_and_the_whole_set_is_one() -> None:
    found = [
        made("dm", (0.5,), ipc=10),
        made("random", (0.2,), ipc=1),
        made("whole", (0.8,), ipc=0),
    ]
    row = scored(found, method="dm")
    assert math.isnan(row["ior"])
    assert row["hlr"] == pytest.approx(0.3)


def test_other_presets_are_no_reference() -> None:
    found = [made("dm", (0.5,)), made("random", (0.2,), preset="quick")]
    table = comparison.scores(longform.frame(found), presets=("paper", "quick"))
    assert table["ior"].isna().all()


def test_what_was_overridden_is_compared_by_what_it_is() -> None:
    """ARS takes a run with ``--set protocol.augmentation=none``."""
    plain = [made("dm", (0.4,), rules=PLAIN), made("random", (0.2,), rules=PLAIN)]
    overridden = [
        msgspec.structs.replace(
            each,
            recipe=msgspec.structs.replace(
                each.recipe, overrides={"protocol.augmentation": "none"}
            ),
        )
        for each in plain
    ]
    found = [made("dm", (0.5,)), made("random", (0.1,)), *overridden]
    row = scored(found, method="dm", preset="paper")
    assert row["ars"] == pytest.approx(scores.augmentation_robust_score(0.4, 0.2))


def test_any_method_may_be_held_against_another() -> None:
    found = [made("dm", (0.5, 0.52)), made("idm", (0.6, 0.63)), made("random", (0.2,))]
    table = comparison.scores(longform.frame(found), against="dm").set_index("method")
    interval = scores.bootstrap([[0.6, 0.63]], [[0.5, 0.52]])
    assert table["gain"]["idm"] == pytest.approx(100 * interval.difference)
    assert table["gain_high"]["idm"] == pytest.approx(100 * interval.high)
    assert table["gain"]["random"] == pytest.approx(-31)
    assert math.isnan(table["gain"]["dm"])
    assert "Over DM" in printed(table.reset_index(), "md")
    assert table["ior"]["idm"] == pytest.approx(0.615 - 0.2)


def test_a_learned_rate_is_part_of_the_set() -> None:
    """MTT's; the random images beside it have none."""
    learned = {"use_learned_rate": True}
    found = [
        made("mtt", (0.5,), rules=learned),
        made("mtt", (0.3,)),
        made("random", (0.2,)),
        made("whole", (0.8,), ipc=0, rules={"epochs": 8}),
    ]
    table = comparison.scores(longform.frame(found))
    own = table[table["method"] == "mtt"]
    assert sorted(own["ior"]) == pytest.approx([0.1, 0.3])
    assert sorted(own["hlr"]) == pytest.approx([0.3, 0.5])


def test_hard_labels_are_recovered_by_hard_labels_alone() -> None:
    taught = {"teachers": ("ConvNet",), "loss": "kl"}
    found = [
        made("dm", (0.5,), rules=taught),
        made("random", (0.2,), rules=taught),
        made("whole", (0.8,), ipc=0, rules=taught),
    ]
    row = scored(found, method="dm")
    assert row["ior"] == pytest.approx(0.3)
    assert math.isnan(row["hlr"])
    assert math.isnan(row["lrs"])


@pytest.mark.parametrize("reverse", [False, True])
def test_of_several_whole_sets_the_one_of_its_recipe_counts(reverse: bool) -> None:
    """Not the first in some order; without such a one the longest."""
    passes = {"protocol.epochs": "8"}
    found = [
        made("dm", (0.5,)),
        made("whole", (0.70,), ipc=0, rules={"epochs": 8}, overrides=passes),
        made("whole", (0.80,), ipc=0, rules={"epochs": 101}),
        made("whole", (0.85,), ipc=0, rules={"epochs": 301}, overrides=passes),
    ]
    without = [each for each in found if each.recipe.protocol.epochs != 101]
    for records, hlr, told in (
        (found, 0.3, "101 epochs, those of its recipe"),
        (without, 0.35, "301 epochs, the most"),
    ):
        table = comparison.scores(longform.frame(records[:: -1 if reverse else 1]))
        row = table[table["method"] == "dm"].iloc[0]
        assert row["hlr"] == pytest.approx(hlr)
        text = printed(table, "md")
        assert f"Whole data set: of {len(records) - 1} recipes" in text
        assert told in text
        assert f"{row['whole_recipe']} is used" in text
        assert row["whole_recipe"] in printed(table, "csv")


@pytest.mark.parametrize("reverse", [False, True])
def test_of_several_recipes_the_one_without_set_is_held_against(reverse: bool) -> None:
    """Without such a one the newest."""

    def at(record: Record, utc: str) -> Record:
        where = msgspec.structs.replace(record.environment, utc=utc)
        return msgspec.structs.replace(record, environment=where)

    changed = {"steps": "7"}
    found = [
        made("idm", (0.6,)),
        made("dm", (0.5,)),
        at(
            made("dm", (0.4,), settings={"steps": 7}, overrides=changed),
            "2025-03-01T00:00:00Z",
        ),
        at(
            made("dm", (0.3,), settings={"steps": 8}, overrides=changed),
            "2025-02-01T00:00:00Z",
        ),
    ]
    for records, gain, told in (
        (found, 10, "without --set"),
        ([found[0], *found[2:]], 20, "the newest"),
    ):
        frame = longform.frame(records[:: -1 if reverse else 1])
        table = comparison.scores(frame, against="dm")
        row = table[table["method"] == "idm"].iloc[0]
        assert row["gain"] == pytest.approx(gain)
        text = printed(table, "md")
        assert f"{row['against_recipe']} is used ({told})" in text


def test_one_reference_needs_no_note() -> None:
    table = comparison.scores(
        longform.frame([made("dm", (0.5,)), made("random", (0.2,))])
    )
    assert "is used" not in printed(table, "md")


@pytest.mark.parametrize(
    ("kind", "method", "scored_as_hard"),
    [
        ("hard", "sre2l", True),
        ("soft", "dm", False),
        ("unknown", "dm", True),
        ("unknown", "sre2l", False),
    ],
)
def test_sets_with_soft_labels_recover_no_hard_ones(
    kind: LabelKind, method: str, scored_as_hard: bool
) -> None:
    """Without a teacher; what older records do not say is known of the methods."""
    own = msgspec.structs.replace(made(method, (0.5,)), label_kind=kind)
    references = [made("random", (0.2,)), made("whole", (0.8,), ipc=0)]
    row = scored([own, *references], method=method)
    assert row["ior"] == pytest.approx(0.3)
    assert math.isnan(row["hlr"]) != scored_as_hard
    assert math.isnan(row["lrs"]) != scored_as_hard


def test_a_record_says_what_its_labels_are() -> None:
    one_hot = torch.eye(3).repeat(2, 1)
    smooth = one_hot.clone()
    smooth[4] = torch.tensor([0.9, 0.1, 0.0])
    for labels, kind in ((one_hot, "hard"), (smooth, "soft")):
        synthetic = SyntheticSet(torch.zeros(6, 1, 8, 8), labels)
        assert set_identity.set_facts(synthetic)["label_kind"] == kind


def test_ars_is_of_one_way_of_augmenting() -> None:
    """With two of them, each has its own; the training without has none."""
    policy = {"augmentation": "randaugment"}
    found = [
        made(method, (accuracy,), rules=rules)
        for method, values in (("dm", (0.5, 0.45, 0.4)), ("random", (0.2, 0.2, 0.3)))
        for accuracy, rules in zip(values, ({}, policy, PLAIN), strict=True)
    ]
    for order in (found, found[::-1]):
        table = comparison.scores(longform.frame(order))
        own = table[table["method"] == "dm"].sort_values("accuracy_mean")["ars"]
        expected = [scores.augmentation_robust_score(x, 0.1) for x in (0.25, 0.3)]
        plain, *augmented = own
        assert math.isnan(plain)
        assert augmented == pytest.approx(expected)


def test_one_set_evaluated_twice_is_one_row() -> None:
    """A second run trains further networks, and the first ones again."""
    first = made("dm", (0.5, 0.6), digest="0000000a")
    again = made("dm", (0.5, 0.6), digest="0000000b")
    more = made("dm", (0.3,), network="MLP", digest="0000000c")
    table = comparison.transfer(longform.frame([first, again, more]))
    assert list(table["n"]) == [2, 1]
    assert len(set(table.index)) == 1
    text = printed(table, "md")
    assert text.count("| DM ") == 1


def test_rows_of_one_set_under_two_protocols_are_told_apart() -> None:
    """Also where each has networks of its own."""
    found = [
        made("dm", (0.5,)),
        made("dm", (0.6,), network="MLP", rules={"epochs": 8}),
    ]
    table = comparison.transfer(longform.frame(found))
    text = printed(table, "md")
    assert "Recipe" in text
    assert all(recipe in text for recipe in table.index)


def test_two_recipes_are_two_rows() -> None:
    found = [made("dm", (0.5,)), made("dm", (0.6,), settings={"steps": 7})]
    table = comparison.transfer(longform.frame(found))
    assert sorted(table["accuracy_mean"]) == [50.0, 60.0]
    text = printed(table, "md")
    assert text.count("| DM ") == 2
    assert all(recipe in text for recipe in table.index)


@pytest.mark.parametrize("make", [comparison.transfer, comparison.scores])
def test_two_sets_of_one_seed_are_two_rows(make: Any) -> None:
    """Neither takes the place of the other, nor its networks; nor are they pooled."""
    replace = msgspec.structs.replace
    found = [
        replace(
            made("dm", values, digest=digest, network=network), synthetic_sha256=sha
        )
        for values, digest, network, sha in (
            ((0.5, 0.5), "0000000a", "ConvNet", "a" * 64),
            ((0.6, 0.6, 0.6), "0000000b", "ConvNet", "b" * 64),
            ((0.5, 0.5), "0000000c", "ConvNet", "a" * 64),  # the first one again
            ((0.3,), "0000000d", "MLP", "b" * 64),
        )
    ]
    for order in (found, found[::-1]):
        table = make(longform.frame(order))
        rows = table[["architecture", "accuracy_mean", "sets", "n"]].itertuples()
        first, second = sorted(set(table.index), key=len)
        assert sorted(map(tuple, rows)) == [
            (first, "ConvNet", 50.0, 1, 2),
            (second, "ConvNet", 60.0, 1, 3),
            (second, "MLP", 30.0, 1, 1),
        ]
        assert second in printed(table, "md")


def test_order_of_records_changes_nothing() -> None:
    shuffled = records()
    random.Random(3).shuffle(shuffled)
    for make in (comparison.transfer, comparison.scores):
        pd.testing.assert_frame_equal(
            make(longform.frame(shuffled)), make(longform.frame(records()))
        )


def test_selection_is_always_told() -> None:
    long = longform.frame(records())
    for table in (comparison.transfer(long), comparison.scores(long)):
        text = printed(table, "md")
        assert "45.00 (n=1)†" in text or "45.00†" in text
        assert "optimistic" in text
        assert "selection final" in text


@pytest.mark.parametrize("kind", ["csv", "md", "latex", "html"])
def test_no_records_is_an_empty_table(kind: str) -> None:
    long = longform.frame([])
    for table in (comparison.transfer(long), comparison.scores(long)):
        assert table.empty
        assert printed(table, kind)


@pytest.mark.slow
def test_figures(tmp_path: Path) -> None:
    table = comparison.transfer(longform.frame(records()))
    for format, begins in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        paths = save(plots.transfer(table), tmp_path / "one", format)
        again = save(plots.transfer(table), tmp_path / "two", format)
        assert [path.name for path in paths] == [
            f"transfer-cifar10-{name}.{format}" for name in FIGURES
        ]
        for first, second in zip(paths, again, strict=True):
            assert first.read_bytes().startswith(begins)
            assert first.read_bytes() == second.read_bytes()


def test_the_whole_set_is_a_row_of_every_figure(tmp_path: Path) -> None:
    found = [
        made("whole", (0.8,), ipc=0),
        made("dm", (0.5,), ipc=1),
        made("dm", (0.6,), ipc=10),
    ]
    whole = comparison.transfer(longform.frame(found[:1]))
    (path,) = save(plots.transfer(whole), tmp_path, "svg")
    assert "CIFAR-10, all images" in path.read_text()
    every = comparison.transfer(longform.frame(found))
    paths = save(plots.transfer(every), tmp_path, "svg")
    assert [path.name.split("-")[2] for path in paths] == ["ipc1", "ipc10"]
    for path, accuracy in zip(paths, ("50.0", "60.0"), strict=True):
        text = path.read_text()
        assert "Whole data set" in text
        assert "80.0" in text
        assert accuracy in text


def test_no_name_leaves_the_folder(tmp_path: Path) -> None:
    found = [record(Cell("dm", "../../up", 1), (0.5,))]
    table = comparison.transfer(longform.frame(found))
    (path,) = save(plots.transfer(table), tmp_path / "in", "png")
    assert path.resolve().parent == (tmp_path / "in").resolve()


def test_the_heat_map_shows_the_table() -> None:
    table = comparison.transfer(longform.frame(records()))
    table = table[table["selection"] == "final"].copy()
    table["ipc"] = 10
    figure = plots.heat_map(table)
    axes = figure.axes[0]
    words = [text.get_text() for text in axes.texts]
    for row in table.to_dict("records"):
        assert f"{row['accuracy_mean']:.1f}" in words
    assert "CIFAR-10, 10 images per class" in axes.get_title()
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns == ["ConvNet", "MLP", "ResNet18"]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows[0].startswith("Random")
    assert "Whole data set" in rows
    assert any("(ConvNetD4)" in row for row in rows)
    (image,) = axes.get_images()
    measured = table["accuracy_mean"].sort_values().tolist()
    shown: Any = np.ma.masked_invalid(np.ma.asarray(image.get_array())).compressed()
    assert sorted(shown.tolist()) == pytest.approx(measured)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_figures_can_be_read_on_their_colour(value: float) -> None:
    """Contrast of at least 4.5 : 1, as WCAG 2 asks."""

    def luminance(color: tuple[float, ...]) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in color[:3]
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    scale = Normalize(0, 1)
    ink = plots._ink(scale, value)
    light = luminance(plots._MAP(value))
    other = 1.0 if ink == "white" else 0.0
    high, low = max(light, other), min(light, other)
    assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.slow
def test_the_commands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path).open()
    for number, each in enumerate(records()):
        store.write(msgspec.structs.replace(each, digest=f"{number:08d}"))
    for what in ("transfer", "scores"):
        result = invoke("table", "--what", what, "--output", tmp_path)
        assert result.exit_code == 0, result.output
        assert "| CIFAR-10" in result.output
    result = invoke("plot", "transfer", "--output", tmp_path, "--format", "svg")
    assert result.exit_code == 0, result.output
    paths = [Path(line) for line in result.stdout.split()]
    assert len(paths) == 2
    assert all(path.read_text().startswith("<?xml") for path in paths)
    result = invoke("plot", "transfer", "--output", tmp_path, "--preset", "demo")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "Try --preset paper" in caplog.text


if __name__ == "__main__":
    for _name, _text in outputs().items():
        (GOLDEN / _name).write_text(_text, encoding="utf-8")
