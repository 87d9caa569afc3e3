"""What work in other processes shows to the user, and how it is asked to stop."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from dcbench_bacon.running.run import RunConfig, RunContext
from dcbench_bacon.runtime.monitoring.progress import Reporter

SECONDS = 0.5  # between two messages about the progress of a cell
LOOK_SECONDS = 1.0  # between two questions of whether to stop
MOST_SHOWN = 16  # cells of a node whose progress is shown
MOST_TRACKED = 1000  # values that wait for a tracker
Tracked = tuple[str, dict[str, float], int]  # name of the run, values by name, step
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


class Node(NamedTuple):
    """What a node of a cluster is doing.

    Attributes:
        load: its name and its load.
        cells: the progress of each cell on it, by the name of the cell.
    """

    load: str
    cells: dict[str, str]


class Board:
    """The messages between the process of the user and those that run cells.

    It lies in a process of its own, and holds the lines, the progress and the tracked
    values that were not shown yet.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.lines: list[str] = []
        self.nodes: dict[str, Node] = {}
        self.tracked: list[Tracked] = []
        self.stopping = False

    def tell(self, line: str) -> None:
        """Keep a line for the user."""
        self.lines.append(line)

    def show(self, node: str, load: str, cell: str, text: str) -> None:
        """Keep the load of a node and the progress of a cell on it.

        Args:
            node: identifies the node.
            load: its name and its load; empty where ``text`` is.
            cell: the name of the cell.
            text: its progress; empty when it has ended.
        """
        for other in self.nodes.values():  # it may have been on another node before
            other.cells.pop(cell, None)
        cells = self.nodes[node].cells if node in self.nodes else {}
        if text:
            self.nodes[node] = Node(load, {**cells, cell: text})

    def track(self, run: str, values: dict[str, float], step: int) -> None:
        """Keep values for a tracker; the oldest are lost if nobody takes them."""
        self.tracked = [*self.tracked[-MOST_TRACKED:], (run, values, step)]

    def take(self) -> tuple[list[str], list[Node], list[Tracked]]:
        """Return the new lines, the nodes with cells, and new tracked values."""
        lines, self.lines = self.lines, []
        tracked, self.tracked = self.tracked, []
        return lines, [node for node in self.nodes.values() if node.cells], tracked

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
        self._began = (0.0, 0)  # time, and the step that the stage began at

    def start(self, title: str, index: int, count: int) -> None:
        """Show that a stage begins."""
        self._title, self._count, self._sent = title, count, 0.0
        self._began = (time.monotonic(), index)
        self.update(index, "")

    def update(self, index: int, note: str) -> None:
        """Send the number of steps, unless the last message is recent."""
        now = time.monotonic()
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


def load_of_node() -> str:
    """Return the name of this machine, its load average and its cores."""
    return (
        f"{socket.gethostname()}: load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores"
    )


def view(nodes: Sequence[Node]) -> str:
    """Return what nodes and their cells are doing, a line each after an empty one."""
    lines = [""]
    for node in nodes:
        lines.append(node.load)
        lines += [f"  {text}" for text in list(node.cells.values())[:MOST_SHOWN]]
        if len(node.cells) > MOST_SHOWN:
            lines.append(f"  and {len(node.cells) - MOST_SHOWN} more")
    return "\n".join(lines)
