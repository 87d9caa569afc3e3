"""Cells as tasks of Ray: the same bits, also after a worker or the user has ended."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commandline
import pytest
import torch
from commandline import assert_same, found, invoke, leftovers, tiny
from filelock import FileLock

from dcbench_bacon.errors import InterruptedRunError, UsageError
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running.grids import board, ray_executor
from dcbench_bacon.running.grids.board import Board
from dcbench_bacon.running.grids.grid import CellResult
from dcbench_bacon.running.grids.ray_cluster import (
    Cluster,
    Share,
    address_of,
    share,
    whole_node,
)
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.runtime.disk.locks import holder
from dcbench_bacon.store import Store

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SECONDS = 240.0  # that a test waits for a worker at most

# Ray's own warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decodes the digits once; one thread here, as each cell has."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def jobs(*, steps: int = 6, seeds: int = 1) -> list[CellJob]:
    """Cells of DM that last a moment, or longer with more steps."""
    words = tiny(steps=steps, epochs=3)
    overrides = tuple(words[i + 1] for i in range(len(words)) if words[i] == "--set")
    request = request_of(
        "demo",
        preset="demo",
        overrides=overrides,
        architectures=(commandline.NETWORK,),
    )
    grid = Grid(
        methods=("dm",),
        datasets=("digits",),
        ipc=(1,),
        seeds=tuple(range(seeds)),
        request=request,
    )
    return plan(grid)


def here(output: Path, *, steps: int) -> None:
    """Runs the first cell in this process."""
    fixed = ("run", "--methods", "dm", "--ipc", 1, "--output", output)
    assert invoke(*fixed, *tiny(steps=steps, epochs=3)).exit_code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("local")
def test_cells_run_side_by_side_with_the_same_bits(tmp_path: Path) -> None:
    words = ("run", "--methods", "dm", "--ipc", 1, *tiny(epochs=3))
    on_ray = ("--executor", "ray", "--cores-per-cell", 1, "--seeds", "0,1")
    done = invoke(*words, *on_ray, "--output", tmp_path / "two")
    assert done.exit_code == 0, done.output
    assert "[2/2]" in done.stderr
    assert len(found(tmp_path / "two")) == 2
    assert not leftovers(tmp_path / "two")
    assert invoke(*words, "--output", tmp_path / "quiet").exit_code == 0
    again = invoke(*words, *on_ray, "--output", tmp_path / "two")
    assert again.stderr.count("already done") == 2
    one = invoke(*words, *on_ray[:4], "--output", tmp_path / "one")
    assert one.exit_code == 0, one.output
    assert_same(tmp_path / "one", tmp_path / "quiet")


@pytest.mark.slow
@pytest.mark.usefixtures("local")
def test_a_killed_worker_is_replaced_and_its_cell_goes_on(tmp_path: Path) -> None:
    here(tmp_path / "quiet", steps=300)
    output = tmp_path / "killed"
    (job,) = jobs(steps=300)
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not killed:
            for saved in output.glob("checkpoints/*/match.safetensors"):
                lock = next(saved.parents[1].glob(".*.lock"))
                words = holder(FileLock(lock)).split()
                if words[0] == "process" and words[1].isdecimal():
                    os.kill(int(words[1]), signal.SIGKILL)
                    killed.append(int(words[1]))
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    context = RunConfig(CPU, checkpoint_every=0.0).here()
    (result,) = ray_executor.run([job], Store(output), context, Cluster(cores=1))
    killer.join()
    assert killed
    assert result.outcome == "done", result.record.error
    assert_same(output, tmp_path / "quiet")


@pytest.mark.slow
@pytest.mark.usefixtures("local")
def test_a_stopped_grid_goes_on(tmp_path: Path) -> None:
    here(tmp_path / "quiet", steps=300)
    output = tmp_path / "stopped"
    asked = count()
    config = RunConfig(CPU, checkpoint_every=0.0)

    def stop() -> bool:
        saved = list(output.glob("checkpoints/*/match.safetensors"))
        return bool(saved) or next(asked) > 2 * SECONDS

    with pytest.raises(InterruptedRunError):
        list(
            ray_executor.run(
                jobs(steps=300), Store(output), config.here(stop=stop), Cluster(cores=1)
            )
        )
    assert not found(output)
    assert leftovers(output)
    here(output, steps=300)
    assert_same(output, tmp_path / "quiet")


def test_what_a_cell_gets() -> None:
    machine = {"CPU": 16.0, "GPU": 4.0}
    assert share(Cluster(), machine, CPU, 4) == Share(4, 0)
    assert share(Cluster(), machine, CPU, 100) == Share(1, 0)
    assert share(Cluster(cores=3), machine, CPU, 4) == Share(3, 0)
    assert share(Cluster(), machine, CUDA, 100) == Share(4, 1)
    assert share(Cluster(gpus=0.25), machine, CUDA, 100) == Share(1, 0.25)
    with pytest.raises(UsageError, match="--cores-per-cell 32"):
        share(Cluster(cores=32), machine, CPU, 1)
    with pytest.raises(UsageError, match="--gpus-per-cell"):
        share(Cluster(), {"CPU": 16.0}, CUDA, 1)
    nodes = [{"Alive": True, "Resources": {"CPU": cores}} for cores in (8.0, 1.0)]
    assert whole_node(nodes, Share(4, 0.25)) == Share(8, 1)


def test_executors_are_named() -> None:
    assert address_of("ray") is None
    assert address_of("ray:auto") == "auto"
    assert address_of("ray://head:10001") == "ray://head:10001"
    for wrong in ("slurm", "ray://head", "ray:"):
        with pytest.raises(UsageError, match="--executor"):
            address_of(wrong)


def test_without_ray_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("run", "--methods", "dm", "--ipc", 1, *tiny(), "--executor", "ray")
    done = invoke(*words, "--output", tmp_path)
    assert done.exit_code == 2
    assert "pip install 'dcbench-bacon[ray]'" in done.stderr


class LostError(Exception):
    """What a fake Ray raises."""


class FakeRay:
    """Ray whose tasks end at once with what a script says."""

    exceptions = SimpleNamespace(RayError=LostError)

    def __init__(self, *ends: CellResult | Exception) -> None:
        self.ends = list(ends)
        self.given: list[dict[str, Any]] = []

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "NodeID": "here", "Resources": {"CPU": 8.0}}]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "here")

    def remote(self, made: Any) -> Any:
        return SimpleNamespace(options=lambda **given: self._options(made, given))

    def _options(self, made: Any, given: dict[str, Any]) -> Any:
        if made is Board:
            empty = SimpleNamespace(
                remote=lambda: ([], [], [("a cell", {"match/loss": 0.5}, 3)])
            )
            return SimpleNamespace(remote=lambda: SimpleNamespace(take=empty))
        self.given.append(given)
        return SimpleNamespace(remote=lambda *_: object())

    def wait(self, tasks: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return tasks[:1], tasks[1:]

    def get(self, thing: Any) -> Any:
        if isinstance(thing, tuple):  # what the board holds
            return thing
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


class OutOfMemoryError(LostError):
    """The error of a worker that was killed for want of memory."""


def test_out_of_memory_is_retried_alone_and_a_lost_worker_is_recorded(
    tmp_path: Path,
) -> None:
    first, second = jobs(seeds=2)
    context, store = RunConfig(CPU).here(), Store(tmp_path).open()
    ray = FakeRay(
        OutOfMemoryError("killed"), LostError("no node left"), LostError("still")
    )
    jobs_of = [first, second]
    results = list(ray_executor.results(ray, jobs_of, store, context, Cluster()))
    # The data set comes first; the cell that runs again has the whole node.
    assert [each["num_cpus"] for each in ray.given] == [4, 4, 4, 8]
    assert [result.outcome for result in results] == ["failed", "failed"]
    errors = {record.cell.seed: record.error for record in found(tmp_path)}
    assert errors == {0: "LostError: still", 1: "LostError: no node left"}
    assert all("Traceback" in str(each.traceback) for each in found(tmp_path))


def test_what_cells_watch_reaches_the_tracker(tmp_path: Path) -> None:
    (job,) = jobs(seeds=1)
    kept: list[Any] = []
    context = RunConfig(CPU).here()
    policy = replace(context.policy, track=lambda *values: kept.append(values))
    context, store = replace(context, policy=policy), Store(tmp_path).open()
    ray = FakeRay(LostError("x"))
    list(ray_executor.results(ray, [job], store, context, Cluster()))
    assert ("a cell", {"match/loss": 0.5}, 3) in kept
    messages = Board()
    for step in range(2 * board.MOST_TRACKED):
        messages.track("a cell", {"loss": 1.0}, step)
    *_, tracked = messages.take()
    assert tracked[-1] == ("a cell", {"loss": 1.0}, step)
    assert len(tracked) <= board.MOST_TRACKED + 1
    assert messages.take()[2] == []
