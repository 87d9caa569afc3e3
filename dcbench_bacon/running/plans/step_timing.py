"""Time per distillation step, compared with the speed of the device."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import torch
from torch.utils.flop_counter import FlopCounterMode

from dcbench_bacon.contract import Method, method_class
from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.splits import ResidentSplit
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.field_types import Precision
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.recipes import digests
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import CellRun, RunContext
from dcbench_bacon.runtime.compute.cuda_graphs import CALLS
from dcbench_bacon.runtime.compute.memory import keep_freed_memory
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import DatasetInfo, Record, Timing

logger = logging.getLogger(__name__)


# Steps before the timing begins: the first calls choose kernels, fill caches and, on a
# GPU, record graphs.
WARM_UP = {"cpu": 2, "cuda": 1 + CALLS}
SIDE = {"cpu": 2048, "cuda": 8192}  # side of the square matrices that are multiplied
PRODUCTS = 10  # number of matrix products, of which the fastest counts
STAND_IN = 1000  # random images per class for a data set that is not on disk
STAND_IN_BYTES = 4_000_000_000  # most of them; large data sets get fewer per class


def time_steps(grid: Grid, context: RunContext, steps: int) -> Iterator[Record]:
    """Time distillation steps; yield one record without evaluations per cell.

    The steps are timed by the same clock as in every run. A data set that is not on
    disk is replaced by random pixels of its shape.

    Args:
        grid: the cells to time.
        context: the configuration in this process.
        steps: number of steps that are timed, after a warm-up.

    Raises:
        UsageError: a name is wrong, or no method takes steps.
    """
    methods = tuple(filter(takes_steps, grid.methods))
    if left := sorted(set(grid.methods) - set(methods)):
        logger.warning("nothing to time in %s: no steps", ", ".join(left))
    if not methods:
        raise UsageError("--methods: none of these takes steps; name one that distils")
    grid = msgspec.structs.replace(grid, methods=methods)
    warm_up = WARM_UP[context.device.type]
    context = replace(context, policy=replace(context.policy, warm_up=warm_up))
    overrides = {**grid.request.overrides, "steps": str(steps + warm_up)}
    request = msgspec.structs.replace(grid.request, overrides=overrides)
    jobs = plan(msgspec.structs.replace(grid, request=request), context.data_root)
    keep_freed_memory()
    for job in jobs:
        yield _time_cell(job, context)


def takes_steps(name: str) -> bool:
    """Return whether a method distils step by step."""
    settings = method_class(METHODS.resolve(name)).Settings
    return "steps" in {field.name for field in msgspec.structs.fields(settings)}


def product_flops(device: torch.device, precision: Precision) -> float:
    """Return the operations per second of the fastest of ten large matrix products.

    Args:
        device: the device to measure.
        precision: precision of the recipe, on which the greatest speed depends.
    """
    side, kind = SIDE[device.type], torch.bfloat16 if precision == "bf16" else None
    left, right = torch.randn(2, side, side, device=device, dtype=kind)

    def seconds() -> float:
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    with tensor_cores(precision):
        return 2.0 * side**3 / min(seconds() for _ in range(PRODUCTS))


def stand_in(info: DatasetInfo, device: torch.device) -> Dataset:
    """Return random pixels in the shape of a data set."""
    few = STAND_IN_BYTES // (info.classes * info.channels * info.size**2)
    count = max(1, min(STAND_IN, few)) * info.classes
    shape = (count, info.channels, info.size, info.size)
    # A fixed seed, because results made from these pixels are kept on disk.
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randint(
        0, 256, shape, generator=generator, dtype=torch.uint8, device=device
    )
    labels = torch.arange(count, device=device) % info.classes
    split = ResidentSplit(images, labels, info)
    return Dataset(info, split, split, "random pixels")


def _time_cell(job: CellJob, context: RunContext) -> Record:
    """Time one cell, and count the operations per step."""
    named = job.resolved.recipe.settings.get("precision", "fp32")
    precision = msgspec.convert(named, Precision)
    product = product_flops(context.device, precision)
    dataset = _dataset(job, context)
    timings = _distill(job, dataset, context, 0)
    with FlopCounterMode(display=False) as one:
        fewer = _distill(job, dataset, replace(context, policy=RunPolicy()), 1)
    with FlopCounterMode(display=False) as two:
        more = _distill(job, dataset, replace(context, policy=RunPolicy()), 2)
    flops = two.get_total_flops() - one.get_total_flops()
    counted = {stage for stage in more if more[stage].steps > fewer[stage].steps}
    # Measured before and after, because the machine may be busy.
    product = max(product, product_flops(context.device, precision))
    return Record(
        cell=job.cell,
        recipe=job.resolved.recipe,
        digest=digests.digest(job.resolved.recipe),
        status="done",
        environment=environment(context.device),
        distillation={
            stage: msgspec.structs.replace(
                timing,
                step_flops=float(flops) if stage in counted else None,
                product_flops=product,
            )
            for stage, timing in timings.items()
        },
    )


def _distill(
    job: CellJob, dataset: Dataset, context: RunContext, steps: int
) -> dict[str, Timing]:
    """Run the method with this number of steps; 0 means the recipe's number."""
    run = CellRun(job.cell, dataset, context, None)
    settings = job.resolved.recipe.settings
    method = method_class(job.cell.method)
    assert issubclass(method, Method)  # a reference takes no steps
    steps = steps or job.resolved.recipe.whole_number("steps")
    changed = {**settings, **method.timed_with, "steps": steps}
    method.create(changed).distill(run)
    return run.timings


def _dataset(job: CellJob, context: RunContext) -> Dataset:
    """Return the data set, or random pixels in its shape if it is not on disk."""
    try:
        return loading.load(job.source, context.data_root, context.device)
    except DataError as error:
        info = loading.info_of(loading.find(job.source, context.data_root))
        if info is None:
            raise
        logger.warning("random pixels are used instead of %s (%s)", job.source, error)
        return stand_in(info, context.device)
