"""Decides whether ``torch.compile`` and CUDA graphs are used, and states why not."""

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from dcbench_bacon.field_types import CompileMode
from dcbench_bacon.runtime.compute import cuda_graphs
from dcbench_bacon.runtime.compute.cuda_graphs import P, T
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.runtime.disk.caches import COMPILED

logger = logging.getLogger(__name__)


# The number of forward operations per stage from which compiling saves time under
# ``auto``. On two CPU cores, compiling a step takes about a minute the first time and
# saves a fifth of the time (0.2 TFLOP/s). A GPU does the same work so fast that
# compiling saves time only from more work on.
PAYS = {"cpu": 1e14, "cuda": 5e15}
_SHAPES = 64  # compiled variants that are kept per function; dynamo's default is 8


@runtime_checkable
class Decider(Protocol):
    """An object that decides what is compiled, such as a run."""

    def compiled(self, function: Callable[P, T], flops: float) -> Callable[P, T]:
        """Return the function, compiled or not; see ``Run.compiled``."""
        ...


class Compiler:
    """The compilation of functions and their recording as CUDA graphs.

    Args:
        mode: ``auto`` compiles where there is enough work to save time, if a compiler
            works; ``on`` compiles for any amount of work; both record CUDA graphs on a
            GPU, which takes some time and memory. ``off`` does neither.
        probe: returns why nothing can be compiled for a device, or None if it can;
            by default a small network is tried.
    """

    def __init__(
        self,
        mode: CompileMode = "off",
        probe: Callable[[torch.device], str | None] | None = None,
    ) -> None:
        """Keep the mode; nothing is tried yet."""
        self.mode = mode
        self.probe = probe or broken

    def obstacle(self, device: torch.device, flops: float) -> str | None:
        """Return why a function of so many operations is not compiled, or None."""
        if self.mode == "off":
            return "not asked for"
        enough = PAYS.get(device.type, float("inf"))
        if self.mode == "auto" and flops < enough:
            work = f"{flops / 1e12:.3g} TFLOP of work"
            return f"{work}; compiling saves time from {enough / 1e12:.3g}"
        return self.probe(device)

    def recorder(self, device: torch.device) -> cuda_graphs.Recorder | None:
        """Return what records CUDA graphs on a device, or None if nothing does."""
        return None if self.mode == "off" else cuda_graphs.recorder(device)

    def wrap(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function, which compiles at its first call with a new shape."""
        torch._dynamo.config.recompile_limit = _SHAPES
        # A function that fails to compile although the probe compiled runs without
        # compilation, with a warning.
        torch._dynamo.config.suppress_errors = True
        compiled: Callable[P, T] = torch.compile(function, dynamic=False)
        return compiled


@cache
def broken(device: torch.device) -> str | None:
    """Return why a small network cannot be compiled for a device, or None if it can."""
    folder = os.environ.setdefault(COMPILED.variable, str(COMPILED.folder))
    logger.debug("compiled code is kept in %s", folder)
    # This logger warns of a missing CUDA runtime on every machine without one.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # The kinds of layers in a network, at the precision of most recipes.
    layers = (nn.Conv2d(1, 1, 3), nn.GroupNorm(1, 1), nn.ReLU(), nn.Flatten())
    probe = nn.Sequential(*layers, nn.Linear(4, 2)).to(device)
    try:
        compiled = torch.compile(probe, dynamic=False)
        with tensor_cores("tf32"):
            logits = compiled(torch.zeros(1, 1, 4, 4, device=device))
            torch.autograd.backward(logits.sum())
    except Exception as error:  # noqa: BLE001 - a compiler can raise anything
        reason = (str(error).strip().splitlines() or [""])[0]
        kind = type(error).__name__
        logger.warning("torch.compile does not work here (%s: %s)", kind, reason)
        return f"torch.compile does not work here ({kind})"
    return None
