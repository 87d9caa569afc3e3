"""Ctrl-C and time budgets end long steps and compilations within seconds."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dcbench_bacon.errors import InterruptedRunError
from dcbench_bacon.running import interrupt
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.grids.grid import at_work
from dcbench_bacon.running.interrupt import stoppable
from dcbench_bacon.runtime.monitoring import pace
from dcbench_bacon.runtime.monitoring.pace import Pace
from dcbench_bacon.runtime.monitoring.progress import Silent
from dcbench_bacon.runtime.policy import PATIENCE, RunPolicy

CPU = torch.device("cpu")
ALLOWED = 10  # seconds between a request to stop and its end
SHORT = 0.2  # seconds of patience with a step


class Walk:
    """A state that each step changes by a random number."""

    def __init__(self) -> None:
        self.value = torch.zeros(3)

    def step(self, random: torch.Generator) -> None:
        self.value += torch.randn(3, generator=random)

    def state_dict(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.value = state["value"]


class Told(Silent):
    """A reporter that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)


def walk(folder: Path, hang: Callable[[int], None] = lambda _: None) -> Tensor:
    """Eight steps; ``hang`` is called in the middle of each."""
    policy = RunPolicy(folder=folder, patience=SHORT)
    run, state = Clock("cell", CPU, policy), Walk()
    random = run.generator("walk")
    for index in run.steps("walk", 8, state):
        state.value += 1
        hang(index)
        state.step(random)
    return state.value


@at_work()
def stopped_walk(folder: Path, deadline: float, hang: Callable[[int], None]) -> None:
    with stoppable(deadline, patience=SHORT):
        walk(folder, hang)


def test_a_step_that_does_not_end_is_left_and_the_rest_goes_on(tmp_path: Path) -> None:
    def hang(index: int) -> None:
        time.sleep({2: 0.3, 3: 60}.get(index, 0))

    began = time.monotonic()
    with pytest.raises(InterruptedRunError, match=r"budget is spent.*was left"):
        stopped_walk(tmp_path / "stopped", began + 0.5, hang)
    assert time.monotonic() - began < ALLOWED
    # The long step before it was saved, although the interval is a minute.
    seen: list[int] = []
    resumed = walk(tmp_path / "stopped", seen.append)
    assert seen == [3, 4, 5, 6, 7]
    assert torch.equal(resumed, walk(tmp_path / "quiet"))


def test_a_compilation_is_left_at_once() -> None:
    def slow(module: torch.fx.GraphModule, example: object) -> Callable[..., object]:
        time.sleep(60)
        return module.forward

    compiled = torch.compile(lambda x: x + 1, backend=slow)
    torch._dynamo.config.suppress_errors = True
    began = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt, match="budget"),
        stoppable(began + 0.5),
    ):
        compiled(torch.zeros(2))
    assert time.monotonic() - began < PATIENCE


def test_the_second_ctrl_c_stops_at_once() -> None:
    def press() -> None:
        for _ in range(2):
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), stoppable():
        time.sleep(60)
    assert time.monotonic() - began < PATIENCE


def test_a_request_that_the_step_meets_raises_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable(time.monotonic() + 0.1) as stop:
        assert not stop()
        time.sleep(0.5)
        assert stop()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_work_inside_compiled_code_ends_with_the_process() -> None:
    script = """
import hashlib, time
from dcbench_bacon.running import interrupt
interrupt.LAST_PATIENCE = 0.5
with interrupt.stoppable(time.monotonic() + 0.2, patience=0.5):
    hashlib.pbkdf2_hmac("sha256", b"", b"", 400_000_000)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == interrupt.INTERRUPTED, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "the time budget is spent, and the step in progress was left"


SLOW_COMPILER = """
import time, torch
from dcbench_bacon.cli.main import main
from dcbench_bacon.runtime.compute.compilation import Compiler

def slow(module, example):
    time.sleep(60)
    return module.forward

Compiler.obstacle = lambda *_: None
Compiler.wrap = lambda _, function: torch.compile(function, backend=slow)
torch._dynamo.config.suppress_errors = True
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [True, False])
def test_the_command_stops_while_it_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path))
    words = ["run", "--methods", "dm", "--datasets", "digits", "--ipc", "1"]
    words += ["--output", str(tmp_path), "--preset", "demo", "--compile", "on"]
    words += [] if signalled else ["--time-budget", "15"]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_COMPILER, *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines = []
    with process:
        for line in process.stderr:
            lines.append(line)
            if signalled and "compiling (about" in line:
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
                began = time.monotonic()
            elif "budget is spent: " in line:
                began = time.monotonic()
    assert process.returncode == interrupt.INTERRUPTED, lines
    assert time.monotonic() - began < ALLOWED
    if signalled:  # a busy machine may not get as far within the budget
        assert "compiling (about 60 s, once)" in "".join(lines)
        assert "was left; the last checkpoint is kept" in "".join(lines)
    assert "dcbench run --methods dm" in lines[-1]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Told:
    """A reporter, and no cache of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(Pace, "warned", False)
    return Told()


def test_the_first_compilation_is_announced_with_the_time_it_took_before(
    told: Told,
) -> None:
    for number in range(2):
        watched = Pace("cell match", 5, CPU, told.tell, compiles=True, silence=0.01)
        watched.begin()
        until = time.monotonic() + ALLOWED
        while len(told.lines) == number and time.monotonic() < until:
            time.sleep(0.01)
        watched.end()
        pace.remember(f"{torch.__version__} cpu cell match", 17.0)
    assert told.lines == [
        "cell match: compiling (about 60 s, once)",
        "cell match: compiling (about 17 s, once)",
    ]


def test_other_processes_on_the_processor_are_named_once(told: Told) -> None:
    load, others = 3.0 * (os.cpu_count() or 1), ["cc1plus 12", "python 34"]
    now = [0.0]
    watched = Pace(
        *("cell match", 5, CPU, told.tell),
        compiles=False,
        now=lambda: now[0],
        look=lambda: pace.crowded(load, others),
    )
    for taken in (1.0, 1.0, 4.0, 4.0, 4.0, 4.0):
        watched.begin()
        now[0] += taken
        watched.end()
    (line,) = told.lines
    assert "compete for the" in line
    assert "cc1plus 12, python 34" in line
    assert line.endswith("a step takes 4 s, the fastest took 1 s")
