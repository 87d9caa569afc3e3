"""The pace of steps: what the first one waits for, and what slows the others down."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import torch

from dcbench_bacon.errors import OutputError
from dcbench_bacon.runtime.disk.files import cache_folder, write_atomically
from dcbench_bacon.runtime.monitoring.notice import SILENCE, Notice

USUAL = {"cpu": 60.0, "cuda": 90.0}  # seconds of a compilation that was never timed
CROWDED = 1.5  # runnable threads per core from which processes slow each other down
SLOWER = 3.0  # a step that takes this many times the fastest one is slowed down
IN_A_ROW = 3  # slow steps in a row; a single one may have another reason
LEAST_SECONDS = 0.1  # shorter steps vary too much
LOOK_SECONDS = 5.0  # between two looks at the load average
MOST_NAMES = 4  # processes that a warning names


class Pace:
    """The pace of the steps of one stage.

    Args:
        title: the name of the stage for lines to the user.
        count: number of steps of the stage.
        device: on which the steps run.
        tell: shows a line to the user.
        compiles: whether the first step compiles.
        silence: the seconds before a line about the first step appears.
        now: returns the time in seconds.
        look: returns a line about other processes on the processor; empty if there
            are none. None looks at this machine.
    """

    warned = False  # whether this process has warned of other processes

    def __init__(
        self,
        title: str,
        count: int,
        device: torch.device,
        tell: Callable[[str], None],
        *,
        compiles: bool,
        silence: float = SILENCE,
        now: Callable[[], float] = time.monotonic,
        look: Callable[[], str] | None = None,
    ) -> None:
        """Wait for the first step."""
        self.title = title
        self.count = count
        self.device = device
        self.tell = tell
        self.compiles = compiles
        self.silence = silence
        self.now = now
        self.look = look or contention
        self._notice: Notice | None = None
        self._steps = 0
        self._slow = 0
        self._fastest = float("inf")
        self._began = self._looked = now()

    def begin(self) -> None:
        """Note that a step begins."""
        if self._steps == 0:
            self._notice = Notice(self.tell, self._first_line(), self.silence)
        self._began = self.now()

    def end(self) -> float:
        """Note that a step has ended; return its seconds on the clock."""
        self.close()
        now = self.now()
        seconds = now - self._began
        self._steps += 1
        if self._steps == 1:
            if self.compiles:
                remember(self._kind(), seconds)
            return seconds
        self._fastest = min(self._fastest, seconds)
        slow = seconds > SLOWER * max(self._fastest, LEAST_SECONDS)
        self._slow = self._slow + 1 if slow else 0
        if not Pace.warned and self.device.type == "cpu":
            self._look(now, seconds)
        return seconds

    def close(self) -> None:
        """Withdraw the line about the first step, which has ended or was left."""
        if self._notice:
            self._notice.withdraw()
            self._notice = None

    def _first_line(self) -> str:
        """Return what the user reads while the first step is in progress."""
        if self.compiles:
            seconds = expected(self._kind(), self.device)
            return f"{self.title}: compiling (about {seconds:.0f} s, once)"
        return f"{self.title}: the first of {self.count:,} steps is in progress"

    def _kind(self) -> str:
        """Return the name that the duration of a compilation is kept under."""
        return f"{torch.__version__} {self.device.type} {self.title}"

    def _look(self, now: float, seconds: float) -> None:
        """Warn once per process if other processes slow the steps down."""
        if self._slow < IN_A_ROW and now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if line := self.look():
            line = f"{line}; a step takes {seconds:.2g} s"
        elif self._slow >= IN_A_ROW:
            line = (
                "something slows the processor down, perhaps other work on this "
                f"machine: a step takes {seconds:.2g} s"
            )
        if line:
            Pace.warned = True
            self.tell(f"{line}, the fastest took {self._fastest:.2g} s")


def contention() -> str:
    """Return a line about other processes on the processor, or an empty text."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # not every system has one
        return ""
    return crowded(load, busy())


def crowded(load: float, others: Sequence[str]) -> str:
    """Return a line about other processes if the load is high, or an empty text.

    Args:
        load: the load average, in runnable threads.
        others: the names and numbers of other processes that run.
    """
    cores = os.cpu_count() or 1
    if load < CROWDED * cores or not others:
        return ""
    named = ", ".join(others[:MOST_NAMES]) + ", ..." * (len(others) > MOST_NAMES)
    threads = max(1, cores - len(others))
    advice = ""
    if threads < torch.get_num_threads():
        advice = f"; OMP_NUM_THREADS={threads} keeps out of their way"
    return (
        f"other processes compete for the {cores} processor cores (load average "
        f"{load:.1f}; {named}){advice}"
    )


def busy() -> list[str]:
    """Return the names and numbers of other processes that run at this moment."""
    names = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = status.read_text(errors="replace").rpartition(")")
        except OSError:  # it has ended, or /proc hides it
            continue
        number, _, name = head.partition(" (")
        if rest.split()[:1] == ["R"] and int(number) != os.getpid():
            names.append(f"{name} {number}")
    return names


def expected(kind: str, device: torch.device) -> float:
    """Return the seconds that a compilation took last time, or take as a rule."""
    known = _durations()
    if kind in known:
        return known[kind]
    alike = " ".join(kind.split(" ")[:2])
    same = [seconds for name, seconds in known.items() if name.startswith(alike)]
    return statistics.median(same) if same else USUAL.get(device.type, USUAL["cpu"])


def remember(kind: str, seconds: float) -> None:
    """Keep the duration of a compilation for the next time it is announced."""
    content = msgspec.json.encode({**_durations(), kind: seconds})
    with suppress(OutputError):  # it is only a help
        write_atomically(_path(), content)


def _durations() -> dict[str, float]:
    """Return the kept durations in seconds."""
    try:
        return msgspec.json.decode(_path().read_bytes(), type=dict[str, float])
    except (OSError, msgspec.MsgspecError):
        return {}


def _path() -> Path:
    """Return the file of the durations."""
    return cache_folder("compiled") / "seconds.json"
