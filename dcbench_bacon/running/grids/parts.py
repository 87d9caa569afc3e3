"""The parts that cells share, known from their recipes before any cell runs.

A part is made by the code that a cell would run, under the same lock and in the same
place, so that a cell finds it afterwards. Parts are: the decoded and whitened data set,
the experts of trajectories, the networks of selection, the observers of decoupled
methods, the statistics of real images in them, and the teachers of the protocol.

Labels that teachers make once for a set depend on the set, and what a method of a third
party makes by ``Run.once`` is known to that method alone. Cells make these themselves.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from shutil import rmtree
from typing import Any, NamedTuple

import msgspec

from dcbench_bacon.contract import Run, method_class
from dcbench_bacon.distillation.decoupled import real_statistics, squeeze
from dcbench_bacon.distillation.decoupled.settings import (
    ObserverSettings,
    RecoverySettings,
)
from dcbench_bacon.distillation.trajectories import TrajectorySettings
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import CellRun, RunContext
from dcbench_bacon.running.stages import images_for
from dcbench_bacon.store import Store
from dcbench_bacon.training import experts, teachers
from dcbench_bacon.training.features import FeatureSettings, trained

Make = Callable[[Run], object]


class Part(NamedTuple):
    """A part that several cells need.

    Attributes:
        title: what it is, for people.
        key: identifies, within a grid, all that decides its content.
        make: makes it, or finds it, in the run of a cell that needs it; None if it is
            the data set alone.
        needs: the parts that it is made from.
    """

    title: str
    key: str
    make: Make | None
    needs: tuple["Part", ...] = ()


def parts_of(job: CellJob, store: Store, *, fresh: bool) -> list[Part]:
    """Return the parts that a cell needs, or none if it has a result.

    Args:
        job: the cell and its recipe.
        store: the results folder. A cell with a set needs what judges it alone.
        fresh: whether cells with a result run again.
    """
    if not fresh and store.only(job.cell, job.digest):
        return []
    recipe, of_cell = job.resolved.recipe, _Naming(job)
    data = of_cell.data()
    of_method: list[Part] = []
    if fresh or not store.has_set(job.cell, job.distillation_digest):
        of_method = list(_of_method(job, of_cell, data))
    judging = _teachers(recipe.protocol, of_cell, data)
    return list({part.key: part for part in (data, *of_method, *judging)}.values())


def make(part: Part, job: CellJob, store: Store, context: RunContext) -> None:
    """Make a part in the run of a cell, unless it is there.

    A data set that is missing or damaged is left to the cells, which report it.

    Raises:
        InterruptedRunError: the run was stopped; the part goes on from its checkpoint.
    """
    try:
        dataset = Datasets(context.config).of(job)
    except DataError:
        return
    if part.make is None:
        return
    # The part is the same for all ipc, and another cell may ask for fewer images.
    cell = msgspec.structs.replace(job.cell, ipc=0)
    images = images_for(cell, dataset, job.resolved.recipe.protocol)
    # Experts write their checkpoints here, under the lock of their store.
    folder = store.shared / f"part-{part.key}"
    shared = store.shared
    run = CellRun(cell, images.dataset, context, folder, shared, key=part.title)
    part.make(run)
    rmtree(folder, ignore_errors=True)


class _Naming:
    """The naming of the parts of a cell by all that decides them.

    Args:
        job: the cell and its recipe.
    """

    def __init__(self, job: CellJob) -> None:
        recipe = job.resolved.recipe
        protocol, seed = recipe.protocol, job.cell.seed
        self.source = job.source
        self.zca = bool(recipe.settings.get("zca"))
        self.seed = seed
        # The images that are held out depend on the seed.
        self.split = (protocol.validation, seed) if protocol.held_out else None

    def data(self) -> Part:
        """Return the data set."""
        whitened = ", whitened" * self.zca
        key = _hash(("data", self.source, self.zca))
        return Part(f"the data set {self.source}{whitened}", key, None)

    def part(self, kind: str, *decisive: Any, needs: Part, make: Make) -> Part:
        """Return a part of the data set.

        Args:
            kind: what it is, for people.
            decisive: what decides it besides the images.
            needs: the part that it is made from.
            make: makes it.
        """
        images = (self.source, self.zca, self.split)
        key = _hash((kind, images, decisive))
        return Part(f"{kind} of {self.source}", key, make, (needs,))


def _of_method(job: CellJob, of_cell: _Naming, data: Part) -> Iterator[Part]:
    """Yield the parts that a method makes before its steps."""
    method = method_class(job.cell.method).create(job.resolved.recipe.settings)
    settings, seed = method.settings, of_cell.seed
    if isinstance(settings, TrajectorySettings):
        with suppress(UsageError):  # reported by the cell
            settings.check()
            yield _experts(settings, of_cell, data)
    elif isinstance(settings, FeatureSettings) and settings.features == "network":
        training = settings.training
        make = partial(trained, training=training)
        name = f"the {training.architecture} of selection"
        yield of_cell.part(name, training, seed, needs=data, make=make)
    elif isinstance(settings, ObserverSettings):
        for architecture in settings.observers:
            yield from _observer(settings, architecture, of_cell, data)


def _experts(settings: TrajectorySettings, of_cell: _Naming, data: Part) -> Part:
    """Return the experts of trajectories."""
    training, count = settings.training, settings.experts
    make = partial(experts.train_experts, training=training, count=count)
    return of_cell.part("the experts", training, count, needs=data, make=make)


def _observer(
    settings: ObserverSettings, architecture: str, of_cell: _Naming, data: Part
) -> Iterator[Part]:
    """Yield an observer, and the statistics of real images in it."""
    alone = msgspec.structs.replace(settings, observers=(architecture,))
    training, seed = settings.training(architecture), of_cell.seed
    make = partial(squeeze.observers, settings=alone)
    name = f"the observer {architecture}"
    observer = of_cell.part(name, training, seed, needs=data, make=make)
    yield observer
    if isinstance(alone, RecoverySettings) and alone.needs_real_statistics:
        decisive = (
            *(training, seed, alone.matched, alone.patch),
            *(alone.observer_augmentation, alone.precision),
        )
        measure = partial(_measure, settings=alone)
        name = f"class statistics in {architecture}"
        yield of_cell.part(name, *decisive, needs=observer, make=measure)


def _measure(run: Run, settings: RecoverySettings) -> None:
    """Measure the statistics of real images in one observer."""
    (network,), (origin,) = squeeze.observers(run, settings)
    real_statistics.real_statistics(run, network, origin, settings)


def _teachers(protocol: Protocol, of_cell: _Naming, data: Part) -> Iterator[Part]:
    """Yield the teachers of a protocol."""
    for architecture in protocol.teachers:
        alone = msgspec.structs.replace(protocol, teachers=(architecture,))
        make = partial(teachers.find, protocol=alone)
        name = f"the teacher {architecture}"
        decisive = (protocol.teacher_epochs, of_cell.seed)
        yield of_cell.part(name, *decisive, needs=data, make=make)


def _hash(decisive: Any) -> str:
    encoded = msgspec.json.encode(decisive, enc_hook=str, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:16]
