"""Tables against golden files, by hand, and as properties.

``PYTHONPATH=tests python tests/reporting/test_tables.py`` writes the golden
files anew; read the diff.
"""

import io
import math
import random
import re
import shutil
import statistics
import subprocess
from functools import cache
from pathlib import Path

import click
import msgspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import KEY, record, select
from rich.console import Console

from dcbench_bacon.cli.results.report_commands import table as table_command
from dcbench_bacon.cli.results.reports import USES
from dcbench_bacon.errors import UsageError
from dcbench_bacon.reporting.figures import plots, points
from dcbench_bacon.reporting.html.page import page
from dcbench_bacon.reporting.numbers import comparison, longform, tables
from dcbench_bacon.reporting.numbers.contents import (
    CONTENTS,
    captioned,
    published_table,
    table_of,
)
from dcbench_bacon.reporting.numbers.layout_numbers import wide
from dcbench_bacon.reporting.printing import rendering, terminal
from dcbench_bacon.reporting.printing.pages import page_of
from dcbench_bacon.reporting.table import Marked, Table
from dcbench_bacon.schema import (
    Cell,
    Record,
)
from dcbench_bacon.store import Store

GOLDEN = Path(__file__).parents[1] / "golden"
COLUMNS = (
    "dataset,ipc,method,architecture,protocol,accuracy_mean,accuracy_std,n,"
    "published_mean,published_std,published_metric,published_source,"
    "published_architecture,published_protocol,published_augmentation,"
    "published_epochs,published_selection,published_teachers,published_evaluation,"
    "published_certainty,difference,not_compared,remarks,preset,selection,overrides,recipe"
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
            protocol={"name": "dc_2021", "augmentation": "none", "epochs": 301},
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
            protocol={
                "name": "edc",
                "epochs": 1000,
                "teachers": ("ResNet18BN", "ConvNet"),
            },
            digest="0000000d",
        ),
        record(Cell("bacon", "svhn", 10), (0.1,), status="diverged"),
        record(Cell("bacon", "svhn", 1), (), status="failed"),
    ]


@cache
def outputs() -> dict[str, str]:
    """The text of every golden file."""
    every = ("paper", "quick", "demo")
    made = {
        "table": table_of(records()),
        "all": table_of(records(), presets=every),
        "spread": table_of(records(), "spread"),
        "timing": table_of(records(), "timing"),
        "unfinished": table_of(records(), "unfinished"),
        "cost": table_of(records(), "cost"),
        "summary": table_of(records(), "summary"),
        "paper": table_of(records(), layout="paper", gain_over="dm"),
        "networks": table_of(records(), layout="networks"),
        "published": published_table(ipc=(10,), datasets=("mnist", "cifar10")),
    }
    kinds = {
        **{"table": ("csv", "md", "tex", "html"), "all": ("csv", "md")},
        **{"spread": ("md", "80.txt"), "unfinished": ("md",)},
        **{"timing": ("csv", "md", "80.txt"), "cost": ("csv", "md", "80.txt")},
        **{"summary": ("csv", "md", "tex", "80.txt")},
        **{"paper": ("csv", "md", "tex", "html", "80.txt", "200.txt")},
        **{"networks": ("csv", "md", "tex", "html", "80.txt")},
        **{"published": ("csv", "md", "80.txt")},
    }
    return {
        f"{name}.{kind}": printed(table, kind)
        for name, table in made.items()
        for kind in kinds[name]
    }


def printed(table: Table, kind: str) -> str:
    """The text of a table; its kind is the ending of a file's name."""
    width, _, suffix = kind.rpartition(".")
    if suffix == "txt":
        console = Console(file=io.StringIO(), width=int(width), color_system=None)
        console.print(terminal.to_rich(table, int(width)))
        assert isinstance(console.file, io.StringIO)
        lines = console.file.getvalue().splitlines()
        return "".join(f"{line.rstrip()}\n" for line in lines)
    return rendering.render(table, {"tex": "latex"}.get(kind, kind))


def test_golden() -> None:
    for name, text in outputs().items():
        assert text == (GOLDEN / name).read_text(encoding="utf-8"), name


def test_golden_folder_holds_nothing_stale() -> None:
    ours = {name.partition(".")[0] for name in outputs()}
    found = {
        path.name for path in GOLDEN.iterdir() if path.name.partition(".")[0] in ours
    }
    assert found == set(outputs())


