"""Running of the cells of a grid; a cell that fails does not stop the others."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple

from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import held_out_sha256
from dcbench_bacon.errors import (
    DataError,
    InterruptedRunError,
    OutputError,
    RecordError,
)
from dcbench_bacon.running import set_files
from dcbench_bacon.running.cell import CellRunner
from dcbench_bacon.running.failures import fields_of
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.grids.missing_data import fetched
from dcbench_bacon.running.plans.planning import CellJob, report_changed_method
from dcbench_bacon.running.run import RunContext
from dcbench_bacon.running.stages import images_for
from dcbench_bacon.runtime.compute.memory import keep_freed_memory
from dcbench_bacon.runtime.disk.locks import acquire
from dcbench_bacon.runtime.disk.redo import Redo
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

logger = logging.getLogger(__name__)


Outcome = Literal["done", "skipped", "failed", "diverged", "missing"]


class CellResult(NamedTuple):
    """The outcome of a job, and its record; ``missing`` is for want of data."""

    job: CellJob
    outcome: Outcome
    record: Record


def run(
    jobs: Sequence[CellJob], store: Store, context: RunContext
) -> Iterator[CellResult]:
    """Run jobs, and yield each result as soon as it is known.

    A cell that another process is working on comes last: the run waits for that process
    and then uses its result.

    Raises:
        InterruptedRunError: the user or a time budget stopped the run.
        OutputError: results can no longer be written.
    """
    keep_freed_memory()
    runner = _Runner(store, context)
    runner.look_for_data(jobs)
    if context.fresh:
        runner.ask_anew(jobs)
    postponed: list[CellJob] = []
    for job in jobs:
        result = runner.attempt(job)
        if result is None:
            context.tell(
                f"{job.cell}: another process is working on it, so it comes later (if "
                "that process is on this machine, divide the processor cores with "
                "OMP_NUM_THREADS)"
            )
            postponed.append(job)
        else:
            yield result
    for job in postponed:
        while (result := runner.attempt(job, patience=1.0)) is None:
            pass
        yield result


def ask_anew(jobs: Sequence[CellJob], store: Store, context: RunContext) -> None:
    """Leave a request of ``--fresh`` for each cell, before the first of them runs.

    Raises:
        InterruptedRunError: the user stopped the run.
    """
    _Runner(store, context).ask_anew(jobs)


@contextmanager
def at_work() -> Iterator[None]:
    """Turn an immediate stop while a cell runs into an error of dcbench.

    Raises:
        InterruptedRunError: a step was left because it did not end soon, or the user
            pressed Ctrl-C a second time.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            str(error) or "interrupted at once", kept="the last checkpoint is kept"
        ) from error


