"""How work in a worker reports to the user's process, and is asked to stop."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from dcbench_bacon.running.run import RunConfig, RunContext
from dcbench_bacon.runtime.monitoring.progress import Reporter

SECONDS = 0.5  # between two messages about the progress of a cell
LOOK_SECONDS = 1.0  # between two questions of whether to stop
Track = Callable[[str, dict[str, float], int], None]


class Aside(NamedTuple):
    """What work in another process sends and asks on the way.

    Attributes:
        reporter: shows progress and lines.
        stop: is called after each step and returns whether to stop.
        track: takes what a tracker keeps; None if nothing is tracked.
    """

    reporter: Reporter
    stop: Callable[[], bool]
    track: Track | None = None

    def context(self, config: RunConfig) -> RunContext:
        """Return a configuration in this process."""
        context = config.here(self.reporter, self.stop)
        return replace(context, policy=replace(context.policy, track=self.track))


class BoardReporter:
    """A reporter that sends progress and lines to a board.

    Args:
        cell: the name of the cell.
        tell: sends a line.
        show: sends the name of the cell and its progress.
        now: returns the time in seconds.
    """

    def __init__(
        self,
        cell: str,
        tell: Callable[[str], Any],
        show: Callable[[str, str], Any],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Send nothing yet."""
        self.cell = cell
        self._now = now
        self._tell = tell
        self._show = show
        self._title = ""
        self._count = 0
        self._sent = -math.inf
        self._began = (0.0, 0)  # time, and the step that the stage began at

    def start(self, title: str, index: int, count: int) -> None:
        """Show that a stage begins."""
        self._title, self._count, self._sent = title, count, -math.inf
        self._began = (self._now(), index)
        self.update(index, "")

    def update(self, index: int, note: str) -> None:
        """Send the number of steps, unless the last message is recent."""
        now = self._now()
        if now - self._sent > SECONDS:
            self._sent = now
            text = f"{self._title} {index:,}/{self._count:,} {note}".strip()
            self._show(self.cell, text + self._left(now, index))

    def _left(self, now: float, index: int) -> str:
        """Return the time that the stage will still take, as the end of a line."""
        began, first = self._began
        if index <= first:
            return ""
        seconds = (now - began) / (index - first) * (self._count - index)
        return f", {timedelta(seconds=round(seconds))} left"

    def stop(self) -> None:
        """Show that the stage has ended."""
        self._show(self.cell, "")

    def tell(self, line: str) -> None:
        """Send a line."""
        self._tell(line)


class RareQuestion:
    """A question about whether to stop, asked every ``LOOK_SECONDS`` and not awaited.

    A thread waits for the answer: while the main thread of a task waits for Ray, Ray
    gives its cores to another task.

    Args:
        ask: asks another process.
    """

    def __init__(self, ask: Callable[[], bool]) -> None:
        """Ask nothing yet."""
        self._ask = ask
        self._asked = 0.0
        self._asking = False
        self._answer = False

    def __call__(self) -> bool:
        """Return the last answer."""
        now = time.monotonic()
        if not (self._answer or self._asking) and now - self._asked > LOOK_SECONDS:
            self._asked, self._asking = now, True
            threading.Thread(target=self._look, daemon=True).start()
        return self._answer

    def _look(self) -> None:
        try:
            self._answer = self._ask()
        finally:
            self._asking = False


def load_of_node() -> str:
    """Return the name of this machine, its load average and its cores."""
    return (
        f"{socket.gethostname()}: load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores"
    )
