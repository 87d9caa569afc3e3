"""Tables against golden files, by hand, and as properties.

``PYTHONPATH=tests python tests/reporting/test_tables.py`` writes the golden
files anew; read the diff.
"""

import io
import math
import random
import statistics
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from records import KEY, record, select
from rich.console import Console

from dcbench_bacon.errors import UsageError
from dcbench_bacon.reporting import longform, rendering, tables
from dcbench_bacon.schema import (
    Cell,
    Record,
)

GOLDEN = Path(__file__).parents[1] / "golden"
COLUMNS = (
    "dataset,ipc,method,architecture,protocol,accuracy_mean,accuracy_std,n,"
    "published_mean,published_std,published_metric,published_source,"
    "published_architecture,published_protocol,published_augmentation,"
    "published_epochs,published_selection,published_teachers,published_evaluation,"
    "published_certainty,difference,not_compared,remarks,preset,selection,recipe"
)


def records() -> list[Record]:
    """Every case a table has to tell apart."""
    return [
        record(Cell("bacon", "cifar10", 10, 0), (0.6212, 0.6236)),
        record(Cell("bacon", "cifar10", 10, 1), (0.6180, 0.6200)),
        record(Cell("dm", "cifar10", 10), (0.4890, 0.4871, 0.4902)),
        record(Cell("random", "cifar10", 10), (0.2611, 0.2590)),
        record(Cell("bacon+idm", "cifar10", 10), (0.6301, 0.6299)),
        record(Cell("bacon+dm", "cifar10", 10), (0.5,)),
        record(
            Cell("idm", "cifar10", 10),
            (0.5990, 0.6011),
            selection="best_test",
            digest="00000002",
        ),
        record(
            Cell("idm", "cifar10", 10),
            (0.5850,),
            selection="best_val",
            digest="00000003",
        ),
        record(Cell("idm", "cifar10", 10), (0.5860,), digest="00000005"),
        record(Cell("idm", "cifar10", 10), (0.5800,), digest="00000004"),
        record(Cell("dm", "cifar10", 2), (0.31, 0.32)),
        record(Cell("dm", "mnist", 1), (0.891, 0.893)),
        record(Cell("dm", "fashion_mnist", 1), (0.7, 0.7)),
        record(Cell("dm", "tiny_imagenet", 1), (0.04,), architecture="ConvNetD4"),
        record(Cell("dm", "tiny_imagenet", 1), (0.03,), architecture="ConvNet"),
        record(Cell("new|<b>", "a_&_b", 1), (1.0, 0.0), digest="00000006"),
        record(Cell("bacon", "cifar10-jpeg", 10), (0.6,)),
        record(Cell("bacon", "cifar10", 1), (0.4,), preset="quick", digest="00000007"),
        record(Cell("dm", "digits", 1), (0.8, 0.9), preset="demo", digest="00000008"),
        record(
            Cell("dm", "cifar10", 10),
            (0.61,),
            protocol={"name": "rded", "teachers": ("ResNet18BN",)},
            digest="00000009",
        ),
        record(
            Cell("random", "cifar10", 10),
            (0.2610, 0.2590),
            protocol={"name": "dc_2021", "augmentation": "none", "epochs": 300},
            digest="0000000a",
        ),
        record(
            Cell("mtt", "cifar10", 10),
            (0.6550,),
            protocol={"use_learned_rate": True},
            digest="0000000b",
        ),
        record(
            Cell("dm", "cifar10", 10),
            (0.47,),
            overrides={"steps": "7"},
            digest="0000000c",
        ),
        record(
            Cell("edc", "cifar10", 10),
            (0.78,),
            architecture="ResNet18BN",
            protocol={"name": "edc", "teachers": ("ResNet18BN", "ConvNet")},
            digest="0000000d",
        ),
        record(Cell("bacon", "svhn", 10), (0.1,), status="diverged"),
        record(Cell("bacon", "svhn", 1), (), status="failed"),
    ]


