"""Trains what downstream uses ask for; what has a record is not trained again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

import msgspec
from filelock import FileLock

from dcbench_bacon.downstream_store import Folder, R
from dcbench_bacon.errors import DivergedError, InterruptedRunError, RecordError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.grid import at_work
from dcbench_bacon.running.run import Options
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.runtime.locks import acquire
from dcbench_bacon.schema import Evaluation
from dcbench_bacon.training.task import Task

PATIENCE = 1.0  # seconds between two looks at whether to stop waiting


@dataclass(frozen=True)
class TrainingJob(Generic[R]):
    """A training to do.

    Attributes:
        plan: its record, without evaluations.
        task: makes what is trained on; not called where there is a record.
    """

    plan: R
    task: Callable[[], Task]


@dataclass(frozen=True)
class TrainingOutcome(Generic[R]):
    """What became of jobs.

    Attributes:
        records: of those that are done, in their order.
        failures: how many trainings diverged.
    """

    records: list[R]
    failures: int


def run(
    jobs: Sequence[TrainingJob[R]], folder: Folder[R], options: Options
) -> TrainingOutcome[R]:
    """Runs jobs one after another; one that diverges does not stop the others.

    Raises:
        InterruptedRunError: the user stopped the run; the same jobs go on from there.
        OutputError: results cannot be written any more.
    """
    if options.fresh:
        for job in jobs:
            folder.redo(job.plan).ask()
    done: list[R] = []
    failures = 0
    for number, job in enumerate(jobs, 1):
        where = f"[{number}/{len(jobs)}] {job.plan.label}"
        try:
            record, note = _attempt(job, folder, options)
        except DivergedError as error:
            failures += 1
            options.tell(f"{where}: diverged: {error}")
            continue
        done.append(record)
        options.tell(f"{where}: {spread(record.evaluations)}  ({note})")
    return TrainingOutcome(done, failures)


def spread(found: Sequence[Evaluation]) -> str:
    """The mean accuracy in percent and the number of networks."""
    mean = 100 * sum(each.accuracy for each in found) / len(found)
    return f"{mean:.2f} % (n={len(found)})"


@at_work()
def _attempt(job: TrainingJob[R], folder: Folder[R], options: Options) -> tuple[R, str]:
    """The record of a job, trained now if there is none, and a note on how long."""
    lock = folder.lock(job.plan)
    _wait(lock, options)
    try:
        redo = folder.redo(job.plan)
        if redo.begin():
            if not options.fresh:
                options.tell(f"{job.plan.label}: run anew, as --fresh has asked for")
        elif (known := _finished(job, folder, options)) is not None:
            folder.clear(job.plan)  # a kill may come between a record and the tidying
            return known, "already done"
        record = _train(job, folder, options)
        folder.write(record)
        redo.end()
        folder.clear(job.plan)
        seconds = sum(each.seconds for each in record.evaluations)
        return record, f"{seconds:.1f} s"
    finally:
        lock.release()


def _wait(lock: FileLock, options: Options) -> None:
    """Takes the lock; another process may be at work on the same training."""
    while True:
        if options.policy.stop():
            raise InterruptedRunError("stopped between two trainings")
        if acquire(lock, PATIENCE):
            return


def _finished(job: TrainingJob[R], folder: Folder[R], options: Options) -> R | None:
    """The record that there is; an unreadable one is as good as none."""
    try:
        return folder.find(job.plan)
    except RecordError as error:
        options.tell(f"warning: {error}")
        return None


def _train(job: TrainingJob[R], folder: Folder[R], options: Options) -> R:
    """Trains and tests the networks of a job."""
    checkpoints = folder.checkpoint_folder(job.plan)
    policy = replace(options.policy, folder=checkpoints)
    clock = Clock(job.plan.label, options.device, policy)
    return msgspec.structs.replace(
        job.plan,
        evaluations=tuple(evaluate(clock, job.task())),
        environment=environment(options.device),
    )
