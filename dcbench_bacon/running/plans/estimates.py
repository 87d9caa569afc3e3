"""Estimate the time, the memory and the disk space of the cells of a grid."""

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from dcbench_bacon.data import loading
from dcbench_bacon.errors import DataError, DcbenchError, RecordError
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.plans.probing import probe
from dcbench_bacon.running.run import RunContext
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.schema import Record, Timing
from dcbench_bacon.store import Store

Kind = tuple[str, str, int]  # method, data set and ipc of cells that cost the same
State = Literal["done", "resumable", "to do"]
FLOAT_BYTES = 4
COPIES = 3  # of the images of a set: the set, and images and velocity of a checkpoint


class Estimate(NamedTuple):
    """The expected cost of a cell.

    Attributes:
        distillation: seconds; 0 where the set is on disk.
        evaluation: seconds.
        peak_bytes: of memory; 0 if unknown.
        how: what the numbers come from.
        whole: whether no stage is missing; else the seconds are a lower bound.
    """

    distillation: float
    evaluation: float
    peak_bytes: int
    how: str
    whole: bool = True

    @property
    def seconds(self) -> float:
        """The seconds of the whole cell."""
        return self.distillation + self.evaluation


class PlannedCell(NamedTuple):
    """A cell before it runs.

    Attributes:
        job: the cell and its recipe.
        state: whether it has a result, something to go on from, or nothing.
        data: whether its data set is on disk.
        disk_bytes: what its files will take.
        estimate: its cost; None for a cell that is done or whose cost is unknown.
    """

    job: CellJob
    state: State
    data: bool
    disk_bytes: int
    estimate: Estimate | None = None


class KnownCost(NamedTuple):
    """A known cost, and what the costs of similar cells are in proportion to.

    Attributes:
        estimate: the cost.
        pixels: of one image of each class, as every class is visited in a step.
        images: pixels of the whole set, as an evaluation visits all of it.
    """

    estimate: Estimate
    pixels: float
    images: float


def planned(
    jobs: Sequence[CellJob], store: Store, context: RunContext
) -> list[PlannedCell]:
    """Return the cells of a grid as they are, without estimates; nothing is read long.

    Args:
        jobs: of the grid.
        store: the results folder, which may not exist.
        context: the data folder, and whether finished cells run again.
    """
    fingerprints = {
        source: _fingerprint(source, context)
        for source in dict.fromkeys(job.source for job in jobs)
    }
    cells = []
    for job in jobs:
        at_hand, fingerprint = fingerprints[job.source]
        state: State = "to do"
        if _is_done(job, store, fingerprint) and not context.fresh:
            state = "done"
        elif _is_begun(job, store, fingerprint) and not context.fresh:
            state = "resumable"
        cells.append(PlannedCell(job, state, at_hand, _disk_bytes(job, context)))
    return cells


def estimated(
    cells: Sequence[PlannedCell], store: Store, context: RunContext, seconds: float
) -> list[PlannedCell]:
    """Return cells with the cost of those that are not done.

    Records of this machine are used where there are some. Other cells are probed,
    those that differ in the seed alone once, and at least one of each method. Where
    the time for probes is too short, the mean of the method's other cells is taken.

    Args:
        cells: of a grid.
        store: the results folder.
        context: the device and the data.
        seconds: that all probes together should take; 0 for none.

    Raises:
        InterruptedRunError: the user stopped the run.
    """
    known = _from_records(cells, store, context)
    open_ = [_kind(cell.job) for cell in cells if cell.state != "done"]
    jobs = {_kind(cell.job): cell.job for cell in cells}
    missing = _one_per_method_first([k for k in dict.fromkeys(open_) if k not in known])
    if seconds == 0:
        missing = []
    if missing:
        context.tell(
            f"estimating from the first steps (about {seconds:.0f} s, or one of each)"
        )
    until = time.monotonic() + seconds
    for index, kind in enumerate(missing):
        left = until - time.monotonic()
        if left <= 0 and any(other[0] == kind[0] for other in known):
            continue
        with suppress(DataError):  # a folder that is not there
            cost = probe(jobs[kind], context, max(left, 0) / (len(missing) - index))
            known[kind] = KnownCost(
                Estimate(
                    cost.distillation,
                    cost.evaluation,
                    cost.peak_bytes,
                    "a probe of the first steps, without compilation",
                    cost.whole,
                ),
                *_work(jobs[kind]),
            )
    return [
        cell if cell.state == "done" else cell._replace(estimate=_of_cell(cell, known))
        for cell in cells
    ]


def _of_cell(cell: PlannedCell, known: Mapping[Kind, KnownCost]) -> Estimate | None:
    """Return the cost of a cell from that of its kind, or of its method's others."""
    kind = _kind(cell.job)
    if kind in known:
        return known[kind].estimate
    alike = [cost for name, cost in known.items() if name[0] == kind[0]]
    if not alike:
        return None
    pixels, images = _work(cell.job)
    return Estimate(
        statistics.mean(x.estimate.distillation * pixels / x.pixels for x in alike),
        statistics.mean(x.estimate.evaluation * images / x.images for x in alike),
        max(x.estimate.peak_bytes for x in alike),
        "the method's other cells, in proportion to pixels and images",
        whole=False,
    )


