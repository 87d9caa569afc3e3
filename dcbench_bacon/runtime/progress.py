"""Progress of long work: a live bar on a terminal, plain lines elsewhere."""

import logging
import time
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)


LINE_SECONDS = 30.0  # between two lines where there is no terminal


class _Printer:
    """Prints lines that stay.

    Args:
        console: where.
    """

    def __init__(self, console: Console) -> None:
        """Prints nothing yet."""
        self.console = console

    def tell(self, line: str) -> None:
        """Prints a line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bar(_Printer):
    """A bar on a terminal; it leaves nothing behind when a stage ends.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        """Draws nothing yet."""
        super().__init__(console)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def start(self, title: str, index: int, count: int) -> None:
        """Begins a bar, in place of the last one if a stage runs within another."""
        self.stop()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30 if self.console.width >= 110 else 10),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._task = self._progress.add_task(
            escape(title), total=count, completed=index, note=""
        )
        self._progress.start()

    def update(self, index: int, note: str) -> None:
        """Moves the bar."""
        if self._progress:
            self._progress.update(self._task, completed=index, note=note)

    def stop(self) -> None:
        """Removes the bar."""
        if self._progress:
            self._progress.stop()
            self._progress = None


class Lines(_Printer):
    """A line now and then, for log files.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        """Prints nothing yet."""
        super().__init__(console)
        self._title = ""
        self._count = 0
        self._printed = 0.0

    def start(self, title: str, index: int, count: int) -> None:
        """Remembers the stage."""
        self._title, self._count = title, count
        self._printed = time.monotonic()

    def update(self, index: int, note: str) -> None:
        """Prints a line if the last one is some time ago."""
        now = time.monotonic()
        if now - self._printed > LINE_SECONDS:
            self._printed = now
            self.tell(f"{self._title} {index}/{self._count} {note}")

    def stop(self) -> None:
        """Nothing is left to do."""


def reporter(console: Console) -> Bar | Lines:
    """What fits the console."""
    return Bar(console) if console.is_terminal else Lines(console)


@runtime_checkable
class Reporter(Protocol):
    """Shows progress."""

    def start(self, title: str, index: int, count: int) -> None:
        """A stage begins, or goes on at ``index``."""
        ...

    def update(self, index: int, note: str) -> None:
        """So many steps are done."""
        ...

    def stop(self) -> None:
        """The stage has ended or was interrupted."""
        ...

    def tell(self, line: str) -> None:
        """Something that is to stay on the screen."""
        ...


class Silent:
    """A reporter that shows nothing; what it is told goes to the log."""

    def start(self, title: str, index: int, count: int) -> None:
        """Shows nothing."""

    def update(self, index: int, note: str) -> None:
        """Shows nothing."""

    def stop(self) -> None:
        """Shows nothing."""

    def tell(self, line: str) -> None:
        """Logs the line."""
        logger.info(line)
