"""Ready grids: their arms, the cells of these, and the table of an ablation."""

from pathlib import Path

import msgspec
import pytest
from commandline import invoke
from records import record

from dcbench_bacon.cli.cells.sweeps import names_of
from dcbench_bacon.errors import UsageError
from dcbench_bacon.recipes import digests, grids, protocols
from dcbench_bacon.reporting.numbers.ablation import ablation
from dcbench_bacon.reporting.printing import rendering
from dcbench_bacon.reporting.printing.pages import page_of
from dcbench_bacon.reporting.table import Marked
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell, Record
from dcbench_bacon.store import Store

GRID = grids.ready_grid("bacon-ablation")


def arm(number: int, accuracies: tuple[float, ...], **more: str) -> Record:
    """A record of an arm, as ``dcbench run --grid`` leaves it."""
    overrides = {**GRID.arms[number].overrides, **more}
    made = record(
        Cell("bacon", "cifar10", 50),
        accuracies,
        digest=f"{number:08}",
        overrides=overrides,
    )
    settings = {"steps": 100, "arm": number}
    recipe = msgspec.structs.replace(made.recipe, settings=settings)
    return msgspec.structs.replace(made, recipe=recipe)


def test_rows_are_arms_with_their_differences_to_the_first() -> None:
    found = [
        arm(2, (0.60, 0.61, 0.605)),
        arm(0, (0.62, 0.63, 0.625)),
        arm(1, (0.50, 0.80, 0.60)),
        record(Cell("bacon", "cifar10", 50), (0.1,), overrides={"tv_weight": "0.5"}),
    ]
    table = ablation(found, GRID)
    assert list(table.frame["arm"]) == [each.title for each in GRID.arms[:3]]
    assert table.frame["difference"].round(6).tolist()[1:] == [0.833333, -2.0]
    cells = [row[2] for row in page_of(table).rows]
    assert cells == [
        Marked("62.5±0.5"),
        Marked("63.3±15.3", "(+0.8)"),
        Marked("60.5±0.5", "(-2.0*)"),
    ]
    assert "--set" not in rendering.render(table, "md")
    for kind in ("csv", "latex", "html"):
        assert "62.5" in rendering.render(table, kind)


def test_what_all_arms_share_is_said_and_others_are_not_compared() -> None:
    found = [arm(0, (0.6,) * 3), arm(1, (0.5,) * 3, image_lr="2")]
    assert ablation(found, GRID).frame["difference"].isna().all()
    both = [arm(0, (0.6,) * 3, image_lr="2"), arm(1, (0.5,) * 3, image_lr="2")]
    assert "All arms: --set image_lr=2." in rendering.render(ablation(both, GRID), "md")


def test_a_record_belongs_to_the_arm_that_sets_the_same_values() -> None:
    typed = record(Cell("bacon", "mnist", 1), (0.5,), overrides={"tv_weight": "0"})
    found = GRID.arm_of(typed)
    assert found is not None
    assert found[0].title.startswith("without TV")


def test_arms_wait_for_what_they_need() -> None:
    ready = [each.title for each, _ in GRID.overrides({})]
    assert "CLIP semantic" not in ready
    assert GRID.left_out({}) == [
        "left out: CLIP semantic, which needs --set clip_weights=..."
    ]
    given = {"clip_weights": "w.pt", "clip_model": "m", "image_lr": "1"}
    chosen = {each.title: overrides for each, overrides in GRID.overrides(given)}
    assert chosen["CLIP semantic"] == {"clip": "semantic", **given}
    assert chosen["lambda 1"] == {"tv_weight": "1.0", "image_lr": "1"}
    with pytest.raises(UsageError, match="--set clip: the arms of the grid differ"):
        list(GRID.overrides({"clip": "range"}))


