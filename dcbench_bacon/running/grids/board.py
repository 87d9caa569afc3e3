"""What work in other processes shows to the user, and how it is asked to stop."""

from collections.abc import Sequence
from typing import NamedTuple

MOST_SHOWN = 16  # cells of a node whose progress is shown
MOST_TRACKED = 1000  # values that wait for a tracker
Tracked = tuple[str, dict[str, float], int]  # name of the run, values by name, step


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


def view(nodes: Sequence[Node]) -> str:
    """Return what nodes and their cells are doing, a line each after an empty one."""
    lines = [""]
    for node in nodes:
        lines.append(node.load)
        lines += [f"  {text}" for text in list(node.cells.values())[:MOST_SHOWN]]
        if len(node.cells) > MOST_SHOWN:
            lines.append(f"  and {len(node.cells) - MOST_SHOWN} more")
    return "\n".join(lines)
