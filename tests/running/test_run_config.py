"""The configuration of a run travels to another process."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import commandline
import pytest
import torch
from commandline import invoke, judged, only_record, only_set, tiny

from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running.grids.elsewhere import (
    Board,
    BoardReporter,
    portable,
    run_cell,
)
from dcbench_bacon.running.grids.grid import CellResult
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import RunConfig

CPU = torch.device("cpu")


def in_child(payload: bytes) -> tuple[CellResult, list[str]]:
    """Runs a cell from what was pickled; its result and the lines for the user."""
    torch.set_num_threads(1)
    job, root, config = pickle.loads(payload)
    board = Board()
    reporter = BoardReporter(str(job.cell), board.tell, board.show)
    return run_cell(job, root, config, reporter), board.take()[0]


@pytest.mark.slow
def test_a_cell_runs_in_a_child_process_with_the_same_bits(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    quiet = ("run", "--methods", "dm", "--ipc", 1, "--output", tmp_path / "here")
    assert invoke(*quiet, *tiny()).exit_code == 0
    words = tiny()
    overrides = tuple(words[i + 1] for i in range(len(words)) if words[i] == "--set")
    request = request_of(
        "demo",
        preset="demo",
        overrides=overrides,
        architectures=(commandline.NETWORK,),
    )
    grid = Grid(
        methods=("dm",), datasets=("digits",), ipc=(1,), seeds=(0,), request=request
    )
    (job,) = plan(grid)
    config = RunConfig(CPU, checkpoint_every=0.0)
    payload = pickle.dumps(portable(job, tmp_path / "child", config))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result, lines = pool.submit(in_child, payload).result()
    assert result.outcome == "done", result.record.error
    assert not lines
    assert torch.equal(only_set(tmp_path / "child"), only_set(tmp_path / "here"))
    assert judged(only_record(tmp_path / "child")) == judged(result.record)
    assert judged(only_record(tmp_path / "here")) == judged(result.record)


def test_a_configuration_is_plain_data() -> None:
    config = RunConfig(
        CPU, Path("data"), download=True, compiling="auto", checkpoint_every=1.0
    )
    assert pickle.loads(pickle.dumps(config)) == config
    there = config.here()
    assert there.policy.interval == 1.0
    assert there.policy.compiler.mode == "auto"
    assert not there.policy.stopped()
    assert RunConfig(CPU, deadline=0.0).here().policy.stopped()
