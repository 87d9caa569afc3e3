"""The evaluation of saved sets by ``dcbench evaluate``."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from dcbench_bacon.cli.opening import open_set
from dcbench_bacon.cli.run import by_architecture, in_percent, spread
from dcbench_bacon.cli.setup import Setup
from dcbench_bacon.data import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.networks import pools
from dcbench_bacon.recipes import overlay, protocols
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running import grid, planning, run, saved_sets
from dcbench_bacon.running.cell import CellRunner
from dcbench_bacon.runtime.memory import keep_freed_memory
from dcbench_bacon.runtime.redo import Redo
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store


def evaluate_files(
    *, files: Sequence[Path], stated: ReadingOptions, **given: Any
) -> None:
    """Judge saved sets, and print one line per network.

    Tables show the records beside those of ``dcbench run``; evaluations that are
    already recorded are printed and not repeated.

    Args:
        files: the files of the sets.
        stated: what the user states about them.
        given: the fields of ``Setup`` and of a request.
    """
    keep_freed_memory()
    setup = Setup.pop_from(given)
    request = request_of("paper", **given)
    pools.check_architectures(request.architectures)
    overlay.check_overrides(request.overrides, [])
    console = Console(stderr=True)
    with setup.ready(console) as (store, config):
        asked = [
            (path, reading)
            for path in dict.fromkeys(files)
            for reading in adopt.every_set(path, stated)
        ]
        judge = _Judge(request, stated.as_method, store, config)
        told: set[Any] = set()
        every: Iterable[run.OpenedSet] = (
            open_set(path, reading, config.device, setup.data_root, told)
            for path, reading in asked
        )
        if config.fresh:
            every = list(every)
            judge.ask_anew(every)
        pooled: dict[Path, list[Record]] = {}
        for (path, reading), opened in zip(asked, every, strict=True):
            record = judge.judge(path, opened)
            pooled.setdefault(path, []).append(record)
            chosen = stated.index == "all" and reading.index is not None
            _print(f"{path} [{reading.index}]" if chosen else f"{path}", [record])
        for path, records in pooled.items():
            if len(records) > 1:
                _print(f"{path} [{len(records)} sets]", records)


def _print(title: str, records: Sequence[Record]) -> None:
    """Print one line per network, with the accuracies that the authors stored."""
    evaluations = [each for record in records for each in record.evaluations]
    for architecture, found in by_architecture(evaluations).items():
        stored = [
            value
            for record in records
            for value in record.stored_accuracies.get(architecture, ())
        ]
        beside = f"  stored in the file: {in_percent(stored)}" if stored else ""
        sys.stderr.flush()
        print(f"{title}  {architecture}  {spread(found)}{beside}", flush=True)


@dataclass(frozen=True)
class _Judge:
    """A judge of opened sets, which records them.

    Attributes:
        request: preset, protocol and overrides.
        as_method: the method whose evaluation the user wants; None if not stated.
        store: the results folder.
        config: device, data and policy.
        said: lines that were already shown to the user.
    """

    request: protocols.Request
    as_method: str | None
    store: Store
    config: run.RunConfig
    said: set[str] = field(default_factory=set)

    def say_once(self, line: str) -> None:
        """Show a line once, although it applies to several sets of a file."""
        if line not in self.said:
            self.config.tell(line)
        self.said.add(line)

    def ask_anew(self, every: Sequence[run.OpenedSet]) -> None:
        """Leave a request for each set, before the first of them is judged."""
        for opened in every:
            Redo(self.runner(opened).folder).ask()

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
        runner = CellRunner(job, fingerprint, self.store, self.config)
        runner.folder = runner.folder.with_name(f"{runner.folder.name}-{digest[:8]}")
        return runner

    @grid.at_work()
    def judge(self, path: Path, opened: run.OpenedSet) -> Record:
        """Return the record of a file, which is made if there is none.

        Two sets of one recipe, from two machines, are two results; the second is
        recorded under a digest of its own.
        """
        job, judged = self._job(opened)
        fingerprint, tell = opened.dataset.raw_fingerprint, self.config.tell
        if self.request.protocol == protocols.PUBLISHED:
            self.say_once(f"{path}: {judged}")
        protocol = job.resolved.recipe.protocol
        if protocol.held_out:
            opened = saved_sets.held_out(path, opened)
        adopt.caution(path, opened.synthetic, protocol)
        # A run that makes such a set and its record takes the same lock.
        with self.store.lock(job.cell, job.distillation_digest, fingerprint):
            # Looked up under the lock, since another set may now have the record.
            runner = self.runner(opened)
            redo = Redo(runner.folder)
            known = self.store.find(job.cell, runner.job.digest, fingerprint)
            if not redo.begin() and known:
                tell(f"{path}: already recorded; --fresh trains again")
                return _renamed(known, opened.synthetic, self.store)
            record = runner.judge(opened)
            self.store.write(record)
            redo.end()
            shutil.rmtree(runner.folder, ignore_errors=True)
        return record

    def _job(self, opened: run.OpenedSet) -> tuple[planning.CellJob, str]:
        """Return the job of a set: its own recipe under the requested protocol.

        A set of another tool has no recipe; its file and the way it was read identify
        it.

        Returns:
            The job, and a line about the method whose evaluation is used.

        Raises:
            UsageError: a method was named, but the protocol is the same for all.
        """
        judging = saved_sets.judging(opened, self.request, self.as_method)
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
    trained = {each.learning_rate for each in known.evaluations} - {None}
    learned = protocol.use_learned_rate and not protocol.learning_rates
    return not (learned and trained) or rate in trained


def _renamed(known: Record, synthetic: SyntheticSet, store: Store) -> Record:
    """Return the record under the present name of the set."""
    name = str(synthetic.provenance.get("name") or "")
    if name == known.name:
        return known
    renamed = msgspec.structs.replace(known, name=name)
    store.write(renamed)
    return renamed
