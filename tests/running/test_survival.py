"""Runs that are killed, interrupted or doubled end with the bits of a quiet run."""

import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commandline
import pytest
import torch
from commandline import (
    assert_same,
    finish,
    found,
    invoke,
    leftovers,
    only_record,
    only_set,
    run_killed,
    settable,
    start,
    tiny,
)

from dcbench_bacon.contract import State
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DivergedError, InterruptedRunError, RecordError
from dcbench_bacon.running import run as run_config
from dcbench_bacon.running.clock import Clock, Schedule
from dcbench_bacon.runtime.disk import checkpoint
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.store import Store
from dcbench_bacon.training.on_synthetic import SetTrainer

CPU = torch.device("cpu")
STEPS, EPOCHS = 60, 60
PATIENCE = 60.0  # seconds


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


def command(method: str, output: Path) -> list[str]:
    """A run long enough to be hit in its middle."""
    return [
        *("run", "--methods", method, "--ipc", "1", "--output", str(output)),
        *(*tiny(steps=STEPS, epochs=EPOCHS), "--checkpoint-every", "0"),
    ]


def index_of(output: Path, stage: str) -> int:
    """The steps that a stage's checkpoint holds; 0 when there is none."""
    for path in (output / "checkpoints").glob(f"*/{stage}.safetensors"):
        try:
            return int(checkpoint.read(path)["index"])
        except RecordError:  # removed since it was found: the cell is done
            return 0
    return 0


def wait_for(
    process: "subprocess.Popen[str]", output: Path, stage: str, index: int
) -> int:
    """Waits until so many steps of a stage are saved; the steps first seen."""
    end = time.monotonic() + PATIENCE
    first = None
    while time.monotonic() < end:
        seen = index_of(output, stage)
        first = seen if first is None else first
        assert seen >= first, "the stage began anew"
        if seen >= index:
            return first
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.kill()
    raise AssertionError(f"{stage} did not come to step {index}: {finish(process)}")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dm", "bacon", "dsa"])
