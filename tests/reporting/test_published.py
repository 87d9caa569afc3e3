"""Published numbers: where each comes from, and when a difference may be printed."""

import itertools
import re
from collections import Counter
from typing import Any, get_args

import msgspec
import pandas as pd
import pytest
from records import record, select

from dcbench_bacon.errors import UsageError
from dcbench_bacon.field_types import Selection
from dcbench_bacon.networks import builder
from dcbench_bacon.plugins import DATASETS, METHODS
from dcbench_bacon.protocol import Exemption, Protocol
from dcbench_bacon.recipes import digests, protocols
from dcbench_bacon.reporting.literature import agreement, published
from dcbench_bacon.reporting.literature.agreement import MeasuredRow
from dcbench_bacon.reporting.literature.references import results_of
from dcbench_bacon.reporting.numbers import longform, tables
from dcbench_bacon.reporting.numbers.contents import (
    captioned,
    published_table,
    table_of,
)
from dcbench_bacon.reporting.printing import rendering
from dcbench_bacon.reporting.printing.footnotes import Footnotes
from dcbench_bacon.reporting.wording import OBSTACLES, REMARKS
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell, Evaluation, Record

FOREIGN = {"ncfm", published.UNKNOWN}  # families that none of ours is of
COMPARABLE = [
    row
    for row in published.rows()
    if row.metric in published.ACCURACIES and not row.arm
]
DSA = "color_crop_cutout_flip_scale_rotate"
PLAIN = {"augmentation": "none", "epochs": 301}


def row_of(cell: Cell, accuracy: float = 0.5, **given: Any) -> "pd.Series[Any]":
    """The row of a summary of one record."""
    source = given.pop("source", None)
    presets = ("paper", "quick", "demo")
    frame = longform.frame([record(cell, (accuracy,), **given)])
    (_, row), *_ = tables.summary(frame, presets=presets, source=source).iterrows()
    return row


def test_the_file_is_sound() -> None:
    rows = published.rows()
    keys = {
        (r.source, r.method, r.dataset, r.ipc, r.architecture, r.metric, r.arm)
        for r in rows
    }
    assert len(keys) == len(rows) == 1291
    assert {row.source for row in rows} == set(published.SOURCES)
    used = {row.evaluation for row in rows if row.evaluation}
    assert used == set(published.EVALUATIONS)
    for row in rows:
        assert row.method == row.method.lower()
        if row.metric.startswith("test_accuracy"):
            assert 0 < row.mean < 100
            assert row.evaluation
        assert row.mean > 0
        assert row.std is None or 0 <= row.std < 10
        assert (row.ipc == 0) == (row.method == "whole")


def test_every_source_is_cited() -> None:
    for key, source in published.SOURCES.items():
        assert source.date in published.cite(key)
        assert len(source.citation) > 20


def test_families_and_teachers_are_of_names_that_exist() -> None:
    ours = {*protocols.protocol_names(), *published.KNOWN.families}
    behind = published.EVALUATIONS.values()
    assert {each.protocol for each in behind} <= ours | FOREIGN
    assert not ours & FOREIGN
    fields = Protocol.__struct_fields__
    for variants in published.KNOWN.families.values():
        assert all(key in fields for keys in variants for key in keys)


def test_every_name_is_registered_or_listed_as_not() -> None:
    listed = published.KNOWN.unregistered
    for registry, names, key in (
        (METHODS, {row.method for row in published.rows()}, "methods"),
        (DATASETS, {row.dataset for row in published.rows()}, "datasets"),
    ):
        there = {name.replace("-", "_") for name in registry.names()}
        assert names - there <= set(getattr(listed, key)) <= names
    networks = {row.architecture for row in published.rows()}
    for name in networks - {"", "original", "transfer", "unstated"}:
        builder.check(name)


EDC = [row for row in published.rows() if row.source.startswith("edc-table")]