def test_the_command_offers_every_content() -> None:
    option = next(p for p in table_command.params if p.name == "what")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == (*CONTENTS, *USES)


@pytest.mark.slow
def test_order_of_records_changes_nothing() -> None:
    shuffled = records()
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        long = longform.frame(shuffled)
        pd.testing.assert_frame_equal(long, longform.frame(records()))
        for what, name in (
            *(("accuracy", "table.csv"), ("spread", "spread.md")),
            *(("timing", "timing.csv"), ("unfinished", "unfinished.md")),
        ):
            text = rendering.render(table_of(shuffled, what), name.split(".")[1])
            assert text == (GOLDEN / name).read_text(encoding="utf-8")
        paper = table_of(shuffled, layout="paper", gain_over="dm")
        assert printed(paper, "80.txt") == (GOLDEN / "paper.80.txt").read_text("utf-8")


def test_csv_columns_exactly() -> None:
    text = rendering.render(table_of(records()), "csv")
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
    assert "50.00 (n=1)" in rendering.render(captioned("accuracy", table), "md")


def test_quick_and_demo_enter_only_when_asked() -> None:
    long = longform.frame(records())
    assert set(tables.summary(long)["preset"]) == {"paper", "paper + set"}
    quick = tables.summary(long, presets=("quick",))
    assert set(quick["preset"]) == {"quick"}
    assert "Preset quick" in rendering.render(captioned("accuracy", quick), "md")


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
@pytest.mark.slow
def test_no_published_number(method: str, dataset: str) -> None:
    table = tables.summary(longform.frame(records()))
    row = select(table, method=method, dataset=dataset).iloc[0]
    assert math.isnan(row["published_mean"])
    assert math.isnan(row["difference"])
    assert row["published_source"] == ""


@pytest.mark.parametrize(
    ("key", "compared"),
    [
        *[("protocol.networks", True), ("protocol.architectures", True)],
        *[("protocol.epochs", False), ("steps", False)],
    ],
)
def test_more_networks_ask_no_other_question(key: str, compared: bool) -> None:
    """The number of networks is in the table; other changes forbid a difference."""
    made = record(Cell("dm", "mnist", 1), (0.891, 0.893), overrides={key: "2"})
    (row,) = tables.summary(longform.frame([made])).to_dict("records")
    assert (row["difference"] == row["difference"]) == compared


@pytest.mark.parametrize("kind", ["md", "latex", "html"])
def test_choice_on_test_is_marked(kind: str) -> None:
    table = tables.summary(longform.frame(records()))
    chosen = table[table["selection"] == "best_test"]
    others = table[table["selection"] != "best_test"]
    assert "optimistic" in rendering.render(captioned("accuracy", chosen), kind)
    assert "optimistic" not in rendering.render(captioned("accuracy", others), kind)


@pytest.mark.parametrize("kind", ["csv", "md", "latex", "html"])
def test_no_records_is_an_empty_table(kind: str) -> None:
    made = [table_of([], what) for what in CONTENTS]
    made += [table_of([], layout=layout) for layout in ("paper", "networks")]
    made += [table_of([], "timing", layout="paper")]
    for table in made:
        assert table.frame.empty
        assert rendering.render(table, kind)


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match="md, csv, latex, html"):
        rendering.render(table_of([]), "xls")


def test_markup_of_names_is_escaped() -> None:
    table = tables.summary(longform.frame(records()))
    assert "new\\|\\<b>" in rendering.render(captioned("accuracy", table), "md")
    assert r"a\_\&\_b" in rendering.render(captioned("accuracy", table), "latex")
    assert "new|&lt;b&gt;" in rendering.render(captioned("accuracy", table), "html")


HOSTILE = st.text(
    st.sampled_from([*"\\{}$&#_%~^<>|*`[]\"'-§é\n\r\t\x00\x1b\x07\u202e", "x"])
    | st.characters(codec="utf-8"),
    min_size=1,
    max_size=12,
)
# What LaTeX reads as a command, unless a backslash precedes it.
ACTIVE = re.compile(r"(?<!\\)[&%#_^~]")


