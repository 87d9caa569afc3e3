"""The trainings and tables of ``dcbench continual`` and ``dcbench nas``."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import msgspec

from dcbench_bacon.cli.cells.downstream_sets import MemorySet, Sets
from dcbench_bacon.cli.printing import show
from dcbench_bacon.data.dataset import Dataset, as_set, split_validation
from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.downstream_store import (
    Candidate,
    Stage,
    continual_folder,
    search_folder,
)
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.downstream import continual, nas
from dcbench_bacon.networks import pools
from dcbench_bacon.recipes import protocols
from dcbench_bacon.reporting.numbers import downstream_tables
from dcbench_bacon.reporting.table import Table
from dcbench_bacon.running.grids.trainings import TrainingJob
from dcbench_bacon.running.run import RunContext
from dcbench_bacon.runtime.seeds import stream
from dcbench_bacon.schema import Cell, Recipe
from dcbench_bacon.store import Store
from dcbench_bacon.training.task import Task

REFERENCE = "reference"  # the protocol of the whole train split in a search


def learn_continually(
    *, tasks: int, orders: int, table: str | None, **given: Any
) -> int:
    """Learn classes group by group with each set as the memory; print the table.

    Returns:
        The exit status: 0 when all is done, 1 when some trainings diverged.
    """
    sets = Sets.asked(**given)
    jobs_of = partial(_all_stages, tasks=tasks, orders=orders)
    outcome = sets.train(jobs_of, continual_folder)
    rows = downstream_tables.continual(outcome.records)
    show(Table("continual", rows), table)
    return 1 if outcome.failures else 0


def search_architectures(
    *, epochs: int | None, top: int, table: str | None, **given: Any
) -> int:
    """Rank a grid of networks on each set and on the whole split; print the table.

    Returns:
        The exit status: 0 when all is done, 1 when some trainings diverged.
    """
    names = nas.NetworkGrid(
        *(given.pop(axis) for axis in nas.NetworkGrid._fields)
    ).names()
    if len(names) < 2:
        raise UsageError(f"{names[0]} alone cannot be ranked: give more --widths")
    sets = Sets.asked(**given)
    pools.check_architectures(names)
    jobs_of = partial(_all_candidates, names=names, epochs=epochs)
    outcome = sets.train(jobs_of, search_folder)
    rows = downstream_tables.search(outcome.records, top)
    show(Table("nas", rows), table)
    return 1 if outcome.failures else 0


def _all_stages(
    sets: Sets, store: Store, context: RunContext, *, tasks: int, orders: int
) -> list[TrainingJob[Stage]]:
    """Return the trainings of all memories."""
    return [
        job
        for opened in sets.open(context)
        for job in _stages(sets, opened, tasks=tasks, orders=orders)
    ]


def _all_candidates(
    sets: Sets,
    store: Store,
    context: RunContext,
    *,
    names: Sequence[str],
    epochs: int | None,
) -> list[TrainingJob[Candidate]]:
    """Return the trainings of a search on all sets and on their whole train splits."""
    every = sets.open(context)
    jobs = [job for opened in every for job in _candidates(sets, opened, names)]
    datasets = {memory.dataset.fingerprint: memory.dataset for memory in every}
    for dataset in datasets.values():
        jobs += _references(sets, dataset, names, epochs)
    return jobs


def _stages(
    sets: Sets, opened: MemorySet, *, tasks: int, orders: int
) -> list[TrainingJob[Stage]]:
    """Return the trainings of one memory: every stage of every order."""
    path, synthetic, identity, dataset = opened
    info = dataset.info
    continual.check_classes(path, synthetic, info.class_names)
    protocol = sets.protocol(identity.cell, dataset, synthetic)
    given = sets.recipe(protocol, tasks=tasks)

    def task(seen: continual.Classes) -> Task:
        memory = continual.memory(synthetic, seen)
        test = continual.test_images(dataset.test, seen)
        return Task(memory, test, info, protocol)

    plans = [
        Stage(
            dataset=info.name,
            dataset_sha256=dataset.fingerprint,
            source=identity,
            recipe=given,
            order=index,
            classes=seen,
        )
        for index, order in enumerate(
            continual.class_orders(info.name, info.classes, orders)
        )
        for seen in continual.stages(order, tasks)
    ]
    return [TrainingJob(plan, partial(task, plan.classes)) for plan in plans]


def _candidates(
    sets: Sets, opened: MemorySet, names: Sequence[str]
) -> list[TrainingJob[Candidate]]:
    """Return the trainings of a search on one set."""
    _, synthetic, identity, dataset = opened
    protocol = sets.protocol(identity.cell, dataset, synthetic)
    plan = Candidate(
        dataset=dataset.info.name,
        dataset_sha256=dataset.fingerprint,
        source=identity,
        recipe=sets.recipe(protocol),
        architecture="",
    )
    return _search(plan, dataset, names, lambda: synthetic)


def _references(
    sets: Sets, dataset: Dataset, names: Sequence[str], epochs: int | None
) -> list[TrainingJob[Candidate]]:
    """Return the trainings of the same networks on the whole train split."""
    request = protocols.Request(preset=sets.request.preset, protocol=REFERENCE)
    protocol = protocols.protocol(Cell("whole", dataset.info.name, 1), request)
    given = Recipe(settings={}, protocol=protocol, preset=request.preset)
    if epochs is not None:
        given = msgspec.structs.replace(
            given,
            protocol=msgspec.structs.replace(protocol, epochs=epochs),
            overrides={"epochs": str(epochs)},
        )
    plan = Candidate(
        dataset=dataset.info.name,
        dataset_sha256=dataset.fingerprint,
        source=None,
        recipe=given,
        architecture="",
    )
    whole = cache(lambda: as_set(dataset.train, dataset.info))
    return _search(plan, dataset, names, whole)


def _search(
    plan: Candidate,
    dataset: Dataset,
    names: Sequence[str],
    images: Callable[[], SyntheticSet],
) -> list[TrainingJob[Candidate]]:
    """Return one job per network; all of them record the same recipe."""
    scored, ranked = halves(dataset)
    protocol, info = plan.recipe.protocol, dataset.info
    without = msgspec.structs.replace(protocol, architectures=())
    shared = msgspec.structs.replace(plan.recipe, protocol=without)

    def task(name: str) -> Task:
        # Both halves are measured after the last epoch only: no epoch is chosen.
        measured = msgspec.structs.replace(
            protocol,
            architectures=(name,),
            selection="best_val",
            measure_every=protocol.epochs,
        )
        return Task(images(), scored, info, measured, ranked)

    plans = [
        msgspec.structs.replace(plan, recipe=shared, architecture=name)
        for name in names
    ]
    return [
        TrainingJob(candidate, partial(task, candidate.architecture))
        for candidate in plans
    ]


def halves(dataset: Dataset) -> tuple[Split, Split]:
    """Return the test images that score and those that rank, the same for all sets."""
    draws = stream(f"{dataset.info.name} nas", "halves")
    return split_validation(dataset.test, 0.5, draws)