def outputs() -> dict[str, str]:
    """The text of every golden file."""
    long = longform.frame(records())
    paper = tables.summary(long)
    every = tables.summary(long, presets=("paper", "quick", "demo"))
    texts = {f"table.{kind}": rendering.render(paper, kind) for kind in ("csv", "md")}
    texts |= {f"all.{kind}": rendering.render(every, kind) for kind in ("csv", "md")}
    texts |= {"table.tex": rendering.render(paper, "latex")}
    texts |= {"table.html": rendering.render(paper, "html")}
    texts |= {"spread.md": rendering.render(tables.spread(long), "md")}
    texts |= {"timing.csv": rendering.render(tables.timing(records()), "csv")}
    texts |= {"timing.md": rendering.render(tables.timing(records()), "md")}
    texts |= {"unfinished.md": rendering.render(tables.unfinished(records()), "md")}
    return texts


@pytest.mark.parametrize("name", sorted(outputs()))
def test_golden(name: str) -> None:
    assert outputs()[name] == (GOLDEN / name).read_text(encoding="utf-8")


def test_golden_folder_holds_nothing_stale() -> None:
    ours = {"table", "all", "spread", "timing", "unfinished"}
    found = {path.name for path in GOLDEN.iterdir() if path.stem in ours}
    assert found == set(outputs())


def test_order_of_records_changes_nothing() -> None:
    shuffled = records()
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        long = longform.frame(shuffled)
        pd.testing.assert_frame_equal(long, longform.frame(records()))
        for table, name in (
            (tables.summary(long), "table.csv"),
            (tables.spread(long), "spread.md"),
            (tables.timing(shuffled), "timing.csv"),
            (tables.unfinished(shuffled), "unfinished.md"),
        ):
            text = rendering.render(table, name.split(".")[1])
            assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_csv_columns_exactly() -> None:
    text = rendering.render(tables.summary(longform.frame(records())), "csv")
    assert text.splitlines()[0] == COLUMNS
    table = pd.read_csv(io.StringIO(text), dtype={"recipe": str})
    assert list(table.columns) == COLUMNS.split(",")
    assert not table.duplicated(KEY).any()


def test_mean_deviation_and_n_by_hand() -> None:
    table = tables.summary(longform.frame(records()))
    row = select(table, dataset="cifar10", ipc=10, method="bacon").iloc[0]
    percent = [62.12, 62.36, 61.80, 62.00]
    assert row["accuracy_mean"] == pytest.approx(statistics.fmean(percent))
    assert row["accuracy_std"] == pytest.approx(statistics.stdev(percent))
    assert row["n"] == 4
    assert row["published_mean"] == 62.06
    assert row["published_source"] == "bacon-readme-2025"
    assert row["difference"] == pytest.approx(statistics.fmean(percent) - 62.06)


def test_spread_by_hand() -> None:
    table = tables.spread(longform.frame(records()))
    row = select(table, dataset="cifar10", ipc=10, method="bacon").iloc[0]
    assert row["std_sets"] == pytest.approx(statistics.stdev([62.24, 61.90]))
    within = [statistics.stdev([62.12, 62.36]), statistics.stdev([61.80, 62.00])]
    assert row["std_networks"] == pytest.approx(statistics.fmean(within))
    assert (row["sets"], row["networks"]) == (2, 4)


def test_one_network_has_no_deviation() -> None:
    table = tables.summary(longform.frame(records()))
    row = select(table, method="bacon+dm").iloc[0]
    assert math.isnan(row["accuracy_std"])
    assert "50.00 (n=1)" in rendering.render(table, "md")


def test_quick_and_demo_enter_only_when_asked() -> None:
    long = longform.frame(records())
    assert set(tables.summary(long)["preset"]) == {"paper", "paper + set"}
    quick = tables.summary(long, presets=("quick",))
    assert set(quick["preset"]) == {"quick"}
    assert "Preset quick" in rendering.render(quick, "md")