@settings(max_examples=25, deadline=None)
@given(HOSTILE, HOSTILE, st.sampled_from(["paper", "networks", "long"]))
@pytest.mark.slow
def test_hostile_names_stay_text(method: str, dataset: str, layout: str) -> None:
    found = [
        record(Cell(method, dataset, 1), (0.5, 0.6)),
        record(Cell("dm", dataset, 1), (0.5, 0.6), architecture=method),
    ]
    table = table_of(found, layout=layout)
    page = page_of(table)
    shown = [str(getattr(cell, "whole", cell)) for row in page.rows for cell in row]
    assert all(text.isprintable() for text in shown)
    html = rendering.render(table, "html")
    tags = set(re.findall(r"</?(\w+)", html.partition("<tbody>")[2]))
    assert tags <= {"td", "tr", "tbody", "table", "div", "ul", "li", "body", "html"} | {
        *("strong", "u")
    }
    latex = rendering.render(table, "latex").partition("\\midrule")[2]
    body = (
        latex.partition("\\bottomrule")[0].replace("^\\mathrm", "").replace("$^2$", "")
    )
    rows = [line for line in body.splitlines() if line]
    assert len(rows) == len(page.rows)  # no line break, no comment
    for row in rows:
        assert row.endswith("\\\\")
        assert len(ACTIVE.findall(row)) == len(page.headings) - 1  # the separators
    lines = rendering.render(table, "md").split("\n")
    assert sum(line.startswith("|") for line in lines) == len(page.rows) + 2


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize("name", ["table", "paper", "networks"])
def test_latex_compiles(name: str, tmp_path: Path) -> None:
    body = outputs()[f"{name}.tex"]
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}"
        "\\begin{document}\n"
        f"{body}\\end{{document}}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("width", [80, 160])
