"""The judging of one saved set, and its record."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dcbench_bacon.cli.cells.opening import ReadSet, SetReader
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import (
    DataError,
    InterruptedRunError,
    OutputError,
    RecordError,
    UsageError,
)
from dcbench_bacon.exchange import cautions
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.recipes import overlay, protocols
from dcbench_bacon.running import run, saved_sets
from dcbench_bacon.running.cell import CellRunner
from dcbench_bacon.running.failures import fields_of
from dcbench_bacon.running.grids import grid
from dcbench_bacon.running.grids.aside import Aside
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.plans import planning
from dcbench_bacon.running.waiting import wait_for
from dcbench_bacon.runtime.disk.redo import Redo
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store


@dataclass(frozen=True)
class SetJudge:
    """A judge of sets, which records them.

    Attributes:
        request: preset, protocol and overrides.
        stated: what the user states about the files.
        store: the results folder.
        context: the configuration in this process.
        reader: reads the files and their data sets.
        said: lines that were already shown to the user.
    """

    request: protocols.Request
    stated: ReadingOptions
    store: Store
    context: run.RunContext
    reader: SetReader
    said: set[str] = field(default_factory=set)

    def say_once(self, line: str) -> None:
        """Show a line once, although it applies to several sets of a file."""
        if line not in self.said:
            self.context.tell(line)
        self.said.add(line)

    def ask_anew(self, asked: Sequence[ReadSet]) -> list[run.OpenedSet | None]:
        """Leave a request for each set, before the first of them is judged.

        Returns:
            The opened sets; None for those that cannot be opened, which is told when
            they are judged.
        """
        every: list[run.OpenedSet | None] = []
        for read in asked:
            opened = None
            with suppress(DataError, RecordError, UsageError):
                opened = self.reader.open(read)
                Redo(self.runner(opened).folder).ask()
            every.append(opened)
        return every

    def runner(self, opened: run.OpenedSet) -> CellRunner:
        """Return the runner of a set, with a folder of checkpoints of its own."""
        job, fingerprint = self._job(opened)[0], opened.dataset.raw_fingerprint
        digest = synthetic_file.digest(opened.synthetic)
        rate = opened.synthetic.provenance.get("learning_rate")
        # Two machines may make different sets by one recipe, and the learning rate of
        # a set can be edited.
        ours = saved_sets.would_be_made(opened, job.distillation_digest)
        for another in (*([""] if ours else []), digest, f"{digest} {rate}"):
            job = job._replace(another=another)
            known = self.store.find(job.cell, job.digest, fingerprint)
            if known is None or _is_of(known, digest, rate):
                break
        runner = CellRunner(job, fingerprint, self.store, self.context)
        runner.folder = runner.folder.with_name(f"{runner.folder.name}-{digest[:8]}")
        return runner

    @grid.at_work()
    def judge(self, read: ReadSet, opened: run.OpenedSet | None = None) -> Record:
        """Return the record of a set, which is made if there is none.

        Two sets of one recipe, from two machines, are two results; the second is
        recorded under a digest of its own. A file that has changed while its lock was
        awaited is read again.

        Args:
            read: the set.
            opened: the set beside its data set, if it was opened before.

        Returns:
            The record, which may be that of a failure.

        Raises:
            InterruptedRunError: the user or a time budget stopped the command.
            DcbenchError: the set cannot be judged.
        """
        policy = self.context.policy
        while True:
            if policy.stopped():
                raise InterruptedRunError(f"stopped before {read.path}")
            opened = opened or self.reader.open(read)
            job = self._job(opened)[0]
            parts = (job.cell, job.distillation_digest, opened.dataset.raw_fingerprint)
            # A run that makes such a set and its record takes the same lock.
            lock = self.store.lock(*parts)
            wait_for(lock, policy, f"makes or evaluates {job.cell} ({read.path})")
            try:
                if self.reader.is_unchanged(read):
                    return self._judge(read, opened)
                self.context.tell(f"{read.path} has changed, so it is read again")
                read, opened = self.reader.read(read.path, read.stated), None
            finally:
                lock.release()

    def _judge(self, read: ReadSet, opened: run.OpenedSet) -> Record:
        """Return the record of a set whose lock is held."""
        path, (job, judged) = read.path, self._job(opened)
        if self.request.protocol == protocols.PUBLISHED:
            self.say_once(f"{path}: {judged}")
        protocol = job.resolved.recipe.protocol
        if protocol.held_out:
            opened = saved_sets.held_out(path, opened)
        cautions.caution(path, opened.synthetic, protocol)
        # Looked up under the lock, since another set may now have the record.
        runner = self.runner(opened)
        redo = Redo(runner.folder)
        fingerprint = opened.dataset.raw_fingerprint
        known = self.store.find(job.cell, runner.job.digest, fingerprint)
        if not redo.begin() and known:
            self.context.tell(f"{path}: already recorded; --fresh trains again")
            return self._named(path, known, opened.synthetic)
        record = self._made(runner, opened)
        redo.end()
        if record.status == "done":
            shutil.rmtree(runner.folder, ignore_errors=True)
        elif known:
            self.context.tell(f"{path}: its earlier result is kept")
        return record

    def _made(self, runner: CellRunner, opened: run.OpenedSet) -> Record:
        """Return the record of a set that is judged now, or of the failure to do so.

        A failure is recorded under the content of the set, because another set of the
        same recipe may have a result.
        """
        job, fingerprint = runner.job, runner.fingerprint
        sha256 = synthetic_file.digest(opened.synthetic)
        apart = job._replace(another=sha256).digest
        try:
            self.store.check_name(job.cell, job.digest, fingerprint)
            record = runner.judge(opened)
            self.store.write(record)
        except (InterruptedRunError, OutputError):
            raise
        except Exception as error:  # noqa: BLE001 - a network can raise anything
            failure = runner.record(**fields_of(error), synthetic_sha256=sha256)
            record = msgspec.structs.replace(failure, digest=apart)
            self.store.write(record)
        else:
            self.store.forgive(job.cell, apart, fingerprint)
        return record

    def _named(self, path: Path, known: Record, synthetic: SyntheticSet) -> Record:
        """Return the record of a set, under a new name only if the user gives one.

        A file of equal content under another name is the same result.
        """
        name = str(synthetic.provenance.get("name") or "")
        if name == known.name:
            return known
        if self.stated.name is None:
            self.context.tell(
                f"{path}: the same set is recorded as {known.name or known.cell}; "
                "--name NAME renames it"
            )
            return known
        self.context.tell(f"{path}: renamed from {known.name or known.cell} to {name}")
        renamed = msgspec.structs.replace(known, name=name)
        self.store.write(renamed)
        return renamed

    def _job(self, opened: run.OpenedSet) -> tuple[planning.CellJob, str]:
        """Return the job of a set: its own recipe under the requested protocol.

        A set of another tool has no recipe; its file and the way it was read identify
        it.

        Returns:
            The job, and a line about the method whose evaluation is used.

        Raises:
            UsageError: a method was named, but the protocol is the same for all.
        """
        judging = saved_sets.judging(opened, self.request, self.stated.as_method)
        resolved = overlay.Resolved(judging.recipe, {})
        job = planning.CellJob(opened.cell, opened.cell.dataset, resolved)
        return job, judging.line


def _is_of(known: Record, digest: str, rate: object) -> bool:
    """Return whether a record is of a set with this content and learning rate.

    Facts that an older record does not contain are not compared.
    """
    if known.synthetic_sha256 not in (None, digest):
        return False
    protocol = known.recipe.protocol
    trained = {evaluation.learning_rate for evaluation in known.evaluations} - {None}
    learned = protocol.use_learned_rate and not protocol.learning_rates
    return not (learned and trained) or rate in trained


def judge_elsewhere(
    path: Path,
    this: ReadingOptions,
    request: protocols.Request,
    stated: ReadingOptions,
    root: Path,
    config: run.RunConfig,
    aside: Aside,
) -> Record:
    """Judge a set in a worker; see ``SetJudge.judge``.

    Args:
        path: the file.
        this: what the user states about the set.
        request: preset, protocol and overrides.
        stated: what the user states about the files.
        root: the results folder.
        config: how the worker runs.
        aside: where progress goes.
    """
    reader = SetReader(stated, Datasets(config), several=True)
    judge = SetJudge(request, stated, Store(root), aside.context(config), reader)
    return judge.judge(reader.read(path, this))
