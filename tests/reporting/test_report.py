"""The page of ``dcbench report`` as a file; a browser is not needed."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest
from commandline import invoke
from msgspec.structs import replace
from records import record
from report_folders import HOSTILE, large, small

from dcbench_bacon.cli.cells import run_commands
from dcbench_bacon.cli.main import main
from dcbench_bacon.cli.results.report import write_report
from dcbench_bacon.exchange.pictures import of_results
from dcbench_bacon.recipes import digests
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.reporting.html import cost_rows, figures, provenance
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell
from dcbench_bacon.store import Store

TREE = Path(__file__).resolve().parents[2]
# Attributes whose value makes a browser fetch something or run something.
ADDRESSES = (
    "href",
    "src",
    "srcset",
    "action",
    "formaction",
    "data",
    "poster",
    "xlink:href",
)


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, which take time to draw."""
    monkeypatch.setattr(figures, "MOST_FIGURES", 0)


def within() -> click.Context:
    """The context of a command, which keeps the names of its options for help."""
    return click.Context(main, **main.context_settings)


def made(store: Store) -> str:
    return write_report(store.root, (), None).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [False, True])
def test_nothing_is_fetched_and_nothing_of_a_file_is_run(
    tmp_path: Path, hostile: bool
) -> None:
    text = made(small(tmp_path, hostile=hostile))
    parsed = Parsed(text)
    for _, attributes in parsed.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (name, value)
            if name in ADDRESSES:
                assert str(value).startswith(("#", "data:")), (name, value)
    assert len(parsed.named("script")) == 2
    assert not parsed.named("iframe") + parsed.named("object") + parsed.named("base")
    assert "@import" not in text
    (policy,) = (
        str(meta["content"])
        for meta in parsed.named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digest = b64encode(hashlib.sha256(parsed.scripts[1].encode()).digest()).decode()
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert {"connect-src", "font-src", "frame-src"}.isdisjoint(rules)
    if hostile:
        assert "&lt;script&gt;alert(1)" in text
        entry = next(e for e in parsed.data["records"] if e["title"][0] == HOSTILE)
        lines = [parsed.data["lines"][number] for number in entry["settings"]]
        assert [HOSTILE, json.dumps(HOSTILE)] == lines[0][:2]


@pytest.mark.usefixtures("plain")
def test_every_number_leads_to_its_records(tmp_path: Path) -> None:
    store = small(tmp_path)
    parsed = Parsed(made(store))
    entries, lines = parsed.data["records"], parsed.data["lines"]
    assert len(entries) == len(list(store.records()))
    buttons = [b for b in parsed.named("button") if b.get("class") == "open"]
    assert len(buttons) == 11  # four methods on two data sets, two networks, a sweep
    behind = [str(b["data-records"]).split(",") for b in buttons]
    finished = {i for i, entry in enumerate(entries) if entry["status"] == "done"}
    assert {int(number) for numbers in behind for number in numbers} == finished
    assert sorted(map(len, behind)) == [1, 1, 1, *[2] * 8]  # one record per seed
    for entry in entries:
        method, dataset, ipc, seed = entry["title"]
        words = shlex.split(entry["command"]["line"])
        assert words[:4] == ["dcbench", "run", "--methods", method]
        for option, value in (("datasets", dataset), ("ipc", ipc), ("seeds", seed)):
            assert words[words.index(f"--{option}") + 1] == str(value)
        assert entry["digest"]
        assert parsed.data["environments"][entry["environment"]]["git_commit"]
        assert all(len(lines[number]) == 4 for number in entry["settings"])
        assert any("0123abc" in note for note in entry["command"]["notes"])
    dm = next(entry for entry in entries if entry["title"][:2] == ["dm", "cifar10"])
    settings = {lines[n][0]: lines[n] for n in dm["settings"]}
    assert "the recipe installed now has 20000" in settings["steps"][2]
    assert "--set steps=100" in dm["command"]["line"]
    protocol = {lines[n][0]: lines[n] for n in dm["protocol"]}
    assert protocol["protocol.epochs"][3]  # a source


@pytest.mark.slow
def test_committed_records_have_commands_that_make_their_recipes() -> None:
    checked = 0
    for folder in (
        "results",
        "results/digits",
        "results/precision",
        "results/transfer",
    ):
        for each in Store(TREE / folder).records():
            line = provenance.command(each).line
            name, *words = shlex.split(line)
            assert (name, words[0]) == ("dcbench", "run"), line
            context = run_commands.run.make_context("run", words[1:], within())
            asked = {
                key: value for key, value in context.params.items() if key in REQUEST
            }
            recipe = planning.resolve(each.cell, request_of("demo", **asked)).recipe
            assert digests.digest(recipe) == each.digest, line
            checked += 1
    assert checked > 90


REQUEST = ("preset", "pairs", "overrides", "architectures", "protocol", "selection")


def test_a_set_of_another_tool_has_the_options_of_its_reading() -> None:
    for each in Store(TREE / "results/foreign").records():
        if each.cell.method != "vico-file":
            continue
        line, notes = provenance.command(each)
        words = shlex.split(line)
        assert words[:3] == ["dcbench", "evaluate", "FILE"]
        command = main.commands["evaluate"]
        command.make_context(
            "evaluate", words[2:], within()
        )  # raises at an unknown option
        assert {"--normalized", "--no-zca"} <= set(words)
        assert any(str(each.recipe.settings["sha256"]) in note for note in notes)
        settings, _ = provenance.lines(each)
        assert {line.table for line in settings} == {"the file of the set"}


def test_sources_are_those_of_the_tables(tmp_path: Path) -> None:
    (each,) = (
        found
        for found in Store(TREE / "results").records()
        if found.cell == Cell("dm", "cifar10-jpeg", 10)
    )
    settings, protocol = provenance.lines(each)
    by_key = {line.key: line for line in (*settings, *protocol)}
    assert by_key["steps"].value == "400"
    assert by_key["steps"].table.startswith("dm.toml presets.quick")
    assert "WACV 2023" in "".join(line.source for line in settings) or any(
        line.source for line in settings
    )


@pytest.mark.slow
def test_four_hundred_records_take_a_fifth_of_the_room(
    tmp_path: Path,
) -> None:
    text = made(large(tmp_path, 400))
    assert len(text.encode()) < 2_000_000
    assert len(Parsed(text).data["records"]) == 400


@pytest.mark.slow
def test_the_same_records_make_the_same_page(tmp_path: Path) -> None:
    store = small(tmp_path, hostile=True)
    assert made(store) == made(store)


@pytest.mark.slow
def test_figures_and_downstream_uses_have_sections(tmp_path: Path) -> None:
    parsed = Parsed(made(small(tmp_path)))
    labels = [str(each.get("aria-label")) for each in parsed.named("div")]
    for kind in ("Accuracy on the way: MNIST", "Accuracy against cost: CIFAR-10"):
        assert sum(label.startswith(kind) for label in labels) == 1
    assert any(label.startswith("Seconds per step, by phase") for label in labels)
    sections = [each.get("id") for each in parsed.named("section")]
    assert {"curves", "continual", "nas"} <= set(sections)


@pytest.mark.usefixtures("plain")
def test_sets_are_shown_and_damaged_ones_are_named(tmp_path: Path) -> None:
    store = small(tmp_path)
    images = Parsed(made(store)).named("img")
    assert [(image["width"], image["height"]) for image in images] == [("298", "298")]
    assert "DM on MNIST" in str(images[0]["alt"])
    assert "rows: 0, 1, 2" in str(images[0]["alt"])
    (path,) = tmp_path.glob("synthetic/*")
    path.write_bytes(path.read_bytes()[:40])
    text = made(store)
    assert not Parsed(text).named("img")
    assert f"{path}: not a readable synthetic set" in text


@pytest.mark.usefixtures("plain")
def test_sets_beyond_the_room_of_a_page_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_results, "MOST_BYTES", 10)
    text = made(small(tmp_path))
    assert not Parsed(text).named("img")
    assert "more would make the page too large" in text


