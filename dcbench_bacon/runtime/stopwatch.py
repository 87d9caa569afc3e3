"""Clocks that do not make the device wait, peak memory, and the environment."""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dcbench_bacon.schema import Phase, Timing

_STEP = ""  # the whole step is timed as a phase without a name
_Mark = Any  # seconds on a CPU, an event on a GPU


class Stopwatch:
    """Times the steps of one stage and their named phases.

    On a GPU it records events, which are read when ``collect`` is called, so that
    timing never synchronises inside a step.

    Args:
        device: where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        """Starts at zero."""
        self.device = device
        self.images = 0
        self.peak_bytes = 0
        self._pending: list[tuple[str, _Mark, _Mark]] = []
        self._seconds: dict[str, list[float]] = {_STEP: []}
        self._phases: dict[str, Phase] = {}
        reset_peak(device)

    def anew(self) -> "Stopwatch":
        """One that starts at zero after a warm-up.

        What a recorded graph takes on a GPU is counted when it is recorded and not when
        it runs, so that this peak stays.
        """
        other = Stopwatch(self.device)
        if self.device.type == "cuda":
            other.peak_bytes = self.peak_bytes
        return other

    @contextmanager
    def step(self) -> Iterator[None]:
        """Times one step."""
        with self.phase(_STEP):
            yield

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a part of a step."""
        start = self._mark()
        yield
        self._pending.append((name, start, self._mark()))

    def collect(self) -> None:
        """Turns the marks taken so far into seconds; synchronises a GPU."""
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
        """What the stage cost so far."""
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
        """For a checkpoint: an interrupted stage keeps the time it has cost."""
        self.collect()
        return {
            "seconds": torch.tensor(self._seconds[_STEP], dtype=torch.float64),
            "phases": {k: [p.seconds, p.calls] for k, p in self._phases.items()},
            "images": self.images,
            "peak_bytes": self.peak_bytes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from ``state_dict``."""
        self._seconds[_STEP] = state["seconds"].tolist()
        self._phases = {k: Phase(*value) for k, value in state["phases"].items()}
        self.images = state["images"]
        self.peak_bytes = state["peak_bytes"]

    def _mark(self) -> _Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between(self, start: _Mark, end: _Mark) -> float:
        if self.device.type != "cuda":
            return float(end - start)
        return float(start.elapsed_time(end)) / 1000


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The three quartiles; zeros of nothing, the value itself of one."""
    if len(values) < 2:
        return (values[0],) * 3 if values else (0.0,) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def reset_peak(device: torch.device) -> None:
    """Starts a new measurement of peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux, or not allowed: the peak of the whole process stands
        return


def peak_bytes(device: torch.device) -> int:
    """Peak memory since ``reset_peak``: of the device, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux, or a container that hides it
        return _peak_of_process()
    return int(line.split()[1]) * 1024


def _peak_of_process() -> int:
    """Peak resident memory since the process began; 0 where nobody counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