def test_edcs_tables_are_complete() -> None:
    counts = Counter(row.source.removeprefix("edc-table") for row in EDC)
    assert counts == {"1": 103, "2": 90, "3": 30, "4": 24, "5": 36, "22": 5}
    assert all((row.std is not None) == (row.source == "edc-table1") for row in EDC)
    arms = {row.source for row in EDC if row.arm}
    assert arms == {"edc-table3", "edc-table4", "edc-table5"}
    # What two tables print alike, and the arms that are EDC as published.
    cells = {
        (row.source, row.method, row.ipc, row.architecture, row.arm): row.mean
        for row in EDC
        if row.dataset == "imagenet"
    }
    for (source, method, ipc, network, arm), mean in cells.items():
        other = cells.get(("edc-table2", method, ipc, network, ""), mean)
        # Of MobileNet-V2 and RDED, Table 1 has no cells.
        assert mean == other or arm or source == "edc-table2"
    best = "config F; alpha 0.50; weak augmentation; EMA evaluation"
    for network in ("resnet18", "resnet50", "resnet101"):
        where = (*("edc", 10), f"torchvision:{network}")
        assert cells["edc-table5", *where, best] == cells["edc-table1", *where, ""]


def test_an_arm_of_an_ablation_stands_beside_no_measurement() -> None:
    found = published.lookup("edc", "imagenet", 10, "torchvision:densenet121")
    assert found is not None
    assert not found.arm
    with pytest.raises(UsageError, match="--layout long"):
        published_table(source="edc-table4", layout="networks")
    long = published_table(source="edc-table4", layout="long").frame
    assert set(long["arm"].str.partition(";")[0]) == {"zeta 1.5"}


def test_a_column_for_each_method_and_network() -> None:
    table = published_table(source="edc-table1", layout="methods")
    lines = rendering.render(table, "md").splitlines()
    headings = [word.strip() for word in lines[2].strip("|").split("|")]
    assert headings[:4] == ["Data set", "IPC", "SRe2L, ResNet-18", "G-VBSM, ResNet-18"]
    assert len(headings) == 2 + 9
    assert sum(line.startswith("| ") for line in lines) == 1 + 15
    numbers = rendering.render(table, "csv").count("±")
    cells = table.frame["published_mean"].notna().sum()
    assert (numbers, cells) == (0, 103)


def test_gains_of_published_numbers() -> None:
    """The differences are those that the paper prints in Table 2."""
    table = published_table(source="edc-table2", layout="networks", gain_over="rded")
    gains = table.frame[table.frame["role"] == "gain"].set_index(["ipc", "column"])
    assert len(gains) == 45
    for ipc, network, gain in (
        (10, "torchvision:mobilenet_v2", 10.6),
        (30, "torchvision:shufflenet_v2_x0_5", 17.6),
        (40, "torchvision:resnet50", 0.4),
    ):
        assert gains.loc[(ipc, network), "gain"] == pytest.approx(gain)
    assert "| Gain over RDED |" in rendering.render(table, "md")


def test_the_default_is_the_own_source_where_there_is_one() -> None:
    own = {
        (row.method, row.dataset, row.ipc, row.architecture)
        for row in COMPARABLE
        if published.is_own(row) and published.SOURCES[row.source].default
    }
    assert len(own) > 100
    for method, dataset, ipc, architecture in own:
        found = published.lookup(method, dataset, ipc, architecture)
        assert found is not None
        assert published.is_own(found)
        assert found.architecture == architecture