class _Runner:
    """A run of cells, one after another."""

    def __init__(self, store: Store, context: RunContext) -> None:
        """Start with no data in memory."""
        self.store = store
        self.context = context
        self.datasets = Datasets(context.config)
        self.trusted: set[str] = set()

    @at_work()
    def look_for_data(self, jobs: Sequence[CellJob]) -> None:
        """Fetch the data sets that cells without a result need, or say what is missing.

        This comes before the first cell, and once per data set.
        """
        needed = [job.source for job in jobs if self._only_record(job) is None]
        for source in dict.fromkeys(needed):
            if not self.context.policy.stopped() and (
                error := fetched(source, self.context)
            ):
                self.datasets.missing[source] = error

    def ask_anew(self, jobs: Sequence[CellJob]) -> None:
        """Leave a request for each cell, before the first of them runs."""
        for job in jobs:
            if self.context.policy.stop():
                raise InterruptedRunError("stopped before anything ran", noted=False)
            try:
                self._redo(job, self._fingerprint(job)).ask()
            except DataError:  # reported when its cells run
                continue

    def _redo(self, job: CellJob, fingerprint: str) -> Redo:
        """Return the request to run a cell anew."""
        folder = self.store.checkpoint_folder(job.cell, job.digest, fingerprint)
        return Redo(folder)

    @at_work()
    def attempt(self, job: CellJob, patience: float = 0.0) -> CellResult | None:
        """Run a job under its lock; return None if another process holds the lock.

        Args:
            job: the cell and its recipe.
            patience: seconds to wait for the lock.
        """
        if self.context.policy.stopped():
            raise InterruptedRunError(f"stopped before {job.cell}")
        try:
            fingerprint = self._fingerprint(job)
        except DataError as error:
            return self._taken_as_it_is(job, error) or self._without_data(job, error)
        # Cells that share a set share its lock, so that it is distilled once.
        lock = self.store.lock(job.cell, job.distillation_digest, fingerprint)
        if not acquire(lock, patience):
            return None
        try:
            redo = self._redo(job, fingerprint)
            if redo.begin():
                if not self.context.fresh:
                    self.context.tell(f"{job.cell}: runs anew, as --fresh has asked")
                return self._run(job, fingerprint, redo)
            return self._skipped(job, fingerprint) or self._run(job, fingerprint)
        finally:
            lock.release()

    def _fingerprint(self, job: CellJob) -> str:
        """Return the fingerprint of the job's data set; download it if need be."""
        try:
            return self.datasets.fingerprint(job.source)
        except loading.MissingDataError:
            if self._only_record(job) is not None:
                raise
            return self.datasets[job.source].raw_fingerprint

    def _only_record(self, job: CellJob) -> Record | None:
        """Return the only record of a cell, whatever images it was made from."""
        return None if self.context.fresh else self.store.only(job.cell, job.digest)

    def _taken_as_it_is(self, job: CellJob, error: DataError) -> CellResult | None:
        """Return the only result of a cell whose data set is not on disk."""
        record = self._only_record(job)
        if record is None or not isinstance(error, loading.MissingDataError):
            return None
        if job.source not in self.trusted:
            self.trusted.add(job.source)
            self.context.tell(
                f"{job.source} is not on disk, so its finished records could not be "
                "compared with its images"
            )
        return CellResult(job, "skipped", record)

    def _without_data(self, job: CellJob, error: DataError) -> CellResult:
        """Record that a cell could not run for want of its data set."""
        runner = CellRunner(job, None, self.store, self.context)
        result = self._failed(runner, error)
        missing = isinstance(error, loading.MissingDataError)
        return result._replace(outcome="missing") if missing else result

    def _skipped(self, job: CellJob, fingerprint: str) -> CellResult | None:
        """Return the result of a cell that is already done."""
        try:
            record = self.store.find(job.cell, job.digest, fingerprint)
        except RecordError as error:
            self.context.tell(f"warning: {error}")
            return None
        if record is None:
            return None
        if record.dataset_sha256 is None:
            self.context.tell(
                f"{job.cell}: its record does not name the images it was made from, so "
                f"they could not be compared with those of {job.source}"
            )
        if job.resolved.recipe.protocol.held_out and not self._same_split(job, record):
            return None
        report_changed_method(job.cell, record.method_sha256, self.context.tell)
        # A kill may come between a record and the tidying after it.
        self._tidy(job, fingerprint)
        return CellResult(job, "skipped", record)

    def _same_split(self, job: CellJob, record: Record) -> bool:
        """Return whether a record has the validation split of today, or say why not."""
        if record.validation_sha256 is None:
            self.context.tell(
                f"{job.cell}: its record does not name the images that were held out, "
                "so they could not be compared with those of today; --fresh runs it "
                "again"
            )
            return True
        protocol = job.resolved.recipe.protocol
        images = images_for(job.cell, self.datasets.of(job), protocol)
        if record.validation_sha256 == held_out_sha256(images.validation):
            return True
        self.context.tell(
            f"{job.cell}: its record was made with other images held out for "
            "validation, so it runs again"
        )
        return False

    def _tidy(self, job: CellJob, fingerprint: str) -> None:
        """Remove the checkpoints and the earlier failures of a cell with a result."""
        for images in (fingerprint, None):
            self.store.forgive(job.cell, job.digest, images)
        self.store.clear(job.cell, job.digest, fingerprint)

    def _run(
        self, job: CellJob, fingerprint: str, redo: Redo | None = None
    ) -> CellResult:
        """Run a cell and record it, also when it fails."""
        anew = redo is not None
        runner = CellRunner(job, fingerprint, self.store, self.context, anew=anew)
        try:
            self.store.check_name(job.cell, job.digest, fingerprint)
            record = runner.run(self.datasets.of(job))
            self.store.write(record)
        except (InterruptedRunError, OutputError):
            raise
        except Exception as error:  # torch's, or a mistake in anyone's method
            logger.debug("%s failed", job.cell, exc_info=True)
            return self._failed(runner, error, redo)
        if redo:
            set_files.tidy(self.store, runner.set_path)
            redo.end()
        self._tidy(job, fingerprint)
        return CellResult(job, "done", record)

    def _failed(
        self, runner: CellRunner, error: Exception, redo: Redo | None = None
    ) -> CellResult:
        """Record that a cell ended without a result, which also fulfils a request.

        Otherwise a cell that always fails would never return its earlier result.
        """
        record = runner.record(**fields_of(error))
        self.store.write(record)
        if redo:
            redo.end()
        if self._has_result(runner):
            self.context.tell(f"{runner.job.cell}: its earlier result is kept")
        return CellResult(runner.job, record.status, record)

    def _has_result(self, runner: CellRunner) -> bool:
        """Return whether an earlier run of a cell, on the same images, has a result."""
        job, fingerprint = runner.job, runner.fingerprint
        if fingerprint is None:
            return self.store.only(job.cell, job.digest) is not None
        with suppress(RecordError):
            return self.store.find(job.cell, job.digest, fingerprint) is not None
        return False