def test_recipes_never_average() -> None:
    table = tables.summary(longform.frame(records()))
    rows = select(table, method="idm", selection="final")
    assert list(rows.index) == ["00000004", "00000005"]
    assert list(rows["accuracy_mean"]) == pytest.approx([58.0, 58.6])


def test_unfinished_records_give_no_accuracy() -> None:
    table = tables.summary(longform.frame(records()))
    assert select(table, dataset="svhn").empty
    left = tables.unfinished(records())
    assert list(left["ipc"]) == [1, 10]
    assert list(left["status"]) == ["failed", "diverged"]


@pytest.mark.parametrize(
    ("method", "dataset"),
    [
        ("bacon+idm", "cifar10"),
        ("bacon+dm", "cifar10"),
        ("bacon", "cifar10-jpeg"),
        ("dm", "fashion_mnist"),
    ],
)
def test_no_published_number(method: str, dataset: str) -> None:
    table = tables.summary(longform.frame(records()))
    row = select(table, method=method, dataset=dataset).iloc[0]
    assert math.isnan(row["published_mean"])
    assert math.isnan(row["difference"])
    assert row["published_source"] == ""


@pytest.mark.parametrize("kind", ["md", "latex", "html"])
def test_choice_on_test_is_marked(kind: str) -> None:
    table = tables.summary(longform.frame(records()))
    chosen = table[table["selection"] == "best_test"]
    others = table[table["selection"] != "best_test"]
    assert "optimistic" in rendering.render(chosen, kind)
    assert "optimistic" not in rendering.render(others, kind)


@pytest.mark.parametrize("kind", ["csv", "md", "latex", "html"])
def test_no_records_is_an_empty_table(kind: str) -> None:
    long = longform.frame([])
    for table in (
        tables.summary(long),
        tables.spread(long),
        tables.timing([]),
        tables.unfinished([]),
    ):
        assert table.empty
        assert rendering.render(table, kind)


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match="md, csv, latex, html"):
        rendering.render(tables.summary(longform.frame([])), "xls")


def test_markup_of_names_is_escaped() -> None:
    table = tables.summary(longform.frame(records()))
    assert "new\\|<b>" in rendering.render(table, "md")
    assert r"a\_\&\_b" in rendering.render(table, "latex")
    assert "new|&lt;b&gt;" in rendering.render(table, "html")


@pytest.mark.parametrize("width", [80, 160])
def test_terminal_table_shows_both_numbers(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    table = tables.summary(longform.frame(records()))
    console.print(rendering.to_rich(table, width))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    for number in ("62.07 ± 0.23", "(n=4)", "62.06 [", "58.6 ± 0.1", "-0.50"):
        assert number in text
    if width == 160:  # at 80 they are broken, as there is no place for them
        assert all(recipe in text for recipe in table.index)


def test_timing_by_hand() -> None:
    row = tables.timing([record(Cell("dm", "cifar10", 10), (0.5,))]).iloc[0]
    assert row["real_forward_ms"] == pytest.approx(5.0)
    assert row["other_ms"] == pytest.approx(2.5)
    assert math.isnan(row["queue_ms"])
    assert row["images_per_second"] == pytest.approx(256_000)
    assert row["peak_gb"] == pytest.approx(3.21)


if __name__ == "__main__":
    for _name, _text in outputs().items():
        (GOLDEN / _name).write_text(_text, encoding="utf-8")


def test_a_record_of_before_and_its_successor_count_once() -> None:
    cell = Cell("dm", "cifar10", 10)
    old = record(cell, (0.2, 0.4))
    new = msgspec.structs.replace(record(cell, (0.5, 0.5)), dataset_sha256="a" * 64)
    for order in ([old, new], [new, old]):
        (row,) = tables.summary(longform.frame(order)).to_dict("records")
        assert (row["accuracy_mean"], row["n"]) == (50.0, 2)