@pytest.mark.parametrize(
    ("method", "dataset", "expected"),
    [
        ("mtt", "cifar10", {1: 46.3, 10: 65.3, 50: 71.6}),
        ("dm", "mnist", {1: 89.7, 10: 97.5, 50: 98.6}),
        ("dm", "cifar10", {1: 26.0, 10: 48.9, 50: 63.0, 500: 76.1}),
        ("dsa", "cifar10", {10: 52.1}),
        ("dsa", "fashion_mnist", {10: 84.6}),
        ("dc", "cifar100", {10: 25.2}),
        ("idm", "cifar10", {1: 45.6}),
        ("idm", "svhn", {1: 65.3}),
        ("bacon", "cifar10", {1: 45.62, 10: 62.06, 50: 70.06}),
        ("bacon", "mnist", {10: 97.3}),
        ("k_means", "cifar10", {10: 41.49}),
        ("k_center", "cifar10", {10: 14.7}),
        ("random", "mnist", {1: 64.9}),
        ("whole", "cifar10", {10: 84.8}),
    ],
)
def test_defaults(method: str, dataset: str, expected: dict[int, float]) -> None:
    for ipc, mean in expected.items():
        found = published.lookup(method, dataset, ipc, "ConvNet")
        assert found is not None
        assert found.mean == mean


def test_a_row_of_the_same_network_comes_first() -> None:
    found = published.lookup("ncfm", "cifar10", 50, "VGG11")
    assert found is not None
    assert (found.architecture, found.source) == ("VGG11", "ncfm-table4")
    found = published.lookup("dm", "tiny_imagenet", 50, "ConvNetD4")
    assert found is not None
    assert (found.mean, found.source) == (24.1, "dm-paper")


def test_doubtful_numbers_only_by_name() -> None:
    key = "ncfm-table4-doubtful"
    found = published.lookup("mtt", "cifar10", 10, "AlexNet")
    assert found is not None
    assert (found.source, found.architecture) == ("mtt-paper", "ConvNet")
    found = published.lookup("mtt", "cifar10", 10, "AlexNet", source=key)
    assert found is not None
    assert found.architecture == "AlexNet"


def test_sources_can_be_chosen() -> None:
    assert row_of(Cell("idm", "svhn", 1))["published_mean"] == 65.3
    other = row_of(Cell("idm", "svhn", 1), source="bacon-page-2024")
    assert other["published_mean"] == 69.45
    with pytest.raises(
        UsageError, match=r"Did you mean .*There are: bacon, edc, dc-paper"
    ):
        published.named("bacom")
    for nothing in ("nowhere", ""):
        with pytest.raises(UsageError, match="bacon-page-2024"):
            published.named(nothing)


@pytest.mark.parametrize(
    ("method", "dataset", "ipc", "printed"),
    [
        ("dm", "mnist", 1, 89.2),
        ("mtt", "cifar10", 50, 65.9),
        ("dsa", "cifar10", 10, 53.2),
        ("dsa", "fashion_mnist", 10, 86.6),
        ("dc", "cifar100", 10, 26.6),
        ("idm", "cifar10", 1, 45.2),
    ],
)
def test_bacons_page_as_printed(
    method: str, dataset: str, ipc: int, printed: float
) -> None:
    found = published.lookup(method, dataset, ipc, "ConvNet", source="bacon")
    assert found is not None
    assert found.mean == printed
    assert published.SOURCES[found.source].group == "bacon"


def test_no_difference_across_families_networks_presets_or_settings() -> None:
    """Over all published accuracies and everything that a measurement may be."""
    families = {*protocols.protocol_names(), *published.KNOWN.families}
    networks = {"ConvNet", "ConvNetD4", "ResNet18BN"}
    compared = set()
    # What an obstacle looks at, once.
    rows = {(row.evaluation, row.architecture): row for row in COMPARABLE}.values()
    for row, family, network, preset, changed, selection, epochs in itertools.product(
        rows,
        sorted(families),
        sorted(networks),
        ("paper", "quick"),
        (False, True),
        get_args(Selection),
        (300, 301, 1000, 1001),
    ):
        measured = MeasuredRow(
            family, network, preset, changed, selection, DSA, (), epochs
        )
        if agreement.obstacles(measured, row):
            continue
        behind = published.EVALUATIONS[row.evaluation]
        assert behind.protocol == family
        assert behind.epochs in (None, epochs)
        assert row.architecture == network
        assert (preset, changed) == ("paper", False)
        assert selection != "best_test" or behind.selection == "best_test"
        compared.add(family)
    ours = {"dc", "dc_2021", "dc_bench", "mtt", "sre2l", "rded", "gvbsm", "edc"}
    assert compared == ours


