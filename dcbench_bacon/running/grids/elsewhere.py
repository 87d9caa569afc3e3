"""Cells that run in another process, and what that process shows to the user.

The other process receives plain data: a job, the results folder and a ``RunConfig``. It
makes its own progress, stopping and compiler.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcbench_bacon.running.grids.grid import CellResult, run
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.runtime.monitoring.progress import Reporter
from dcbench_bacon.store import Store

SECONDS = 0.5  # between two messages about the progress of a cell
LOOK_SECONDS = 1.0  # between two questions of whether to stop
MOST_TRACKED = 1000  # values that wait for a tracker
Tracked = tuple[str, dict[str, float], int]  # name of the run, values by name, step
Track = Callable[[str, dict[str, float], int], None]


def run_cell(
    job: CellJob,
    root: Path,
    config: RunConfig,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
    track: Track | None = None,
) -> CellResult:
    """Run a cell in this process, and return its result.

    Args:
        job: the cell and its recipe.
        root: the results folder.
        config: how it runs.
        reporter: shows progress; by default lines go to the log.
        stop: is called after each step and returns whether to stop.
        track: takes what a tracker keeps on the way; None if nothing is tracked.

    Raises:
        InterruptedRunError: the run was stopped; the same job can continue later.
        OutputError: results can no longer be written.
    """
    context = config.here(reporter, stop)
    context = replace(context, policy=replace(context.policy, track=track))
    (result,) = run([job], Store(root), context)
    return result


def portable(job: CellJob, root: Path, config: RunConfig) -> tuple[Any, ...]:
    """Return the same arguments for a process with another working directory."""
    kind, colon, path = job.source.partition(":")
    source = f"{kind}:{Path(path).expanduser().absolute()}" if colon else kind
    data_root = config.data_root and config.data_root.absolute()
    return (
        job._replace(source=source),
        root.absolute(),
        replace(config, data_root=data_root),
    )


class Board:
    """The messages between the process of the user and those that run cells.

    It lies in a process of its own, and holds the lines, the progress and the tracked
    values that were not shown yet.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.lines: list[str] = []
        self.progress: dict[str, str] = {}
        self.tracked: list[Tracked] = []
        self.stopping = False

    def tell(self, line: str) -> None:
        """Keep a line for the user."""
        self.lines.append(line)

    def show(self, cell: str, text: str) -> None:
        """Keep the progress of a cell; an empty text means that it has ended."""
        if text:
            self.progress[cell] = text
        else:
            self.progress.pop(cell, None)

    def track(self, run: str, values: dict[str, float], step: int) -> None:
        """Keep values for a tracker; the oldest are lost if nobody takes them."""
        self.tracked = [*self.tracked[-MOST_TRACKED:], (run, values, step)]

    def take(self) -> tuple[list[str], dict[str, str], list[Tracked]]:
        """Return the new lines, the progress of all cells, and new tracked values."""
        lines, self.lines = self.lines, []
        tracked, self.tracked = self.tracked, []
        return lines, dict(self.progress), tracked

    def stop(self) -> None:
        """Ask all cells to stop after the step in progress."""
        self.stopping = True

    def is_stopping(self) -> bool:
        """Return whether cells are asked to stop."""
        return self.stopping


class BoardReporter:
    """A reporter that sends progress and lines to a board.

    Args:
        cell: the name of the cell.
        tell: sends a line.
        show: sends the name of the cell and its progress.
    """

    def __init__(
        self, cell: str, tell: Callable[[str], Any], show: Callable[[str, str], Any]
    ) -> None:
        """Send nothing yet."""
        self.cell = cell
        self._tell = tell
        self._show = show
        self._title = ""
        self._count = 0
        self._sent = 0.0

    def start(self, title: str, index: int, count: int) -> None:
        """Show that a stage begins."""
        self._title, self._count, self._sent = title, count, 0.0
        self.update(index, "")

    def update(self, index: int, note: str) -> None:
        """Send the number of steps, unless the last message is recent."""
        now = time.monotonic()
        if now - self._sent > SECONDS:
            self._sent = now
            text = f"{self._title} {index:,}/{self._count:,} {note}"
            self._show(self.cell, text.strip())

    def stop(self) -> None:
        """Show that the stage has ended."""
        self._show(self.cell, "")

    def tell(self, line: str) -> None:
        """Send a line."""
        self._tell(line)


class RareQuestion:
    """A question about whether to stop that is asked once per ``LOOK_SECONDS``.

    Args:
        ask: asks another process.
    """

    def __init__(self, ask: Callable[[], bool]) -> None:
        """Ask nothing yet."""
        self._ask = ask
        self._asked = 0.0
        self._answer = False

    def __call__(self) -> bool:
        """Return the answer, which may be ``LOOK_SECONDS`` old."""
        now = time.monotonic()
        if not self._answer and now - self._asked > LOOK_SECONDS:
            self._asked, self._answer = now, self._ask()
        return self._answer
