"""A short probe of a cell: the first steps of every stage, on random pixels."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import torch

from dcbench_bacon.contract import Learner, Method, Reference, State, method_class
from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.splits import ResidentSplit
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import InterruptedRunError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import CellRun, RunContext
from dcbench_bacon.running.stages import Images, task_of
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell, DatasetInfo

STEPS = 3  # of each stage; the fastest counts, as the first fills caches
LONG_STEP = 5.0  # seconds; a step this long is not repeated when the time is spent
MOST_IMAGES = 260  # random images per class; more than a step reads at a time
RANDOM_BYTES = 2_000_000_000  # most of them; large data sets get fewer per class
TEST_SHARE = 1 / 3  # of a training pass: a test is the forward half of it


class Probed(NamedTuple):
    """The cost of a cell, as far as a probe could tell.

    Attributes:
        distillation: seconds.
        evaluation: seconds.
        peak_bytes: of memory.
        whole: whether every stage was seen; else the seconds are a lower bound.
    """

    distillation: float
    evaluation: float
    peak_bytes: int
    whole: bool


class _Enough(BaseException):
    """Ends a probe that has seen enough; no method may handle it as an error."""


class _ProbeRun(CellRun):
    """A run that does the first steps of each stage and counts the rest.

    Args:
        cell: that is probed.
        dataset: random pixels.
        context: the device; nothing is written.
        until: the value of ``time.monotonic()`` from which fewer steps suffice.
        leave: whether the first stage ends the work.
    """

    def __init__(
        self,
        cell: Cell,
        dataset: Dataset,
        context: RunContext,
        *,
        until: float,
        leave: bool,
    ) -> None:
        """Count no seconds yet."""
        super().__init__(cell, dataset, context, None)
        self.until = until
        self.leave = leave
        self.seconds = 0.0

    def steps(
        self, stage: str, count: int, state: Learner | None = None
    ) -> Iterator[int]:
        """Yield the first steps, and count the seconds of all."""
        took: list[float] = []
        before = self.seconds
        begun = time.monotonic()
        for index in super().steps(stage, min(count, STEPS), state):
            began = time.monotonic()
            yield index
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            now = time.monotonic()
            took.append(now - began)
            if now > self.until and (len(took) > 1 or took[0] > LONG_STEP):
                break
        if took and self.seconds == before:
            self.seconds += now - begun + min(took) * (count - len(took))
        elif took:  # stages inside these steps have counted themselves
            self.seconds += (self.seconds - before) / len(took) * (count - len(took))
        if self.leave or time.monotonic() > self.until:
            raise _Enough

    def once(self, name: str, make: Any) -> State:
        """Return what a run of the same kind makes; its stages count as well."""
        return dict(make(self))


def probe(job: CellJob, context: RunContext, seconds: float) -> Probed:
    """Return the cost of a cell from the first steps of its stages.

    Random pixels replace the data set, and nothing is compiled or written. The probe
    ends after the step in which its time is spent.

    Args:
        job: the cell and its recipe.
        context: the device and the data.
        seconds: that the probe should take.

    Raises:
        InterruptedRunError: the user stopped the run.
    """
    policy = RunPolicy(stop=context.policy.stop, deadline=context.policy.deadline)
    context = replace(context, policy=policy)
    until = time.monotonic() + seconds
    dataset, share = _dataset(job, context)
    parts = (job.cell, dataset, context)
    run = _ProbeRun(*parts, until=until, leave=False)
    recipe, whole, synthetic = job.resolved.recipe, True, None
    method = method_class(job.cell.method).create(recipe.settings)
    try:
        if isinstance(method, Method):
            synthetic = method.distill(run)
        else:
            assert isinstance(method, Reference)
            synthetic = method.images(run)
    except _Enough:
        whole = False
    except InterruptedRunError:
        raise
    except Exception:  # noqa: BLE001 - a method may miss steps that were left out
        whole = False
    if synthetic is None or not torch.isfinite(synthetic.images).all():
        synthetic = _random_set(job, dataset.info, context.device)
    evaluation = _evaluation(job, context, dataset, synthetic, until)
    if job.cell.ipc == 0:
        evaluation *= share
    peak = max((t.peak_bytes for t in run.timings.values()), default=0)
    return Probed(run.seconds, evaluation, peak, whole)


def _evaluation(
    job: CellJob,
    context: RunContext,
    dataset: Dataset,
    synthetic: SyntheticSet,
    until: float,
) -> float:
    """Return the seconds of evaluating a set under the protocol of a cell."""
    total = 0.0
    every = job.resolved.recipe.protocol
    for architecture in every.architectures:
        trained = every.of(architecture).under_each
        protocol = msgspec.structs.replace(
            trained[-1],
            architectures=(architecture,),
            networks=1,
            teachers=(),
            labels="own",
            loss="ce",
            selection="final",
            learning_rates=(),
            test_size=0,
        )
        run = _ProbeRun(job.cell, dataset, context, until=until, leave=True)
        task = task_of(synthetic, Images(dataset), protocol, ())
        try:
            evaluate(run, task, together=False)
        except _Enough:
            images = protocol.images_seen(
                len(synthetic.images) * synthetic.partition**2
            )
            tests = _tests(job) * TEST_SHARE / images
            total += run.seconds * (1 + tests) * every.networks * len(trained)
    return total * max(1, len(every.learning_rates))


def _tests(job: CellJob) -> int:
    """Return the number of test images."""
    module = loading.find(job.source).module
    return int(getattr(module, "COUNTS", (0, 10_000))[1])


def _dataset(job: CellJob, context: RunContext) -> tuple[Dataset, float]:
    """Return random pixels in the shape of a data set, and what to multiply by.

    The factor is the number of real train images per random one.
    """
    source = loading.find(job.source, context.data_root)
    info = loading.info_of(source)
    if info is None or loading.is_streamed(source):
        return loading.load(job.source, context.data_root, context.device), 1.0
    # A partition or a batch needs no more than this.
    few = RANDOM_BYTES // (info.classes * info.channels * info.size**2)
    per_class = max(min(MOST_IMAGES, few), job.cell.ipc)
    count = per_class * info.classes
    shape = (count, info.channels, info.size, info.size)
    random = torch.Generator(context.device).manual_seed(0)
    images = torch.randint(
        0, 256, shape, generator=random, dtype=torch.uint8, device=context.device
    )
    labels = torch.arange(count, device=context.device) % info.classes
    split = ResidentSplit(images, labels, info)
    test = ResidentSplit(images[: info.classes], labels[: info.classes], info)
    counts = getattr(source.module, "COUNTS", (count, count))
    return Dataset(info, split, test, "random pixels"), counts[0] / count


def _random_set(job: CellJob, info: DatasetInfo, device: torch.device) -> SyntheticSet:
    """Return noise in the place of a set that the probe did not finish."""
    count = max(1, job.cell.ipc) * info.classes
    random = torch.Generator(device).manual_seed(0)
    shape = (count, info.channels, info.size, info.size)
    images = torch.randn(shape, generator=random, device=device)
    labels = torch.arange(info.classes, device=device).repeat_interleave(
        max(1, job.cell.ipc)
    )
    partition = job.resolved.recipe.whole_number("partition") or 1
    hard = torch.nn.functional.one_hot(labels, info.classes).float()
    return SyntheticSet(images, hard, partition=partition)
