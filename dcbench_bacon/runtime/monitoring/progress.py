"""Progress reports: a live bar on a terminal, or plain lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

logger = logging.getLogger(__name__)


_WIDE = 120  # columns for a title and a bar beside each other
LINE_SECONDS = 30.0  # between two lines of progress without a terminal


class _Printer:
    """A printer of lines that stay on the console.

    Args:
        console: the console to print to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    def tell(self, line: str) -> None:
        """Print a line without interpreting any markup in it."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Stage(Progress):
    """The bar of a stage, with lines above and below it that are cut at the right."""

    above = below = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the lines above, the bar and the lines below."""
        if self.above:
            yield Text(self.above, no_wrap=True, overflow="ellipsis")
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield Text(self.below, style="dim", no_wrap=True, overflow="ellipsis")


class Bar(_Printer):
    """A progress bar on a terminal, which disappears when a stage ends.

    A terminal narrower than ``_WIDE`` has no room for the state of the grid, the cell
    and its stage beside the bar and the time that is left.

    Args:
        console: the console to draw on.
    """

    def __init__(self, console: Console) -> None:
        """Keep the console; nothing is drawn yet."""
        super().__init__(console)
        self._progress: _Stage | None = None
        self._task = TaskID(0)

    def start(self, title: str, index: int, count: int) -> None:
        """Show a new bar, which replaces that of an enclosing stage."""
        self.stop()
        wide = self.console.width >= _WIDE
        titles = [TextColumn("{task.description}", markup=False)] if wide else []
        self._progress = _Stage(
            *titles,
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._progress.above = "" if wide else title
        self._task = self._progress.add_task(
            title, total=count, completed=index, note=""
        )
        self._progress.start()

    def update(self, index: int, note: str) -> None:
        """Move the bar to a step; show a note, whose further lines are below it."""
        if self._progress:
            note, _, self._progress.below = note.partition("\n")
            self._progress.update(self._task, completed=index, note=note)

    def stop(self) -> None:
        """Remove the bar."""
        if self._progress:
            self._progress.stop()
            self._progress = None


class Lines(_Printer):
    """Lines of progress at intervals of ``LINE_SECONDS``, for log files.

    Args:
        console: the console to print to.
        now: returns the time in seconds.
    """

    def __init__(
        self, console: Console, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep the console; nothing is printed yet."""
        super().__init__(console)
        self.now = now
        self._title = ""
        self._count = 0
        self._printed = 0.0

    def start(self, title: str, index: int, count: int) -> None:
        """Keep the stage for the lines to come."""
        self._title, self._count = title, count
        self._printed = self.now()

    def update(self, index: int, note: str) -> None:
        """Print a line if the last one is older than ``LINE_SECONDS``."""
        now = self.now()
        if now - self._printed > LINE_SECONDS:
            self._printed = now
            self.tell(f"{self._title} {index}/{self._count} {note}".rstrip(" "))

    def stop(self) -> None:
        """Do nothing; lines stay."""


def reporter(console: Console) -> Bar | Lines:
    """Return a bar for a terminal, or lines for any other console."""
    return Bar(console) if console.is_terminal else Lines(console)


@runtime_checkable
class Reporter(Protocol):
    """An object that shows progress."""

    def start(self, title: str, index: int, count: int) -> None:
        """Show that a stage of ``count`` steps begins or resumes at ``index``."""
        ...

    def update(self, index: int, note: str) -> None:
        """Show that ``index`` steps are done."""
        ...

    def stop(self) -> None:
        """Show that the stage has ended or was interrupted."""
        ...

    def tell(self, line: str) -> None:
        """Show a line that stays on the screen."""
        ...


class Silent:
    """A reporter that shows no progress and writes lines to the log."""

    def start(self, title: str, index: int, count: int) -> None:
        """Do nothing."""

    def update(self, index: int, note: str) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def tell(self, line: str) -> None:
        """Write the line to the log."""
        logger.info(line)


class Relay:
    """A reporter that hands everything to another one; subclasses add to it.

    Args:
        reporter: shows the progress.
    """

    def __init__(self, reporter: Reporter) -> None:
        """Keep the other reporter."""
        self.reporter = reporter

    def start(self, title: str, index: int, count: int) -> None:
        """Show that a stage of ``count`` steps begins or resumes at ``index``."""
        self.reporter.start(title, index, count)

    def update(self, index: int, note: str) -> None:
        """Show that ``index`` steps are done."""
        self.reporter.update(index, note)

    def stop(self) -> None:
        """Show that the stage has ended or was interrupted."""
        self.reporter.stop()

    def tell(self, line: str) -> None:
        """Show a line that stays on the screen."""
        self.reporter.tell(line)


class Overall(Relay):
    """A reporter that puts the state of the whole run before each title.

    Args:
        reporter: shows the progress.
    """

    prefix = ""

    def start(self, title: str, index: int, count: int) -> None:
        """Show that a stage begins, with the prefix."""
        super().start(self.prefix + title, index, count)