@pytest.mark.slow
def test_every_registered_method_under_every_protocol() -> None:
    """A difference is of what is published for this very evaluation."""
    found = []
    cells = {(r.method, r.dataset): r for r in COMPARABLE if published.is_own(r)}
    for row, name in itertools.product(cells.values(), protocols.protocol_names()):
        if row.method not in METHODS.names():
            continue
        cell = Cell(row.method, row.dataset, row.ipc)
        try:
            resolved = planning.resolve(cell, protocols.Request(protocol=name)).recipe
        except UsageError:  # whitened sets, which policies do not take
            continue
        judged = record(cell, (0.5,), architecture=row.architecture)
        digest = digests.digest(resolved)
        found.append(msgspec.structs.replace(judged, recipe=resolved, digest=digest))
    family = {each.digest: published.family(each.recipe.protocol) for each in found}
    table = tables.summary(longform.frame(found))
    compared = table[table["difference"].notna()]
    assert len(compared) > 20
    for index, shown in compared.iterrows():
        assert shown["published_protocol"] == family[str(index)]
        assert shown["protocol"] in ("dc", shown["published_protocol"])
        assert shown["architecture"] == shown["published_architecture"]


def under_augmentations(
    cell: Cell, mean: float, *, network: str = "ConvNet", **given: Any
) -> Record:
    """A record of two networks under each augmentation, the last the best."""
    names = ("none", DSA, "cifar_aug")
    rules = {"name": "dc_bench", **given.pop("protocol", {})}
    rules |= {"augmentation": "+".join(names)}
    plain = record(cell, (), architecture=network, protocol=rules, **given)
    found = [
        Evaluation(
            architecture=network,
            trial=trial,
            accuracy=mean + shift,
            epoch=1000,
            seconds=1.0,
            augmentation=name,
        )
        for name, shift in zip(names, (-0.03, 0.01, 0.02), strict=True)
        for trial in range(2)
    ]
    return msgspec.structs.replace(plain, evaluations=tuple(found))


def test_dc_bench_is_compared_under_its_own_evaluation_alone() -> None:
    """Each of its numbers of a network that it names, with the measured mean."""
    rows = [
        row
        for row in published.rows()
        if row.source == "dc-bench" and row.metric.endswith("_mean_augmentation")
    ]
    assert len(rows) == 59

    def shown_under(name: str) -> pd.DataFrame:
        found = [
            under_augmentations(
                Cell(row.method, row.dataset, row.ipc),
                row.mean / 100 + 0.01,
                network=row.architecture,
                protocol={"name": name},
            )
            for row in rows
        ]
        return tables.summary(longform.frame(found))

    ours = shown_under("dc_bench")
    assert sorted(ours["published_mean"]) == sorted(row.mean for row in rows)
    assert set(ours["n"]) == {6}
    assert list(ours["difference"]) == pytest.approx([1.0] * 59)
    for name in ("dc", "common"):
        others = shown_under(name)
        assert not set(others["published_metric"]) & {rows[0].metric}
        theirs = select(others, published_source="dc-bench")
        assert len(theirs)
        assert theirs["difference"].isna().all()


