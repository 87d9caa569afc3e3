"""``torch.compile`` where it pays: whether, of what, and the reason."""

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from dcbench_bacon.field_types import CompileMode
from dcbench_bacon.runtime import cuda_graphs
from dcbench_bacon.runtime.cuda_graphs import P, T
from dcbench_bacon.runtime.files import cache_folder
from dcbench_bacon.runtime.precision import tensor_cores

logger = logging.getLogger(__name__)


# Forward operations of a stage from which compiling pays under ``auto``. On two CPU
# cores compiling a step takes about a minute the first time and saves a fifth of the
# time (0.2 TFLOP/s); a GPU has done as much work in no time.
PAYS = {"cpu": 1e14, "cuda": 5e15}
_SHAPES = 64  # variants of a function that are kept; dynamo's own limit is 8


@runtime_checkable
class Decider(Protocol):
    """Decides what is compiled: a run, or the clock that it is made of."""

    def compiled(self, function: Callable[P, T], flops: float) -> Callable[P, T]:
        """See ``Run.compiled``."""
        ...


class Compiler:
    """Compiles and records functions, or leaves them as they are.

    Args:
        mode: ``auto`` compiles where there is enough work to pay for it and falls
            back when no compiler works; ``on`` compiles however little there is to do;
            both record CUDA graphs on a GPU, which takes a moment and memory.
    """

    def __init__(self, mode: CompileMode = "off") -> None:
        """Decides nothing yet."""
        self.mode = mode

    def obstacle(self, device: torch.device, flops: float) -> str | None:
        """Why a function with so much to do is not compiled; none if it is."""
        if self.mode == "off":
            return "not asked for"
        enough = PAYS.get(device.type, float("inf"))
        if self.mode == "auto" and flops < enough:
            return f"{flops / 1e12:.3g} TFLOP of work; it pays from {enough / 1e12:.3g}"
        return broken(device)

    def recorder(self, device: torch.device) -> cuda_graphs.Recorder | None:
        """What records functions on a device as graphs; none if nothing does."""
        return None if self.mode == "off" else cuda_graphs.recorder(device)

    def wrap(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, to be compiled when it is first called with a shape."""
        torch._dynamo.config.recompile_limit = _SHAPES
        # Whatever the probe did not foresee runs as it is, with a warning.
        torch._dynamo.config.suppress_errors = True
        compiled: Callable[P, T] = torch.compile(function, dynamic=False)
        return compiled


@cache
def broken(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device; none if a small network can."""
    folder = os.environ.setdefault(
        "TORCHINDUCTOR_CACHE_DIR", str(cache_folder("compiled"))
    )
    logger.debug("compiled code is kept in %s", folder)
    # It warns of a missing CUDA runtime on every machine without one.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # What a network is made of, at the precision of most recipes.
    layers = (nn.Conv2d(1, 1, 3), nn.GroupNorm(1, 1), nn.ReLU(), nn.Flatten())
    probe = nn.Sequential(*layers, nn.Linear(4, 2)).to(device)
    try:
        compiled = torch.compile(probe, dynamic=False)
        with tensor_cores("tf32"):
            logits = compiled(torch.zeros(1, 1, 4, 4, device=device))
            torch.autograd.backward(logits.sum())
    except Exception as error:  # noqa: BLE001 - whatever a compiler dies of
        reason = (str(error).strip().splitlines() or [""])[0]
        kind = type(error).__name__
        logger.warning("torch.compile does not work here (%s: %s)", kind, reason)
        return f"torch.compile does not work here ({kind})"
    return None
