"""Timing of steps that does not make the device wait, and peak memory."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dcbench_bacon.schema import Phase, Timing

PROC = Path("/proc/self")
_STEP = ""  # the name of the phase that is the whole step
_Mark = Any  # a time in seconds on a CPU, an event on a GPU


class Stopwatch:
    """A stopwatch for the steps of one stage and their named phases.

    On a GPU it records events, which it reads when ``collect`` is called, so that
    timing never synchronises inside a step.

    Args:
        device: the device on which the steps run.
        now: returns the time in seconds; a GPU is timed by events instead.
    """

    def __init__(
        self, device: torch.device, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """Start at zero, with a new measurement of peak memory."""
        self.device = device
        self.now = now
        self.images = 0
        self.peak_bytes = 0
        self._pending: list[tuple[str, _Mark, _Mark]] = []
        self._seconds: dict[str, list[float]] = {_STEP: []}
        self._phases: dict[str, Phase] = {}
        reset_peak(device)

    def anew(self) -> "Stopwatch":
        """Return a new stopwatch for the steps after a warm-up.

        On a GPU it keeps the peak memory, because the memory of a recorded graph is
        counted when the graph is recorded and not when it runs.
        """
        other = Stopwatch(self.device, self.now)
        if self.device.type == "cuda":
            other.peak_bytes = self.peak_bytes
        return other

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one step."""
        with self.phase(_STEP):
            yield

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a named part of a step."""
        start = self._mark()
        yield
        self._pending.append((name, start, self._mark()))

    def collect(self) -> None:
        """Convert the marks so far into seconds; this synchronises a GPU."""
        if self.device.type == "cuda" and self._pending:
            torch.cuda.synchronize(self.device)
        for name, start, end in self._pending:
            seconds = self._between(start, end)
            if name == _STEP:
                self._seconds[_STEP].append(seconds)
            else:
                old = self._phases.get(name, Phase(0.0, 0))
                self._phases[name] = Phase(old.seconds + seconds, old.calls + 1)
        self._pending.clear()
        self.peak_bytes = max(self.peak_bytes, peak_bytes(self.device))

    def timing(self) -> Timing:
        """Return the cost of the stage so far."""
        self.collect()
        seconds = self._seconds[_STEP]
        low, middle, high = quartiles(seconds)
        return Timing(
            seconds=sum(seconds),
            steps=len(seconds),
            median=middle,
            iqr=high - low,
            images=self.images,
            peak_bytes=self.peak_bytes,
            phases=dict(self._phases),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the cost so far for a checkpoint."""
        self.collect()
        return {
            "seconds": torch.tensor(self._seconds[_STEP], dtype=torch.float64),
            "phases": {k: [p.seconds, p.calls] for k, p in self._phases.items()},
            "images": self.images,
            "peak_bytes": self.peak_bytes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of ``state_dict``."""
        self._seconds[_STEP] = state["seconds"].tolist()
        self._phases = {k: Phase(*value) for k, value in state["phases"].items()}
        self.images = state["images"]
        self.peak_bytes = state["peak_bytes"]

    def _mark(self) -> _Mark:
        if self.device.type != "cuda":
            return self.now()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between(self, start: _Mark, end: _Mark) -> float:
        if self.device.type != "cuda":
            return float(end - start)
        return float(start.elapsed_time(end)) / 1000


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the three quartiles; of one value that value, of no values zeros."""
    if len(values) < 2:
        return (values[0],) * 3 if values else (0.0,) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def reset_peak(device: torch.device, proc: Path = PROC) -> None:
    """Start a new measurement of peak memory.

    Args:
        device: see ``peak_bytes``.
        proc: the folder of this process in the system's ``/proc``.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (proc / "clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux, or not allowed: the peak is that of the whole process
        return


def peak_bytes(device: torch.device, proc: Path = PROC) -> int:
    """Return the peak memory since ``reset_peak`` in bytes.

    Args:
        device: a GPU, whose own memory counts, or the CPU, for which the resident
            memory of this process counts.
        proc: the folder of this process in the system's ``/proc``.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = (proc / "status").read_text(encoding="utf-8", errors="replace")
        line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux, or a container that hides it
        return _peak_of_process()
    return int(line.split()[1]) * 1024


def _peak_of_process() -> int:
    """Return the peak resident memory of the process in bytes, or 0 if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