def test_mean_best_and_transfer_over_augmentations() -> None:
    cell = Cell("dm", "cifar10", 10)
    found = [
        under_augmentations(cell, 0.457),
        under_augmentations(cell, 0.30, network="MLP"),
        under_augmentations(cell, 0.40, network="ViT"),
        record(cell, (0.489,)),
    ]
    table = table_of(found, "augmentations")
    home, *others = table.frame.to_dict("records")
    assert (home["mean"], home["difference_mean"]) == pytest.approx((45.7, 0.0))
    assert (home["best"], home["best_augmentation"]) == (47.7, "cifar_aug")
    assert home["difference_best"] == pytest.approx(47.7 - 47.64)
    assert (home["transfer"], home["networks"]) == (35.0, 2)
    assert home["published_transfer"] == 29.41
    assert [home[name] for name in ("none", "DSA", "cifar_aug")] == [42.7, 46.7, 47.7]
    assert [other["architecture"] for other in others] == ["MLP", "ViT"]
    assert all(other["transfer"] != other["transfer"] for other in others)
    results = results_of(longform.frame(found[:1]), ("paper",))
    assert len(results[0].networks[0]) == 6  # pairs of networks, none lost
    text = rendering.render(table, "md")
    assert "45.70 (45.7, +0.00)" in text
    assert "47.70† cifar_aug (47.64, +0.06)" in text
    assert "35.00 (29.41, —)" in text
    assert "several augmentations" in rendering.render(table_of(found), "md")
    assert "several augmentations" not in rendering.render(table_of(found[3:]), "md")


def test_dm_under_rded_is_shown_and_not_compared() -> None:
    rded = {"name": "rded", "teachers": ("ResNet18BN",)}
    frame = longform.frame([record(Cell("dm", "cifar10", 10), (0.61,), protocol=rded)])
    text = rendering.render(captioned("accuracy", tables.summary(frame)), "md")
    assert "48.9 ± 0.6 [1]ᵃ |" in text
    assert "ᵃ No difference: published under another evaluation (DSA's" in text
    assert "+12.10" not in text
    assert "Difference" not in text.splitlines()[0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"preset": "quick"}, "preset"),
        ({"overrides": {"steps": "7"}}, "settings"),
        ({"architecture": "ConvNetD4"}, "network"),
        ({"selection": "best_test"}, "selection"),
        ({"protocol": PLAIN}, "evaluation"),
        ({"protocol": {"epochs": 301}}, "evaluation"),
        ({"preset": "demo", "architecture": "ConvNetW32"}, "network preset"),
    ],
)
def test_reasons(given: dict[str, Any], reason: str) -> None:
    row = row_of(Cell("dm", "cifar10", 10), **given)
    assert row["not_compared"] == reason
    assert row["published_mean"] == 48.9
    assert row["difference"] != row["difference"]
    assert row_of(Cell("dm", "cifar10", 10))["not_compared"] == ""


def test_mirrored_digits_are_another_evaluation() -> None:
    """On other images another augmentation is a remark."""
    digits = row_of(Cell("dsa", "svhn", 1), protocol={"augmentation": DSA})
    assert (digits["not_compared"], digits["remarks"]) == ("evaluation", "")
    unmirrored = {"augmentation": "color_crop_cutout_scale_rotate"}
    others = row_of(Cell("dm", "cifar10", 10), protocol=unmirrored)
    assert (others["not_compared"], others["remarks"]) == ("", "augmentation")


def test_exemptions_of_a_network_count() -> None:
    """DC trains ConvNetBN with an augmentation and passes of its own."""
    own = Exemption(architecture="ConvNetBN", augmentation="dc_crop_noise", epochs=1001)
    rules = {**PLAIN, "name": "dc_2021", "exemptions": (own,)}
    found = [
        record(Cell("dc", "cifar10", 1), (0.3,), architecture=name, protocol=rules)
        for name in ("ConvNet", "ConvNetBN")
    ]
    plain, exempt = longform.frame(found).to_dict("records")
    assert (plain["augmentation"], plain["augmented"], plain["epochs"]) == (
        *("none", False),
        301,
    )
    assert (exempt["augmentation"], exempt["augmented"], exempt["epochs"]) == (
        *("dc_crop_noise", True),
        1001,
    )


def test_baselines_of_dcs_paper_are_compared_under_its_evaluation_alone() -> None:
    cell = Cell("random", "cifar10", 10)
    under_dc = row_of(cell, 0.31)
    assert under_dc["not_compared"] == "evaluation"
    own = {"name": "dc_2021", **PLAIN}
    under_its_own = row_of(cell, 0.27, protocol=own)
    assert under_its_own["difference"] == pytest.approx(1.0)
    # DC itself brings these passes to the protocol dc.
    resolved = planning.resolve(Cell("dc", "cifar10", 10), protocols.Request())
    assert published.family(resolved.recipe.protocol) == "dc_2021"