def test_killed_from_outside_at_random_moments(method: str, tmp_path: Path) -> None:
    quiet, disturbed = tmp_path / "quiet", tmp_path / "disturbed"
    draws = random.Random(method)
    stages = [f"evaluate-{commandline.NETWORK}-{trial}" for trial in (0, 1)]
    moments = [
        ("match", draws.randint(1, STEPS // 4)),
        ("match", draws.randint(STEPS // 3, STEPS // 2)),
        (stages[1], draws.randint(1, EPOCHS // 2)),
    ]
    before = 0
    for stage, index in moments:
        process = start(*command(method, disturbed))
        first = wait_for(process, disturbed, stage, index)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        assert first >= (before if stage == "match" else 0)
        before = index_of(disturbed, stage)
        total = STEPS if stage == "match" else EPOCHS + 1
        assert index <= before < total, "the kill came too late to test anything"
        assert not found(disturbed)
    for output in (quiet, disturbed):
        code, _, err = commandline.run(*command(method, output))
        assert code == 0, err
        assert "(distilled" in err
    assert_same(disturbed, quiet)

    (path,) = (disturbed / "records").glob("*.json")
    content, changed = path.read_bytes(), path.stat().st_mtime_ns
    again = invoke(*command(method, disturbed))
    assert again.exit_code == 0
    assert "already done" in again.stderr
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, changed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "extra"),
    [
        ("dm", ()),
        ("bacon", ()),
        ("dsa", settable("outer_loop", 4)),
        ("dm", (*settable("protocol.evaluate_every", 2), "--selection", "best_val")),
    ],
    ids=["dm", "bacon", "dsa", "dm-evaluated-on-the-way"],
)
def test_killed_at_every_kind_of_write(
    method: str, extra: tuple[str, ...], tmp_path: Path
) -> None:
    def arguments(output: Path) -> list[str]:
        fixed = ("run", "--methods", method, "--ipc", "1", "--output", str(output))
        return [*fixed, *tiny(), *extra, "--checkpoint-every", "0"]

    quiet, disturbed = tmp_path / "quiet", tmp_path / "disturbed"
    run_killed(*arguments(disturbed))
    code, _, err = commandline.run(*arguments(quiet))
    assert code == 0, err
    assert_same(disturbed, quiet)


@pytest.mark.slow
def test_killed_between_record_and_tidying(tmp_path: Path) -> None:
    output = tmp_path / "results"
    arguments = ("run", "--methods", "dm", "--ipc", 1, "--output", output, *tiny())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "clear", lambda *_: None)
        assert invoke(*arguments).exit_code == 0
    assert leftovers(output)
    assert "already done" in invoke(*arguments).stderr
    assert not leftovers(output)


@pytest.mark.slow
def test_ctrl_c_stops_and_the_printed_command_goes_on(tmp_path: Path) -> None:
    quiet, disturbed = tmp_path / "quiet", tmp_path / "my results"
    process = start(*command("dm", disturbed))
    wait_for(process, disturbed, "match", 5)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "Traceback" not in err
    name, *again = shlex.split(err.strip().splitlines()[-1])
    assert name == "dcbench"
    assert again == command("dm", disturbed)
    assert 5 <= index_of(disturbed, "match") < STEPS
    assert not found(disturbed)
    for output, arguments in ((disturbed, again), (quiet, command("dm", quiet))):
        assert commandline.run(*arguments)[0] == 0, output
    assert_same(disturbed, quiet)


class Late(RunPolicy):
    """A policy under which time is up after the first step, and not before a cell."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "now": lambda: 1e12})

    def stopped(self) -> bool:
        return self.stop()


@pytest.mark.slow
def test_a_time_budget_stops_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run", "--methods", "dm", "--ipc", 1, "--output", tmp_path, *tiny()]
    monkeypatch.setattr(run_config, "RunPolicy", Late)
    words = [str(word) for word in arguments]
    given = [*words, "--fresh", "--time-budget", "999"]
    monkeypatch.setattr(sys, "argv", ["dcbench", *given])
    stopped = invoke(*given)
    monkeypatch.undo()
    assert stopped.exit_code == 130
    again = shlex.join(["dcbench", *words, "--time-budget", "999"])
    assert again in stopped.stderr  # without --fresh: that start has been made
    assert "goes on after" not in stopped.stderr
    assert index_of(tmp_path, "match") == 1
    resumed = invoke(*arguments)
    assert resumed.exit_code == 0
    assert "digits-ipc1-dm-s0 match: goes on after step 1 of 6\n" in resumed.stderr
    assert resumed.stderr.count("goes on after") == 1
    assert only_record(tmp_path).distillation["match"].steps == 6


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    grid = ["run", "--methods", "random,dm", "--ipc", "1,2", "--seeds", "0,1"]
    arguments = [*grid, "--output", tmp_path, *tiny(), "--checkpoint-every", "0"]
    both = [start(*arguments), start(*arguments)]
    ends = [finish(process) for process in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    lines = [line for _, _, err in ends for line in err.splitlines()]
    results = [line for line in lines if line.startswith("[")]
    assert len(results) == 16  # each process names each of the 8 cells
    computed = sorted(line.split()[1] for line in results if "(distilled" in line)
    assert len(computed) == len(set(computed)) == 8
    records = found(tmp_path)
    assert {f"{record.cell}:" for record in records} == set(computed)
    assert all(record.status == "done" for record in records)
    assert len(list((tmp_path / "synthetic").iterdir())) == 8
    assert not leftovers(tmp_path)


@pytest.mark.slow
def test_a_killed_scheduled_evaluation_goes_on(
    tmp_path: Path, train_by: Callable[[Any], None]
) -> None:
    """Networks that were measured before the kill are not trained again."""
    every = settable("protocol.evaluate_every", 3)
    images(tmp_path / "quiet", *every)
    epoch, done = SetTrainer.epoch, 0
    passes = 7  # passes per network; there are two networks per snapshot

    def killed(self: SetTrainer, index: int) -> None:
        nonlocal done
        if done == passes + 2:  # within the second network of the first snapshot
            raise KeyboardInterrupt
        done += 1
        epoch(self, index)

    fixed = ("run", "--methods", "dm", "--ipc", 1, *tiny(), *every)
    train_by(killed)
    stopped = invoke(*fixed, "--output", tmp_path / "killed")
    assert stopped.exit_code == 130
    done = passes + 3
    assert invoke(*fixed, "--output", tmp_path / "killed").exit_code == 0
    # Two snapshots and the final set: the first network of all was trained once.
    assert done - (passes + 3) == 3 * 2 * passes - passes
    assert_same(tmp_path / "killed", tmp_path / "quiet")
    assert not leftovers(tmp_path / "killed")


def images(output: Path, *extra: object) -> torch.Tensor:
    """The set of a run here."""
    fixed = ("run", "--methods", "dm", "--ipc", 1, "--output", output)
    result = invoke(*fixed, *tiny(), *extra)
    assert result.exit_code == 0, result.output
    return only_set(output)


@pytest.mark.slow
def test_same_seed_same_bits_whatever_is_evaluated(tmp_path: Path) -> None:
    first = images(tmp_path / "first")
    for number, extra in enumerate(
        [
            (),
            settable("protocol.evaluate_every", 2),
            settable("protocol.networks", 1),
            ("--checkpoint-every", 0),
        ]
    ):
        assert torch.equal(images(tmp_path / f"{number}", *extra), first), extra
    assert only_record(tmp_path / "1").history
    assert not torch.equal(images(tmp_path / "other", "--seeds", 1), first)


@pytest.mark.slow
def test_sets_that_differ_in_evaluation_alone_are_distilled_once(
    tmp_path: Path,
) -> None:
    images(tmp_path)
    (path,) = (tmp_path / "synthetic").iterdir()
    changed = path.stat().st_mtime_ns
    images(tmp_path, *settable("protocol.epochs", 3))
    assert path.stat().st_mtime_ns == changed
    assert len(found(tmp_path)) == 2


@pytest.mark.slow
def test_divergence_ends_the_cell_and_no_other(tmp_path: Path) -> None:
    fixed = ("run", "--methods", "dm,random", "--ipc", 1, "--output", tmp_path)
    result = invoke(*fixed, *tiny(), *settable("image_lr", 1e30))
    assert result.exit_code == 1
    states = {record.cell.method: record for record in found(tmp_path)}
    assert states["random"].status == "done"
    assert states["dm"].status == "diverged"
    assert "image_lr" in str(states["dm"].error) or "--set" in str(states["dm"].error)
    assert not states["dm"].evaluations
    assert "1 of 2 cells failed" in result.stderr
    again = invoke(*fixed, *tiny(), *settable("image_lr", 1e30))  # tried once more
    assert again.exit_code == 1
    assert "digits-ipc1-dm-s0: diverged" in again.stderr


class Walk:
    """A learner whose value is the sum of its draws."""

    def __init__(self, clock: Clock) -> None:
        self.draws = clock.generator("walk")
        self.value = torch.zeros(3)

    def step(self) -> None:
        self.value += torch.rand(3, generator=self.draws)

    def state_dict(self) -> State:
        return {"value": self.value}

    def load_state_dict(self, state: State) -> None:
        self.value.copy_(state["value"])

    def synthetic(self) -> SyntheticSet:
        return SyntheticSet(self.value.reshape(3, 1, 1, 1).clone(), torch.eye(3))


def walk(clock: Clock, count: int = 10) -> torch.Tensor:
    learner = Walk(clock)
    for _ in clock.steps("walk", count, state=learner):
        learner.step()
    return learner.value


def test_streams_are_independent() -> None:
    def first(clock: Clock) -> torch.Tensor:
        return torch.rand(5, generator=clock.generator("real"))

    alone = first(Clock("cell", CPU))
    among = Clock("cell", CPU)
    torch.rand(7, generator=among.generator("new"))
    for _ in among.steps("another stage", 2):
        with among.phase("a new phase"):
            torch.rand(1, generator=among.generator("stage"))
    assert torch.equal(first(among), alone)
    assert not torch.equal(first(Clock("other cell", CPU)), alone)
    other = torch.rand(5, generator=Clock("cell", CPU).generator("new"))
    assert not torch.equal(other, alone)


def test_the_clock_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    walk(Clock("cell", CPU))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("after", range(1, 10))
def test_a_stage_resumes_where_it_stopped(after: int, tmp_path: Path) -> None:
    quiet = walk(Clock("cell", CPU))
    asked = iter(range(1, 100))
    policy = RunPolicy(folder=tmp_path, stop=lambda: next(asked) == after)
    with pytest.raises(InterruptedRunError, match=f"after step {after}$"):
        walk(Clock("cell", CPU, policy))
    clock = Clock("cell", CPU, RunPolicy(folder=tmp_path))
    assert torch.equal(walk(clock), quiet)
    assert clock.timings["walk"].steps == 10


def test_scheduled_evaluations_come_once_each_and_move_nothing(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(step: int, synthetic: SyntheticSet) -> None:
        seen.append(step)

    def clock(stop: Iterator[bool]) -> Clock:
        policy = RunPolicy(folder=tmp_path, interval=0.0, stop=lambda: next(stop))
        return Clock("cell", CPU, policy, Schedule(3, look))

    with pytest.raises(InterruptedRunError):
        walk(clock(iter([False] * 3 + [True])))
    value = walk(clock(iter([False] * 9)))
    assert seen == [3, 6, 9]
    assert torch.equal(value, walk(Clock("cell", CPU)))


@pytest.mark.parametrize("last", [float("nan"), float("inf"), 1e9])
def test_a_watched_value_that_leaves_its_size_ends_the_stage(
    last: float, tmp_path: Path
) -> None:
    clock = Clock("cell", CPU, RunPolicy(folder=tmp_path, interval=0.0))
    values = torch.tensor([1.0, 2.0, last])

    def watch() -> None:
        for step in clock.steps("match", 3):
            clock.watch("loss", values[step])

    with pytest.raises(DivergedError, match=r"loss is .*began at 1.*--set"):
        watch()
    assert checkpoint.read(tmp_path / "match.safetensors")["index"] == 2


def test_a_checkpoint_of_another_device_is_refused(tmp_path: Path) -> None:
    walk(Clock("cell", CPU, RunPolicy(folder=tmp_path)))
    path = tmp_path / "walk.safetensors"
    checkpoint.write(path, {**checkpoint.read(path), "device": "cuda"})
    with pytest.raises(RecordError, match=r"--device cuda.*--fresh"):
        walk(Clock("cell", CPU, RunPolicy(folder=tmp_path)))


def test_checkpoints_keep_nested_states(tmp_path: Path) -> None:
    shared = torch.rand(2, 3)
    state = {"a": [shared, shared, {"b": None}], "c": 0.1, "d": {"e": shared[:, :1]}}
    checkpoint.write(tmp_path / "x.safetensors", state)
    back = checkpoint.read(tmp_path / "x.safetensors")
    assert torch.equal(back["a"][0], shared)
    assert torch.equal(back["a"][1], shared)
    assert torch.equal(back["d"]["e"], shared[:, :1])
    assert (back["a"][2], back["c"]) == ({"b": None}, 0.1)


def test_sets_keep_their_bits_on_disk(tmp_path: Path) -> None:
    images = torch.rand(4, 3, 8, 8)
    labels = torch.full((4, 2), 0.5)
    path = tmp_path / "set.safetensors"
    synthetic_file.write(path, SyntheticSet(images, labels, 2, {"cell": "x"}))
    back = synthetic_file.read(path)
    assert torch.equal(back.images, images)
    assert torch.equal(back.labels, labels)
    assert (back.partition, back.provenance) == (2, {"cell": "x"})
