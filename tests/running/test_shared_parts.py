"""Parts that cells share: known from the recipe, and found by the cells."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import NETWORK

from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running import made_once
from dcbench_bacon.running.grids import grid, parts
from dcbench_bacon.running.grids.parts import Part
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.store import Store
from dcbench_bacon.training.experts import ExpertTrainer

TEACHER = "ConvNetD1W16"
SHORT = {
    "mtt": (
        *("steps=2", "experts=2", "expert_passes=2", "expert_epochs=1"),
        *("max_start_epoch=1", "student_steps=2", "zca=true"),
    ),
    "herding": ("network_epochs=1",),
    "edc": ("steps=2", "observer_passes=1", 'observers=["ConvNetD2W8BN"]'),
}


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


def jobs(method: str, *, ipc: tuple[int, ...] = (1,), seeds: int = 1) -> list[CellJob]:
    """Cells of a moment, judged with a teacher."""
    protocol = ("epochs=1", "networks=1", f'teachers=["{TEACHER}"]', "teacher_epochs=1")
    pairs = (*SHORT[method], *(f"protocol.{each}" for each in protocol))
    if method != "edc":
        pairs = (*pairs, f"architecture={NETWORK}")
    request = request_of(
        "demo", preset="demo", overrides=pairs, architectures=(NETWORK,)
    )
    grid_of = Grid(
        methods=(method,),
        datasets=("digits",),
        ipc=ipc,
        seeds=tuple(range(seeds)),
        request=request,
    )
    return plan(grid_of)


def needed(job: CellJob, store: Store, *, fresh: bool = False) -> list[Part]:
    """The parts of a cell."""
    return parts.parts_of(job, store, fresh=fresh)


def test_parts_are_known_from_recipes(tmp_path: Path) -> None:
    store = Store(tmp_path).open()
    titles = {
        method: [part.title for part in needed(jobs(method)[0], store)]
        for method in SHORT
    }
    teacher = f"the teacher {TEACHER} of digits"
    assert titles == {
        "mtt": ["the data set digits, whitened", "the experts of digits", teacher],
        "herding": [
            *("the data set digits", f"the {NETWORK} of selection of digits", teacher),
        ],
        "edc": [
            *("the data set digits", "the observer ConvNetD2W8BN of digits"),
            *("class statistics in ConvNetD2W8BN of digits", teacher),
        ],
    }


def test_cells_share_parts_of_the_same_content(tmp_path: Path) -> None:
    store = Store(tmp_path).open()

    def keys(job: CellJob, title: str) -> set[str]:
        return {part.key for part in needed(job, store) if title in part.title}

    one, ten, other_seed = (
        *jobs("mtt", ipc=(1, 10)),
        jobs("mtt", seeds=2)[1],
    )
    assert keys(one, "experts") == keys(ten, "experts") == keys(other_seed, "experts")
    assert keys(one, "teacher") == keys(ten, "teacher") != keys(other_seed, "teacher")
    assert keys(one, "data") != keys(jobs("herding")[0], "data")  # whitened or not
    assert keys(one, "teacher") != keys(jobs("herding")[0], "teacher")


@pytest.mark.slow
@pytest.mark.parametrize("method", list(SHORT))
def test_a_cell_finds_what_was_made_before(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs(method)
    store, context = Store(tmp_path).open(), RunConfig(torch.device("cpu")).here()
    every = needed(job, store)
    assert all({*part.needs} <= {*every} for part in every)
    for part in every:
        parts.make(part, job, store, context)
    assert not list(store.shared.glob("part-*"))

    def refused(*_: Any) -> None:
        raise AssertionError("made a second time")

    monkeypatch.setattr(made_once, "_made", refused)
    monkeypatch.setattr(ExpertTrainer, "_pass", refused)
    (result,) = grid.run([job], store, context)
    assert result.outcome == "done", result.record.traceback
    assert needed(job, store) == []
    set_alone = needed(job._replace(another="x"), store)
    assert [part.title for part in set_alone] == [every[0].title, every[-1].title]


def test_a_part_of_missing_data_is_left_to_its_cells(tmp_path: Path) -> None:
    store = Store(tmp_path / "results").open()
    (job,) = jobs("herding")
    job = job._replace(source=f"folder:{tmp_path / 'none'}")
    context = RunConfig(torch.device("cpu")).here()
    for part in needed(job, store):
        parts.make(part, job, store, context)
