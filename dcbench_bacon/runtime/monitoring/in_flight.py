"""The processes that work in a results folder, and what each of them is doing.

Each process keeps one small file, ``inflight/HOST-PID.json``, which it renews while it
works and removes when it ends. On a shared folder, any machine can read them.
"""

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from dcbench_bacon.errors import OutputError
from dcbench_bacon.runtime.disk.files import slug, write_atomically
from dcbench_bacon.runtime.monitoring.progress import Relay, Reporter

FOLDER = "inflight"
SECONDS = 5.0  # between two writes of the file of a process
QUIET_SECONDS = 120.0  # without a write before a process is called quiet


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a process that works in a results folder.

    Attributes:
        host: the name of its machine.
        pid: the number of the process on that machine.
        command: the command line.
        began: the time at which it began, in seconds since the epoch.
        written: the time of this message, in seconds since the epoch.
        title: the cell and the stage that it works on; empty between two stages.
        index: the number of steps done.
        count: the number of steps of the stage.
        note: what its progress shows besides, such as the loss.
    """

    host: str
    pid: int
    command: str
    began: float
    written: float
    title: str = ""
    index: int = 0
    count: int = 0
    note: str = ""

    @property
    def ended(self) -> bool:
        """Whether the process ran on this machine and is gone, as after a kill."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # a process of another user
            return False
        return False


class Announcer(Relay):
    """A reporter that also keeps the file of this process up to date.

    A file that cannot be written ends no run: the next attempt is ``every`` later.

    Args:
        reporter: shows the progress.
        output: the results folder.
        command: the arguments of the command line.
        every: the seconds between two writes of the file.
    """

    def __init__(
        self, reporter: Reporter, output: Path, command: Sequence[str], every: float
    ) -> None:
        """Write the file for the first time."""
        super().__init__(reporter)
        self.every = every
        now = time.time()
        self.state = InFlight(
            host=socket.gethostname(),
            pid=os.getpid(),
            command=shlex.join(["dcbench", *command]),
            began=now,
            written=now,
        )
        self.path = output / FOLDER / f"{slug(self.state.host)}-{os.getpid()}.json"
        self._write()

    def start(self, title: str, index: int, count: int) -> None:
        """Show that a stage of ``count`` steps begins or resumes at ``index``."""
        self.state = msgspec.structs.replace(
            self.state, title=title, index=index, count=count, note=""
        )
        self._write_now_and_then()
        super().start(title, index, count)

    def update(self, index: int, note: str) -> None:
        """Show that ``index`` steps are done."""
        self.state = msgspec.structs.replace(self.state, index=index, note=note)
        self._write_now_and_then()
        super().update(index, note)

    def _write_now_and_then(self) -> None:
        if time.time() - self.state.written > self.every:
            self._write()

    def _write(self) -> None:
        self.state = msgspec.structs.replace(self.state, written=time.time())
        with suppress(OutputError):
            write_atomically(self.path, msgspec.json.encode(self.state))


@contextmanager
def announced(
    reporter: Reporter, output: Path, every: float = SECONDS
) -> Iterator[Reporter]:
    """Yield a reporter that announces the work of this process until the end.

    Files of processes of this machine that were killed are removed.

    Args:
        reporter: shows the progress.
        output: the results folder.
        every: the seconds between two writes of the file of this process.
    """
    for path, state in _files(output):
        if state.ended:
            path.unlink(missing_ok=True)
    announcer = Announcer(reporter, output, sys.argv[1:], every)
    try:
        yield announcer
    finally:
        with suppress(OSError):
            announcer.path.unlink(missing_ok=True)


def processes(output: Path) -> list[InFlight]:
    """Return what the processes in a results folder are doing, the oldest first."""
    states = [state for _, state in _files(output)]
    return sorted(states, key=lambda state: (state.began, state.host, state.pid))


def _files(output: Path) -> Iterator[tuple[Path, InFlight]]:
    """Yield the files of processes and their content; damaged ones are left out."""
    for path in (output / FOLDER).glob("*.json"):
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            yield path, msgspec.json.decode(path.read_bytes(), type=InFlight)
