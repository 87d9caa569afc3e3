"""Trainings of downstream uses; a training with a record is not repeated."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import msgspec

from dcbench_bacon.downstream_store import Folder, R
from dcbench_bacon.errors import DivergedError, InterruptedRunError, RecordError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.grids.grid import at_work
from dcbench_bacon.running.run import RunContext
from dcbench_bacon.running.waiting import wait_for
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.schema import Evaluation
from dcbench_bacon.training.task import Task


@dataclass(frozen=True)
class TrainingJob(Generic[R]):
    """A training to do.

    Attributes:
        plan: the record of the training, without evaluations.
        task: makes the set and the real images; not called if there is a record.
        facts: returns further fields of the record; called after ``task``.
        shared: names and makes what other trainings need as well, such as a network
            that was trained on real images; None if there is nothing.
    """

    plan: R
    task: Callable[[], Task]
    facts: Callable[[], dict[str, Any]] = dict
    shared: tuple[str, Callable[[], object]] | None = None


@dataclass(frozen=True)
class TrainingOutcome(Generic[R]):
    """The outcome of jobs.

    Attributes:
        records: records of the jobs that are done, in the order of the jobs.
        failures: number of trainings that diverged.
    """

    records: list[R]
    failures: int


Attempt = tuple[R, str] | DivergedError
"""The record of a training and a note, or why there is none."""


def run(
    jobs: Sequence[TrainingJob[R]], folder: Folder[R], context: RunContext
) -> TrainingOutcome[R]:
    """Run jobs one after another; one that diverges does not stop the others.

    Raises:
        InterruptedRunError: the user stopped the run; the same jobs can continue later.
        OutputError: results can no longer be written.
    """
    ask_anew(jobs, folder, context)
    attempts = ((job, attempt(job, folder, context)) for job in jobs)
    return told(attempts, jobs, context)


def ask_anew(
    jobs: Sequence[TrainingJob[R]], folder: Folder[R], context: RunContext
) -> None:
    """Leave the requests of ``--fresh`` before the first of the jobs runs."""
    if context.fresh:
        for job in jobs:
            folder.redo(job.plan).ask()


def told(
    attempts: Iterable[tuple[TrainingJob[R], Attempt[R]]],
    jobs: Sequence[TrainingJob[R]],
    context: RunContext,
) -> TrainingOutcome[R]:
    """Tell the user of each attempt, and return the outcome of all.

    Args:
        attempts: each job with its attempt, in any order.
        jobs: all jobs.
        context: the configuration in this process.
    """
    done: dict[int, R] = {}
    for number, (job, attempted) in enumerate(attempts, 1):
        where = f"[{number}/{len(jobs)}] {job.plan.label}"
        if isinstance(attempted, DivergedError):
            context.tell(f"{where}: diverged: {attempted}")
            continue
        record, note = attempted
        done[jobs.index(job)] = record
        context.tell(f"{where}: {spread(record.evaluations)}  ({note})")
    return TrainingOutcome([done[at] for at in sorted(done)], len(jobs) - len(done))


def attempt(job: TrainingJob[R], folder: Folder[R], context: RunContext) -> Attempt[R]:
    """Return the record of a job with a note, or the error of one that diverges."""
    try:
        return _attempt(job, folder, context)
    except DivergedError as error:
        return error


def spread(evaluations: Sequence[Evaluation]) -> str:
    """Return the mean accuracy in percent and the number of networks, as text."""
    mean = (
        100 * sum(evaluation.accuracy for evaluation in evaluations) / len(evaluations)
    )
    return f"{mean:.2f} % (n={len(evaluations)})"


@at_work()
def _attempt(
    job: TrainingJob[R], folder: Folder[R], context: RunContext
) -> tuple[R, str]:
    """Return the record of a job, which is trained if need be, and a note.

    The note states how long the training took, or that it was already done.
    """
    if context.policy.stopped():
        raise InterruptedRunError("stopped between two trainings")
    lock = folder.lock(job.plan)
    wait_for(lock, context.policy, f"trains {job.plan.label}")
    try:
        redo = folder.redo(job.plan)
        if redo.begin():
            if not context.fresh:
                context.tell(f"{job.plan.label}: runs anew, as --fresh has asked")
        elif (known := _finished(job, folder, context)) is not None:
            folder.clear(job.plan)  # a kill may come between a record and the tidying
            return known, "already done"
        record = _train(job, folder, context)
        folder.write(record)
        redo.end()
        folder.clear(job.plan)
        seconds = sum(evaluation.seconds for evaluation in record.evaluations)
        return record, f"{seconds:.1f} s"
    finally:
        lock.release()


def _finished(job: TrainingJob[R], folder: Folder[R], context: RunContext) -> R | None:
    """Return the record of a job, if there is one that can be read."""
    try:
        return folder.find(job.plan)
    except RecordError as error:
        context.tell(f"warning: {error}")
        return None


def _train(job: TrainingJob[R], folder: Folder[R], context: RunContext) -> R:
    """Train and test the networks of a job."""
    checkpoints = folder.checkpoint_folder(job.plan)
    policy = replace(context.policy, folder=checkpoints)
    clock = Clock(job.plan.label, context.device, policy)
    return msgspec.structs.replace(
        job.plan,
        evaluations=tuple(evaluate(clock, job.task())),
        environment=environment(context.device),
        **job.facts(),
    )
