"""Time of a distillation step, and how far it is from what the device can do."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import torch
from torch.utils.flop_counter import FlopCounterMode

from dcbench_bacon import data, recipe
from dcbench_bacon.clock import Policy
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.memory import keep_freed_memory
from dcbench_bacon.registry import METHODS
from dcbench_bacon.runner import Grid, plan
from dcbench_bacon.schema import Record, Timing
from dcbench_bacon.spec import DatasetInfo, Method, Split
from dcbench_bacon.timing import environment
from dcbench_bacon.work import CellRun, Job, Options, method_class

logger = logging.getLogger(__name__)
WARM_UP = 2  # steps left out: first calls choose kernels and fill caches
SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is the measure
PRODUCTS = 10
STAND_IN = 1000  # random images a class, where a data set is not on disk


def profile(grid: Grid, options: Options, steps: int) -> Iterator[Record]:
    """Times distillation steps; yields a record without evaluations for each cell.

    The clock is that of every run. A data set that is not on disk is replaced by
    random pixels of its shape.

    Args:
        grid: what to time.
        options: device and data.
        steps: how many are timed, after a warm-up.

    Raises:
        UsageError: a name is wrong, or a method takes no steps.
    """
    for name in grid.methods:
        settings = method_class(METHODS.resolve(name)).Settings
        if "steps" not in {field.name for field in msgspec.structs.fields(settings)}:
            raise UsageError(f"--methods {name}: it takes no steps, nothing to time")
    overrides = {**grid.request.overrides, "steps": str(steps + WARM_UP)}
    request = msgspec.structs.replace(grid.request, overrides=overrides)
    jobs = plan(msgspec.structs.replace(grid, request=request), options.data_root)
    keep_freed_memory()
    product = product_flops(options.device)
    for job in jobs:
        yield _profile(job, options, product)


def product_flops(device: torch.device) -> float:
    """Operations a second of the fastest of ten large float32 matrix products."""
    left, right = torch.randn(2, SIDE[device.type], SIDE[device.type], device=device)

    def seconds() -> float:
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return 2.0 * SIDE[device.type] ** 3 / min(seconds() for _ in range(PRODUCTS))


def stand_in(info: DatasetInfo, device: torch.device) -> data.Dataset:
    """Random pixels of a data set's shape."""
    count = STAND_IN * info.classes
    shape = (count, info.channels, info.size, info.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    split = Split(images, torch.arange(count, device=device) % info.classes)
    return data.Dataset(info, split, split, "random pixels")


def _profile(job: Job, options: Options, product: float) -> Record:
    """Times one cell, then counts the operations of a step."""
    dataset = _dataset(job, options)
    policy = replace(options.policy, warm_up=WARM_UP)
    timings = _distill(job, dataset, replace(options, policy=policy), 0)
    with FlopCounterMode(display=False) as one:
        _distill(job, dataset, replace(options, policy=Policy()), 1)
    with FlopCounterMode(display=False) as two:
        _distill(job, dataset, replace(options, policy=Policy()), 2)
    flops = two.get_total_flops() - one.get_total_flops()
    product = max(product, product_flops(options.device))  # the machine may be busy
    return Record(
        cell=job.cell,
        recipe=job.resolved.recipe,
        digest=recipe.digest(job.resolved.recipe),
        status="done",
        environment=environment(options.device),
        distillation={
            stage: msgspec.structs.replace(
                timing, step_flops=float(flops), product_flops=product
            )
            for stage, timing in timings.items()
        },
    )


def _distill(
    job: Job, dataset: data.Dataset, options: Options, steps: int
) -> dict[str, Timing]:
    """Runs the method with the recipe's steps, or as many as are given."""
    run = CellRun(job.cell, dataset, options, None)
    settings = job.resolved.recipe.settings
    changed = {**settings, "steps": steps or settings["steps"]}
    method = method_class(job.cell.method).create(changed)
    assert isinstance(method, Method)  # a reference takes no steps
    method.distill(run)
    return run.timings


def _dataset(job: Job, options: Options) -> data.Dataset:
    """The data set, or random pixels of its shape."""
    try:
        return data.load(job.source, options.data_root, options.device)
    except DataError as error:
        info = getattr(data.find(job.source, options.data_root).module, "INFO", None)
        if info is None:
            raise
        logger.warning("random pixels stand in for %s (%s)", job.source, error)
        return stand_in(info, options.device)
