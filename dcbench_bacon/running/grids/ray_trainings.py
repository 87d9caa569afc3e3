"""Trainings of downstream uses as tasks of Ray.

The jobs of trainings hold images and functions. A worker therefore makes all of them
again from the files and options of the command, and does one of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from dcbench_bacon.downstream_store import Folder, R
from dcbench_bacon.errors import DataError
from dcbench_bacon.running.grids import trainings
from dcbench_bacon.running.grids.aside import Aside
from dcbench_bacon.running.grids.grid import at_work
from dcbench_bacon.running.grids.ray_cluster import Cluster, connected, load
from dcbench_bacon.running.grids.ray_tasks import RayTasks, cause_of
from dcbench_bacon.running.grids.ray_work import Work
from dcbench_bacon.running.grids.trainings import (
    Attempt,
    TrainingJob,
    TrainingOutcome,
)
from dcbench_bacon.running.run import RunConfig, RunContext
from dcbench_bacon.store import Store


@dataclass(frozen=True)
class Use(Generic[R]):
    """A downstream use, as plain data that another process can receive.

    Attributes:
        jobs: returns its trainings; with a worker's paths in it.
        folder: returns the folder of its records.
    """

    jobs: Callable[[Store, RunContext], Sequence[TrainingJob[R]]]
    folder: Callable[[Store], Folder[R]]


def run(
    jobs: Sequence[TrainingJob[R]],
    use: Use[R],
    store: Store,
    context: RunContext,
    cluster: Cluster,
) -> TrainingOutcome[R]:
    """Run the trainings of a use as tasks of Ray.

    Args:
        jobs: the trainings, as ``use.jobs`` makes them.
        use: makes them again in a worker.
        store: the results folder, under one path on all nodes.
        context: the configuration in this process.
        cluster: what each training gets.

    Raises:
        InterruptedRunError: the user stopped the run; the same jobs can continue later.
        UsageError: the cluster cannot be reached.
    """
    ray = load()
    trainings.ask_anew(jobs, use.folder(store), context)
    with at_work(), connected(ray, cluster.address, context.tell):
        attempts = _attempts(ray, jobs, use, store, context, cluster)
        return trainings.told(attempts, jobs, context)


def _attempts(
    ray: Any,
    jobs: Sequence[TrainingJob[R]],
    use: Use[R],
    store: Store,
    context: RunContext,
    cluster: Cluster,
) -> Iterator[tuple[TrainingJob[R], Attempt[R]]]:
    """Yield each job with its attempt when that has ended."""
    root = store.root.absolute()
    tasks = RayTasks[TrainingJob[R]](
        ray, context, cluster, len(jobs), "trainings", root
    )
    try:
        for index, job in enumerate(jobs):
            given = (use, index, job.plan, root, tasks.config)
            needs = []
            if job.shared:
                name, _ = job.shared
                needs = [tasks.part(name, Work(name, make_shared, given))]
            tasks.start(job, Work(job.plan.label, train, given), needs)
        for job, result in tasks.ended(lambda _: None):
            if isinstance(result, Exception):
                raise cause_of(result)
            yield job, result
    finally:
        tasks.end()


def train(
    use: Use[R], index: int, plan: R, root: Path, config: RunConfig, aside: Aside
) -> Attempt[R]:
    """Do one of the trainings of a use; see ``trainings.attempt``."""
    store, context = Store(root), aside.context(config)
    job = _job(use, index, plan, store, context)
    return trainings.attempt(job, use.folder(store), context)


def make_shared(
    use: Use[R], index: int, plan: R, root: Path, config: RunConfig, aside: Aside
) -> None:
    """Make what one of the trainings of a use needs and shares with others."""
    with at_work():
        job = _job(use, index, plan, Store(root), aside.context(config))
        assert job.shared
        job.shared[1]()


def _job(
    use: Use[R], index: int, plan: R, store: Store, context: RunContext
) -> TrainingJob[R]:
    """Return one of the trainings of a use.

    Raises:
        DataError: it is not the same training as in the process of the command.
    """
    job = use.jobs(store, context)[index]
    if job.plan != plan:
        raise DataError(
            f"{plan.label}: the files of the sets or the images of {plan.dataset} are "
            "others on this node"
        )
    return job
