"""The configuration of a run travels to another process."""

import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import commandline
import pytest
import torch
from commandline import invoke, judged, only_record, only_set, tiny

from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running.grids.aside import Aside, BoardReporter, RareQuestion
from dcbench_bacon.running.grids.board import Board, view
from dcbench_bacon.running.grids.grid import CellResult
from dcbench_bacon.running.grids.ray_executor import run_cell
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import RunConfig

CPU = torch.device("cpu")


def in_child(payload: bytes) -> tuple[CellResult, list[str]]:
    """Runs a cell from what was pickled; its result and the lines for the user."""
    torch.set_num_threads(1)
    job, root, config = pickle.loads(payload)
    board = Board()

    def show(cell: str, text: str) -> None:
        board.show("a node", "its load", cell, text)

    aside = Aside(BoardReporter(str(job.cell), board.tell, show), lambda: False)
    return run_cell(job, root, config, aside), board.take()[0]


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
    payload = pickle.dumps((job, tmp_path / "child", config))
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


def test_the_view_has_a_line_per_node_and_per_cell() -> None:
    board = Board()
    for node, cell in (("1", "a"), ("1", "b"), ("2", "c")):
        board.show(node, f"machine {node}: load 1.0 on 2 cores", cell, f"{cell} 3/9")
    board.show("2", "machine 2: load 2.0 on 2 cores", "a", "a 4/9")  # it has moved
    board.show("1", "", "b", "")  # it has ended
    assert view(board.take()[1]).splitlines() == [
        "",
        "machine 2: load 2.0 on 2 cores",
        "  c 3/9",
        "  a 4/9",
    ]


def test_a_cell_in_flight_says_how_long_its_stage_will_take() -> None:
    shown: list[str] = []
    now = [0.0]
    reporter = BoardReporter(
        "a", print, lambda _, text: shown.append(text), lambda: now[0]
    )
    reporter.start("a match", 10, 100)
    now[0] = 20.0
    reporter.update(20, "loss 2.5")
    assert shown == ["a match 10/100", "a match 20/100 loss 2.5, 0:02:40 left"]


def test_a_cell_does_not_wait_for_the_answer_whether_to_stop() -> None:
    asked, answered = threading.Event(), threading.Event()

    def ask() -> bool:
        asked.set()
        return answered.wait(10.0)

    stop = RareQuestion(ask)
    assert not stop()
    assert asked.wait(10.0)
    assert not stop()
    answered.set()
    end = time.monotonic() + 10.0
    while not stop():
        assert time.monotonic() < end
        time.sleep(0.001)
