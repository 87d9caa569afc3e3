"""How stages run: checkpoints, stopping, progress, compilation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dcbench_bacon.runtime.compilation import Compiler
from dcbench_bacon.runtime.progress import Reporter, Silent


@dataclass(frozen=True)
class RunPolicy:
    """How stages run; nothing here changes their numbers.

    Attributes:
        folder: where checkpoints go; none are written without it.
        interval: seconds between checkpoints.
        deadline: ``time.monotonic()`` after which the run stops as on Ctrl-C.
        stop: asked after each step whether to stop.
        reporter: shows progress.
        warm_up: steps of each stage that are not timed.
        compiler: what becomes of functions that methods offer for compilation.
    """

    folder: Path | None = None
    interval: float = 60.0
    deadline: float = math.inf
    stop: Callable[[], bool] = lambda: False
    reporter: Reporter = field(default_factory=Silent)
    warm_up: int = 0
    compiler: Compiler = field(default_factory=Compiler)