def test_a_later_setting_leaves_the_digests_of_before() -> None:
    cell = Cell("bacon", "cifar10", 10)
    usual = planning.resolve(cell, protocols.Request()).recipe
    stated = protocols.Request(overrides={"likelihood": "true"})
    without = protocols.Request(overrides={"likelihood": "false"})
    assert "likelihood" not in usual.settings
    assert digests.digest(planning.resolve(cell, stated).recipe) == digests.digest(
        usual
    )
    other = planning.resolve(cell, without)
    assert other.recipe.settings["likelihood"] is False
    assert digests.digest(other.recipe) != digests.digest(usual)
    jobs = [
        planning.CellJob(cell, "cifar10", planning.resolve(cell, request))
        for request in (protocols.Request(), without)
    ]
    assert list(names_of(jobs).values()) == [f"{cell}", f"{cell} likelihood=false"]


def test_unknown_grids_and_options_that_do_not_go_together() -> None:
    refused = invoke("run", "--grid", "bacon-ablatoin")
    assert refused.exit_code == 2
    assert "Did you mean 'bacon-ablation'?" in refused.output
    both = invoke("run", "--grid", "bacon-ablation", "--sweep", "tv_weight=0,1")
    assert both.exit_code == 2
    assert "leave out --sweep, or --grid" in both.output
    layout = invoke("table", "--grid", "bacon-ablation", "--layout", "paper")
    assert "leave out --layout" in layout.output
    assert "bacon-ablation" in invoke("list", "grids").output


@pytest.mark.slow
def test_a_grid_is_a_few_lines_and_ends_with_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grids.toml"
    path.write_text(
        """[passes]
title = "How long networks are trained"
source = "none"
methods = ["random"]
datasets = ["digits"]
ipc = [1]
arms = [
    { title = "one pass", set = { "protocol.epochs" = 1 } },
    { title = "two passes", set = { "protocol.epochs" = 2 } },
]
""",
        encoding="utf-8",
    )
    monkeypatch.setattr(grids, "GRIDS", path)
    words = ("--preset", "demo", "--output", str(tmp_path / "results"))
    given = ("--grid", "passes", "--ipc", "1,2", *words)
    plan = invoke("run", *given, "--dry-run")
    assert plan.output.count("to do    ") == 4
    assert "digits-ipc2-random-s0 protocol.epochs=2" in plan.output
    done = invoke("run", *given)
    assert done.exit_code == 0, done.output
    assert "| Random   | one pass   |" in done.output
    assert "|          | two passes |" in done.output
    assert "Digits, IPC 2" in done.output
    again = invoke("table", "--grid", "passes", *words)
    assert "two passes" in again.output


@pytest.mark.slow
def test_the_semantic_arm_makes_a_set_a_record_and_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: str, weights: Path
) -> None:
    """The weights and the model are for this arm; the first keeps its recipe."""
    out, path = tmp_path / "out", tmp_path / "grids.toml"
    lines = grids.GRIDS.read_text("utf-8").splitlines()
    both = ('"BACON, lambda 0.8"', '"CLIP semantic"')
    kept = [x for x in lines if "{ title" not in x or any(arm in x for arm in both)]
    path.write_text("\n".join(kept), "utf-8")
    monkeypatch.setattr(grids, "GRIDS", path)
    result = invoke(
        *("run", "--grid", "bacon-ablation", "--preset", "demo", "--ipc", "1"),
        *("--datasets", "digits", "--device", "cpu", "--output", out),
        *("--set", f"clip_model={registered}", "--set", f"clip_weights={weights}"),
        *("--set", "steps=2", "--set", "protocol.epochs=2"),
    )
    assert result.exit_code == 0, result.output
    first, semantic = sorted(
        Store(out).records([]), key=lambda each: len(each.recipe.overrides)
    )
    assert semantic.recipe.settings["clip"] == "semantic"
    assert semantic.recipe.settings["clip_model"] == registered
    assert "clip_model" not in first.recipe.overrides
    assert len([*(out / "synthetic").glob("*.safetensors")]) == 2
    assert "CLIP semantic" in result.output
    assert registered not in result.output.split("BACON: each term")[1]
