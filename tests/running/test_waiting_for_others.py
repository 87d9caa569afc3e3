"""Waiting for another process: the user is told and can stop it."""

import math
import os
import time
from itertools import count
from pathlib import Path

import pytest
from filelock import FileLock

from dcbench_bacon.errors import InterruptedRunError
from dcbench_bacon.running import waiting
from dcbench_bacon.runtime.disk.locks import holder
from dcbench_bacon.runtime.monitoring.progress import Silent
from dcbench_bacon.runtime.policy import RunPolicy


class Kept(Silent):
    """Keeps what the user is told, and when."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.start_time = time.monotonic()
        self.seconds = math.inf

    def tell(self, line: str) -> None:
        self.lines.append(line)
        self.seconds = time.monotonic() - self.start_time


@pytest.mark.parametrize("reason", ["Ctrl-C", "time budget"])
def test_who_holds_the_lock_is_told_and_waiting_can_be_stopped(
    tmp_path: Path, reason: str
) -> None:
    asked, told = count(), Kept()
    policy = RunPolicy(
        reporter=told,
        look=0.05,
        stop=lambda: next(asked) == 3 and reason == "Ctrl-C",
        deadline=time.monotonic() + 0.3 if reason == "time budget" else math.inf,
    )
    path = tmp_path / ".cell.lock"
    with (
        FileLock(path),
        pytest.raises(InterruptedRunError, match="another process evaluates x"),
    ):
        waiting.wait_for(FileLock(path), policy, "evaluates x")
    (line,) = told.lines
    assert f"process {os.getpid()} " in line
    assert str(path) in line
    assert told.seconds < 2


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    told, lock = Kept(), FileLock(tmp_path / ".cell.lock")
    waiting.wait_for(lock, RunPolicy(reporter=told), "evaluates x")
    lock.release()
    assert not told.lines
    assert holder(lock) == "another process"