def _work(job: CellJob) -> tuple[float, float]:
    """Return the pixels of one image of each class, and those of the set."""
    info = getattr(loading.find(job.source).module, "INFO", None)
    pixels = float(info.classes * info.size**2) if info else 1.0
    return pixels, pixels * max(1, job.cell.ipc)


def _one_per_method_first(kinds: Sequence[Kind]) -> list[Kind]:
    """Return kinds of cells, those that are the first of their method in front."""
    first = {kind[0]: kind for kind in reversed(kinds)}
    return sorted(kinds, key=lambda kind: first[kind[0]] != kind)


def _kind(job: CellJob) -> Kind:
    """Return what cells have in common that cost the same."""
    return job.cell.method, job.cell.dataset, job.cell.ipc


def _from_records(
    cells: Sequence[PlannedCell], store: Store, context: RunContext
) -> dict[Kind, KnownCost]:
    """Return the costs that records of this device tell."""
    here = environment(context.device).device
    broken: list[RecordError] = []
    every = [*store.records(broken), *store.records(broken, "timing")]
    usable = [
        record
        for record in every
        if record.status == "done"
        and record.environment is not None
        and record.environment.device == here
    ]
    known = {}
    for cell in cells:
        estimate = _from(cell.job, usable)
        if estimate:
            known[_kind(cell.job)] = KnownCost(estimate, *_work(cell.job))
    return known


def _from(job: CellJob, records: Sequence[Record]) -> Estimate | None:
    """Return the cost of a job from records, or None if they do not tell it."""
    recipe = job.resolved.recipe
    steps = recipe.settings.get("steps")
    distilled = [
        record
        for record in records
        if (record.cell.method, record.cell.dataset, record.cell.ipc) == _kind(job)
        and _but_steps(record.recipe.settings) == _but_steps(recipe.settings)
        and (record.distillation or steps is None)
    ]
    judged = [
        record.evaluation
        for record in records
        if (record.cell.dataset, record.cell.ipc) == (job.cell.dataset, job.cell.ipc)
        and record.recipe.protocol == recipe.protocol
        and record.recipe.settings.get("partition") == recipe.settings.get("partition")
        and record.evaluation
    ]
    if not distilled or not judged:
        return None
    stages = [*distilled[-1].distillation.values(), *judged[-1].values()]
    return Estimate(
        _scaled(distilled[-1].distillation, steps),
        sum(stage.seconds for stage in judged[-1].values()),
        max((stage.peak_bytes for stage in stages), default=0),
        "records of this machine",
    )


def _but_steps(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings without the number of steps."""
    return {key: value for key, value in settings.items() if key != "steps"}


def _scaled(stages: Mapping[str, Timing], steps: object) -> float:
    """Return the seconds of stages, of which the longest gets this many steps."""
    if not stages:
        return 0.0
    longest = max(stages.values(), key=lambda stage: stage.steps)
    total = sum(stage.seconds + stage.warm_up for stage in stages.values())
    if not isinstance(steps, int) or not longest.steps:
        return total
    return total + longest.seconds / longest.steps * (steps - longest.steps)


def _fingerprint(source: str, context: RunContext) -> tuple[bool, str | None]:
    """Return whether a data set is on disk, and its fingerprint if it is known."""
    try:
        return True, loading.known_fingerprint(source, context.data_root)
    except DcbenchError:
        return False, None


def _is_done(job: CellJob, store: Store, fingerprint: str | None) -> bool:
    """Return whether a cell has a result."""
    with suppress(RecordError):
        if fingerprint is None:
            return store.only(job.cell, job.digest) is not None
        return store.find(job.cell, job.digest, fingerprint) is not None
    return False


def _is_begun(job: CellJob, store: Store, fingerprint: str | None) -> bool:
    """Return whether a cell has checkpoints or a set."""
    folder = store.checkpoint_folder(job.cell, job.digest, fingerprint)
    path = store.synthetic_path(job.cell, job.distillation_digest, fingerprint)
    if fingerprint is not None:
        return path.exists() or _any(folder, "*")
    return _any(folder.parent, f"{folder.name}*/*") or _any(
        path.parent, f"{path.stem}*{path.suffix}"
    )


def _any(folder: Path, pattern: str) -> bool:
    """Return whether a folder has a path like this."""
    return any(True for _ in folder.glob(pattern))


def _disk_bytes(job: CellJob, context: RunContext) -> int:
    """Return what the set and the checkpoint of a cell take on disk."""
    info = loading.info_of(loading.find(job.source, context.data_root))
    if info is None:
        return 0
    pixels = info.channels * info.size**2
    return COPIES * FLOAT_BYTES * job.cell.ipc * int(info.classes) * int(pixels)
