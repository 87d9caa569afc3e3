"""Benchmarks of a step of every other method: ``pytest --benchmark-only``.

Each group holds our step and the plain one of ``steps`` on the same draws, in float32.
Each measurement runs in a process of its own, which also states its peak of memory:
the plain step with torch's own settings, ours with a run's allocator. The floor
is our step's operations at the rate of a large matrix product. Nothing is compiled: the
steps of these methods are differentiated twice, or visit a network too rarely.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from time import perf_counter
from typing import Any, NamedTuple

import pytest
import torch
from steps import PAIRS, Shape, Step
from torch.utils.flop_counter import FlopCounterMode

from dcbench_bacon.runtime.compute.memory import keep_freed_memory
from dcbench_bacon.runtime.monitoring.stopwatch import peak_bytes

Benchmark = Any  # pytest-benchmark has no types
SIDE = 2048  # of the matrices of the floor
SHAPE = Shape()  # CIFAR-10, IPC 1
CASES: dict[str, tuple[str, Shape]] = {
    "DC, IPC 1": ("dc", SHAPE),
    "DC, IPC 10, with 50 passes of the network": (
        "dc",
        SHAPE._replace(ipc=10, inner_loop=50),
    ),
    "DSA, IPC 1": ("dsa", SHAPE),
    "DSA, IPC 10, with 50 passes of the network": (
        "dsa",
        SHAPE._replace(ipc=10, inner_loop=50),
    ),
    "MTT, IPC 1, 50 student steps": ("mtt", SHAPE),
    "MTT, IPC 1, 50 student steps, whole graph": (
        "mtt",
        SHAPE._replace(recompute=False),
    ),
    "herding, IPC 50, 500 images per class": ("herding", SHAPE._replace(ipc=50)),
    "k-center, IPC 50, 500 images per class": ("k_center", SHAPE._replace(ipc=50)),
    "RDED, IPC 10, 100 candidates per class": (
        "rded",
        SHAPE._replace(ipc=10, batch_real=100),
    ),
    "SRe2L, 10 images": ("sre2l", SHAPE._replace(ipc=10, real=20)),
    "EDC, 100 images": ("edc", SHAPE._replace(ipc=10, real=20)),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]


class Measured(NamedTuple):
    """Seconds of each step after the first, and the peak of the process."""

    seconds: list[float]
    peak_bytes: int


def _measure(step: Step, rounds: int) -> Measured:
    step()
    seconds = []
    for _ in range(rounds):
        before = perf_counter()
        step()
        seconds.append(perf_counter() - before)
    return Measured(seconds, peak_bytes(torch.device("cpu")))


def plain(name: str, shape: Shape, rounds: int) -> Measured:
    return _measure(PAIRS[name].plain(shape), rounds)


def ours(name: str, shape: Shape, rounds: int) -> Measured:
    keep_freed_memory()
    step = PAIRS[name].ours(shape)
    if shape.inner_loop > 1:
        step()  # the first step has a fresh network and trains nothing
    return _measure(step, rounds)


def floor(name: str, shape: Shape) -> tuple[int, Measured]:
    """Operations of our step, and the seconds of as many in matrix products."""
    keep_freed_memory()
    step = PAIRS[name].ours(shape)
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    left, right = torch.randn(2, SIDE, SIDE).unbind()
    flops = counter.get_total_flops()
    products = max(1, round(flops / (2 * SIDE**3)))

    def multiply() -> torch.Tensor:
        for _ in range(products):
            torch.mm(left, right)
        return left

    return flops, _measure(multiply, 3)


def record(benchmark: Benchmark, case: str, work: Any, *given: Any) -> Measured:
    """Run a measurement in a process of its own, and keep what it says."""
    benchmark.group = f"step: {case}"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        run = pool.submit(partial(work, *CASES[case], *given)).result
        found = benchmark.pedantic(run, rounds=1)
    measured: Measured = found[1] if work is floor else found
    benchmark.extra_info.update(
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        step_seconds=sorted(measured.seconds)[len(measured.seconds) // 2],
        **measured._asdict(),
        **({"flops": found[0]} if work is floor else {}),
    )
    return measured


@pytest.mark.parametrize("case", CASES)
def test_plain(benchmark: Benchmark, case: str) -> None:
    record(benchmark, case, plain, 3)


@pytest.mark.parametrize("case", CASES)
def test_ours(benchmark: Benchmark, case: str) -> None:
    record(benchmark, case, ours, 3)


@pytest.mark.parametrize("case", CASES)
def test_floor(benchmark: Benchmark, case: str) -> None:
    record(benchmark, case, floor)