def test_terminal_table_shows_both_numbers(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    table = tables.summary(longform.frame(records()))
    console.print(terminal.to_rich(captioned("accuracy", table), width))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    for number in ("62.07 ± 0.23", "(n=4)", "62.06 [", "58.6 ± 0.1", "-0.50"):
        assert number in text
    if width == 160:  # at 80 they are broken, as there is no place for them
        assert all(recipe in text for recipe in table.index)


def test_a_paper_has_a_block_per_ipc_and_the_whole_set_last() -> None:
    found = [
        record(Cell("random", "mnist", 10), (0.949, 0.951)),
        record(Cell("dm", "mnist", 10), (0.97, 0.97)),
        record(Cell("bacon", "mnist", 10), (0.98, 0.984)),
        record(Cell("dm", "mnist", 1), (0.8,)),
        record(Cell("whole", "mnist", 0), (0.99,)),
    ]
    table = table_of(found, layout="paper", gain_over="dm")
    rows = [
        [cell if isinstance(cell, str) else cell.whole for cell in row]
        for row in page_of(table).rows
    ]
    first = [row for row in rows if row[0]]
    assert [row[0] for row in first] == ["1", "10"]
    ten = rows[rows.index(first[1]) :]
    assert ten[0][1] == "Random"
    assert ten[0][2].startswith("95.0±0.1 (95.1")
    named = {row[1]: row[2] for row in ten}
    assert named["Gain over DM"] == "+1.2"
    assert named["Ratio (%)"] == "0.17"
    assert ten[-1][1] == "Whole data set"
    assert ten[-1][2].startswith("99.0")
    marks = {
        (cell.text, cell.emphasis)
        for row in page_of(table).rows
        for cell in row
        if isinstance(cell, Marked) and cell.emphasis
    }
    assert marks == {("98.2±0.3", "best"), ("97.0±0.0", "second")}
    numbers = wide(table.frame)
    assert numbers.loc[("10", "measured", "dm"), ("mnist", "mean")] == 97.0


def test_one_block_has_no_lines_between_its_rows() -> None:
    page = page_of(published_table(ipc=(10,), datasets=("mnist", "cifar10")))
    assert len(page.rows) > 3
    assert not any(page.opens(row) for row in range(len(page.rows)))


def test_titles_of_plug_ins_that_are_not_installed_come_from_records() -> None:
    cell = Cell("theirs", "birds", 10)
    titles = {"theirs": "Their Method", "birds": "Birds of <Prey>"}
    found = [msgspec.structs.replace(record(cell, (0.5,)), titles=titles)]
    for layout in ("long", "paper", "networks"):
        text = rendering.render(table_of(found, layout=layout), "md")
        assert "Their Method" in text
        assert r"Birds of \<Prey>" in text


def test_a_plug_ins_title_is_on_the_page_and_in_figures(tmp_path: Path) -> None:
    cell = Cell("theirs", "birds", 10)
    titles = {"theirs": "Their Method", "birds": "Birds of Prey"}
    every = [
        record(cell, (0.5, 0.6)),
        record(cell, (0.4, 0.3), architecture="MLP"),
        record(Cell("theirs", "birds", 1), (), status="failed"),
    ]
    found = [msgspec.structs.replace(each, titles=titles) for each in every]
    html = page(Store(tmp_path), found)
    # Names are left where rows are filtered, and in the records behind them.
    shown = re.sub(
        r'data-\w+="[^"]*"|value="[^"]*"|<script.*?</script>', "", html, flags=re.S
    )
    assert "Their Method" in shown
    assert "Birds of Prey" in shown
    assert not re.search(r"\btheirs\b|\bbirds\b", shown)
    table = comparison.transfer(longform.frame(found))
    figure = plots.heat_map(table, points.named_in(found))
    (axes, *_) = figure.axes
    assert axes.get_title().startswith("Birds of Prey")
    assert {label.get_text() for label in axes.get_yticklabels()} == {"Their Method"}
    assert points.headline(
        ("birds", "dc", "paper", "final"), points.named_in(found)
    ) == ("Birds of Prey (protocol dc)")


def test_data_sets_of_one_name_keep_their_title_and_show_their_fingerprint() -> None:
    other = dict.fromkeys(("a", "b"), (0.5, 0.6))
    found = [
        msgspec.structs.replace(
            record(Cell("dm", "cifar10", 10), accuracies), dataset_sha256=letter * 64
        )
        for letter, accuracies in other.items()
    ]
    text = rendering.render(table_of(found), "md")
    assert "CIFAR-10 (aaaaaaaa)" in text
    assert "CIFAR-10 (bbbbbbbb)" in text


def test_a_network_has_no_number_that_was_published_for_another() -> None:
    found = [
        record(Cell("dm", "cifar10", 10), (0.5, 0.51)),
        record(Cell("dm", "cifar10", 10), (0.3, 0.31), architecture="MLP"),
    ]
    (row,) = (
        r for r in page_of(table_of(found, layout="networks")).rows if r[1] == "DM"
    )
    cells = [cell.rest if isinstance(cell, Marked) else cell for cell in row[2:]]
    assert cells[0].startswith("(48.9")
    assert cells[1] == ""


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


def test_the_time_table_has_the_newest_cost_of_a_cell_and_the_published_ones() -> None:
    def timed(method: str, ipc: int, seconds: float, day: int) -> Record:
        made = record(Cell(method, "cifar100", ipc), ())
        cost = msgspec.structs.replace(
            made.distillation["match"], median=seconds, peak_bytes=2_500_000_000
        )
        where = msgspec.structs.replace(
            made.environment, utc=f"2026-01-{day:02d}T00:00:00Z"
        )
        stages = {"experts": made.distillation["match"], "match": cost}
        return msgspec.structs.replace(made, distillation=stages, environment=where)

    found = [timed("mtt", 10, 3.0, 2), timed("mtt", 10, 9.0, 1), timed("dm", 1, 0.5, 1)]
    table = table_of(found, "timing", layout="paper")
    ours = select(table.frame, role="measured")
    assert list(ours["seconds"]) == [3.0, 0.5]  # in the order of all tables
    theirs = select(table.frame, role="published", dataset="cifar100", method="mtt")
    assert list(theirs["seconds"].dropna()) == [1.92]
    assert list(theirs["out_of_memory"].dropna()) == [80.0]
    text = rendering.render(table, "md")
    assert "3.00 s, 3.2 GB |" in text  # the experts took more memory
    assert "1.92 s, 61.6 GB" in text
    assert "> 80 GB" in text
    assert "one A100 of 80 GB" in text


def test_a_record_of_before_and_its_successor_count_once() -> None:
    cell = Cell("dm", "cifar10", 10)
    old = record(cell, (0.2, 0.4))
    new = msgspec.structs.replace(record(cell, (0.5, 0.5)), dataset_sha256="a" * 64)
    for order in ([old, new], [new, old]):
        (row,) = tables.summary(longform.frame(order)).to_dict("records")
        assert (row["accuracy_mean"], row["n"]) == (50.0, 2)