def test_mtt_is_compared_at_its_learned_rate_and_said_to_be_the_best_on_test() -> None:
    cell = Cell("mtt", "cifar10", 10)
    learned = row_of(cell, 0.653, protocol={"use_learned_rate": True})
    assert learned["difference"] == pytest.approx(0)
    assert learned["remarks"] == "best_test"
    assert row_of(cell)["not_compared"] == "evaluation"
    quoted = row_of(cell, source="bacon", protocol={"use_learned_rate": True})
    assert quoted["published_mean"] == 56.4
    assert quoted["not_compared"] == "evaluation"


@pytest.mark.parametrize(
    ("cell", "given", "remark"),
    [
        (Cell("bacon", "cifar10", 10), {}, "not_stated"),
        (Cell("dm", "tiny_imagenet", 1), {"architecture": "ConvNetD4"}, "memory"),
        (Cell("dm", "svhn", 1), {}, ""),
        (Cell("dsa", "svhn", 1), {}, ""),
        (
            Cell("dsa", "svhn", 1),
            {"protocol": {"augmentation": "color_crop"}},
            "augmentation",
        ),
        (
            Cell("edc", "cifar10", 10),
            {
                "architecture": "ResNet18BN",
                "protocol": {
                    "name": "edc",
                    "epochs": 1000,
                    "teachers": ("ResNet18BN",),
                },
            },
            "not_stated teachers",
        ),
    ],
)
def test_remarks(cell: Cell, given: dict[str, Any], remark: str) -> None:
    row = row_of(cell, **given)
    assert row["remarks"] == remark


def test_every_reason_has_a_footnote() -> None:
    assert {*get_args(agreement.Obstacle), "unknown", "unstated"} == set(OBSTACLES)
    assert set(get_args(agreement.Remark)) == set(REMARKS)


def test_marks_are_letters_in_the_order_of_use() -> None:
    notes = Footnotes()
    fields = {"published_evaluation": "dsa", "published_architecture": "ConvNet"}
    for name in ("network", "settings", "network selection"):
        marks = notes.marks({**fields, "not_compared": name, "remarks": ""})
    assert marks == "ᵃᶜ"
    # A recipe of another kind hides the reasons that come after it.
    reduced = {"not_compared": "network settings selection", "remarks": ""}
    assert notes.marks({**fields, **reduced}) == "ᵇ"
    assert [line[0] for line in notes.lines()] == ["ᵃ", "ᵇ", "ᶜ"]
    for number in range(30):
        notes.mark(str(number))
    assert len({line.split()[0] for line in notes.lines()}) == 33


@pytest.mark.parametrize("kind", ["md", "latex", "html"])
def test_each_mark_has_its_footnote(kind: str) -> None:
    frame = longform.frame([record(Cell("dm", "mnist", 1), (0.89,))])
    text = rendering.render(captioned("accuracy", tables.summary(frame)), kind)
    mark = r"$^\mathrm{a}$" if kind == "latex" else "ᵃ"
    assert len(re.findall(re.escape(mark), text)) == 2
    assert "not checked against the source" in text


def test_one_set_under_two_protocols_is_two_rows_of_different_keys() -> None:
    cell = Cell("dm", "cifar10", 10)
    common = {"name": "hard", "epochs": 301}
    found = [
        record(cell, (0.5,)),
        record(cell, (0.4,), protocol=common, digest="00000002"),
    ]
    for what in ("accuracy", "spread", "timing"):
        table = table_of(found, what)
        assert list(table.frame["protocol"]) == ["dc", "hard"]
        assert "| hard " in rendering.render(table, "md")
    assert len(select(tables.summary(longform.frame(found)), protocol="hard")) == 1