@pytest.mark.slow
def test_the_command_writes_the_page_and_names_what_it_left_out(tmp_path: Path) -> None:
    store = small(tmp_path)
    (tmp_path / "records" / "broken.json").write_text("{")
    result = invoke("report", "--output", tmp_path)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == str(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "broken.json" in text
    assert text.count("<tr data-dataset") > 10
    elsewhere = tmp_path / "page.html"
    invoke("report", "--output", tmp_path, "--preset", "quick", "--to", elsewhere)
    assert (
        Parsed(elsewhere.read_text(encoding="utf-8")).data["records"][0]["preset"]
        == "quick"
    )
    missing = invoke("report", "--output", tmp_path / "none")
    assert missing.exit_code == 2
    assert "--output" in missing.output
    assert not (tmp_path / "none").exists()
    assert store.root == tmp_path


@pytest.mark.slow
def test_a_page_without_sets_is_made_without_torch(tmp_path: Path) -> None:
    small(tmp_path)
    shutil.rmtree(tmp_path / "synthetic")
    code = (
        "import sys; from pathlib import Path\n"
        "from dcbench_bacon.cli.results.report import write_report\n"
        f"write_report(Path({str(tmp_path)!r}), (), None)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TREE)


def test_values_are_written_as_a_recipe_writes_them() -> None:
    each = record(
        Cell("dm", "cifar10", 10), (0.5,), protocol={"milestones": (0.5, 0.75)}
    )
    _, protocol = provenance.lines(each)
    by_key = {line.key: line.value for line in protocol}
    assert by_key["protocol.milestones"] == "[0.5, 0.75]"
    assert "--set 'protocol.milestones=[0.5, 0.75]'" in provenance.command(each).line
    assert isinstance(run_commands.run, click.Command)
    assert not re.search(r"protocol\.name=", provenance.command(each).line)


def test_rows_of_cost_name_what_was_changed() -> None:
    """Rows of a sweep once looked alike."""
    made = [
        record(
            Cell("bacon", "mnist", 1),
            (0.5, 0.6),
            digest=f"{number:08}",
            overrides={"tv_weight": weight, "protocol.epochs": "2"},
        )
        for number, weight in enumerate(("0", "1"))
    ]
    made = [
        replace(each, recipe=replace(each.recipe, settings={"tv_weight": number}))
        for number, each in enumerate(made)
    ]
    for rows in (cost_rows.sets(made), cost_rows.steps(made)):
        assert {row.changes for row in rows} == {
            "tv_weight=0, epochs=2",
            "tv_weight=1, epochs=2",
        }
