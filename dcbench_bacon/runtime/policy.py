"""The settings of a run's stages: checkpoints, stopping, progress and compilation."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dcbench_bacon.runtime.compute.compilation import Compiler
from dcbench_bacon.runtime.monitoring.progress import Reporter, Silent

PATIENCE = 4.0  # seconds that a step in progress has to end after a request to stop


@dataclass(frozen=True)
class RunPolicy:
    """The settings of a run's stages that do not change their numbers.

    Attributes:
        folder: the folder of the checkpoints; None writes no checkpoints.
        interval: the seconds between checkpoints.
        deadline: the value of ``now()`` after which the run stops as on Ctrl-C.
        stop: is called after each step and returns whether to stop.
        reporter: shows the progress.
        warm_up: the number of first steps per stage that are not timed.
        compiler: compiles and records the functions that methods offer.
        track: takes the name of the run, watched values by name and the step, at each
            report of progress.
        report: the seconds between two reports of progress.
        look: the seconds between two looks at a lock that another process holds.
        patience: the seconds that a step has to end after a request to stop. A step
            that takes longer may be left, so each such step is saved.
        now: returns the time in seconds.
    """

    folder: Path | None = None
    interval: float = 60.0
    deadline: float = math.inf
    stop: Callable[[], bool] = lambda: False
    reporter: Reporter = field(default_factory=Silent)
    warm_up: int = 0
    compiler: Compiler = field(default_factory=Compiler)
    track: Callable[[str, dict[str, float], int], None] | None = None
    report: float = 0.5
    look: float = 1.0
    patience: float = PATIENCE
    now: Callable[[], float] = time.monotonic

    def stopped(self) -> bool:
        """Return whether the user has asked to stop, or the time budget is spent."""
        return self.stop() or self.now() > self.deadline
