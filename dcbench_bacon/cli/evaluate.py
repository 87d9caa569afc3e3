"""What ``dcbench evaluate`` does, and how commands open saved sets."""

import logging
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console

from dcbench_bacon import (
    container,
    data,
    recipe,
    runner,
    schema,
    whitening,
    work,
)
from dcbench_bacon.commands import (
    Setup,
    by_architecture,
    in_percent,
    request_of,
    spread,
)
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.exchange import foreign, identity
from dcbench_bacon.exchange.class_counts import count
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.judged_as import describe, method_of
from dcbench_bacon.memory import keep_freed_memory
from dcbench_bacon.records import Store
from dcbench_bacon.redo import Redo
from dcbench_bacon.schema import Cell, DatasetInfo, Record
from dcbench_bacon.spec import SyntheticSet

logger = logging.getLogger(__name__)


def evaluate_files(*, files: Sequence[Path], claims: Claims, **given: Any) -> None:
    """Judges saved sets, and prints a line a network and the mean.

    The records stand in the tables beside those of ``dcbench run``; what is recorded
    already is printed and not done again.

    Args:
        files: the sets.
        claims: what the user says about them.
        given: the fields of ``Setup`` and of a request.
    """
    keep_freed_memory()
    setup = Setup.taken(given)
    request = request_of("paper", **given)
    work.check_architectures(request.architectures)
    recipe.check_overrides(request.overrides, [])
    console = Console(stderr=True)
    with setup.ready(console) as (store, options):
        asked = [
            (path, claim)
            for path in dict.fromkeys(files)
            for claim in foreign.every_set(path, claims)
        ]
        judge = _Judge(request, claims.as_method, store, options)
        every: Iterable[work.Opened] = (
            open_set(path, claim, options.device, setup.data_root)
            for path, claim in asked
        )
        if options.fresh:
            every = list(every)
            judge.ask_anew(every)
        pooled: dict[Path, list[Record]] = {}
        for (path, claim), opened in zip(asked, every, strict=True):
            record = judge.judge(path, opened)
            pooled.setdefault(path, []).append(record)
            chosen = claims.index == "all" and claim.index is not None
            _print(f"{path} [{claim.index}]" if chosen else f"{path}", [record])
        for path, records in pooled.items():
            if len(records) > 1:
                _print(f"{path} [{len(records)} sets]", records)


def _print(title: str, records: Sequence[Record]) -> None:
    """Prints a line for each network, beside it what the set's authors stored."""
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


def open_set(
    path: Path, claims: Claims, device: torch.device, root: Path | None
) -> work.Opened:
    """Reads a set and the data set that it is to be tested on."""
    synthetic = foreign.read(path, claims, root).to(device)
    return work.Opened(synthetic, *_opened(path, synthetic, claims.dataset, root))


@dataclass(frozen=True)
class _Judge:
    """Judges opened sets, and records them.

    Attributes:
        request: profile, protocol and overrides.
        as_method: the method whose evaluation the user wants; none if not said.
        store: where records go.
        options: how networks are trained.
        said: lines that the user has been told.
    """

    request: recipe.Request
    as_method: str | None
    store: Store
    options: work.Options
    said: set[str] = field(default_factory=set)

    def say_once(self, line: str) -> None:
        """Tells the user a line that is the same for several sets of a file."""
        if line not in self.said:
            self.options.tell(line)
        self.said.add(line)

    def ask_anew(self, every: Sequence[work.Opened]) -> None:
        """Leaves a request for each set, before the first of them is judged."""
        for opened in every:
            Redo(self.worker(opened).folder).ask()

    def worker(self, opened: work.Opened) -> work.Work:
        """What judges a set, with a folder of checkpoints of its own."""
        job, fingerprint = self._job(opened)[0], opened.dataset.raw_fingerprint
        digest = container.digest(opened.synthetic)
        known = self.store.find(job.cell, job.digest, fingerprint)
        if known and known.synthetic_sha256 not in (None, digest):
            # Sets of one recipe from two machines are two sets.
            job = job._replace(another=digest)
        worker = work.Work(job, fingerprint, self.store, self.options)
        worker.folder = worker.folder.with_name(f"{worker.folder.name}-{digest[:8]}")
        return worker

    @runner.at_work()
    def judge(self, path: Path, opened: work.Opened) -> Record:
        """The record of a file: found, or made now.

        Two sets of one recipe, from two machines, are two results: the second is
        recorded under a digest of its own.
        """
        job, judged = self._job(opened)
        fingerprint, tell = opened.dataset.raw_fingerprint, self.options.tell
        if self.request.protocol == recipe.PUBLISHED:
            self.say_once(f"{path}: {judged}")
        protocol = job.resolved.recipe.protocol
        if protocol.held_out:
            opened = _held_out(path, opened)
        foreign.caution(path, opened.synthetic, protocol)
        # The same lock as that of a run that makes such a set and its record.
        with self.store.lock(job.cell, job.distillation_digest, fingerprint):
            # Now: another set of the recipe may have taken the record's place.
            worker = self.worker(opened)
            redo = Redo(worker.folder)
            known = self.store.find(job.cell, worker.job.digest, fingerprint)
            if not redo.begin() and known:
                tell(f"{path}: recorded already; --fresh trains again")
                return _renamed(known, opened.synthetic, self.store)
            record = worker.judge(opened)
            self.store.write(record)
            redo.end()
            shutil.rmtree(worker.folder, ignore_errors=True)
        return record

    def _job(self, opened: work.Opened) -> tuple[work.Job, str]:
        """What a file is recorded as: its own recipe under the protocol asked for.

        A set of another tool has no recipe, and is known by its file and how it was
        read.

        Returns:
            The job, and a line about whose evaluation is in force.

        Raises:
            UsageError: a method was named, and the protocol is the same for all.
        """
        request, as_method = self.request, self.as_method
        if as_method and request.protocol != recipe.PUBLISHED:
            raise UsageError(
                f"--as {as_method}: protocol {request.protocol} is the same for all "
                f"methods; leave one of both out, or say --protocol {recipe.PUBLISHED}"
            )
        cell, made = opened.cell, _made_by(opened.synthetic)
        distilled_on = work.distilled_on(made) if made else work.DISTILLED_ON
        names = work.plain(request.architectures, distilled_on)
        asked = msgspec.structs.replace(request, architectures=names)
        known = method_of(cell, opened.synthetic, as_method)
        judged = work.judged_as(known.method, cell, asked) if known else None
        # Without one: made by another tool, or by a method that is not installed here.
        protocol = judged.protocol if judged else recipe.protocol(cell, asked)
        own = made or schema.Recipe(
            settings=identity.settings_of(opened.synthetic), protocol=protocol
        )
        found = msgspec.structs.replace(
            own,
            protocol=protocol,
            profile=schema.more_reduced(own.profile, asked.profile),
            overrides={**own.overrides, **asked.overrides},
        )
        job = work.Job(cell, cell.dataset, recipe.Resolved(found, {}))
        return job, describe(known, judged)


def _renamed(known: Record, synthetic: SyntheticSet, store: Store) -> Record:
    """The record under the name that the set has now."""
    name = str(synthetic.provenance.get("name") or "")
    if name == known.name:
        return known
    renamed = msgspec.structs.replace(known, name=name)
    store.write(renamed)
    return renamed


def _made_by(synthetic: SyntheticSet) -> schema.Recipe | None:
    """The recipe that a set was distilled with; none of another tool's file."""
    try:
        return msgspec.convert(synthetic.provenance["recipe"], schema.Recipe)
    except (KeyError, msgspec.ValidationError):
        return None


def _held_out(path: Path, opened: work.Opened) -> work.Opened:
    """Takes out of train what was held out when the set was made.

    The share is the one in the file, whatever the protocol asked for now has.

    Raises:
        UsageError: nothing was held out, or from other images.
    """
    synthetic, cell, loaded, _ = opened
    made = _made_by(synthetic)
    if made is None or not made.protocol.held_out:
        raise UsageError(
            f"{path}: --selection best_val and protocol.learning_rates need a split "
            "that was held out when the set was distilled; give them to dcbench run"
        )
    if synthetic.provenance.get("dataset_sha256") != loaded.fingerprint:
        raise UsageError(
            f"{path} was distilled from other images than {loaded.info.name} now has, "
            "so what was held out is not known; leave out --selection best_val and "
            "protocol.learning_rates"
        )
    train, validation = work.hold_out(cell, loaded.train, made.protocol.validation)
    if synthetic.provenance.get("validation_sha256") != work.held_out_sha256(
        validation
    ):
        raise UsageError(
            f"{path} was distilled with other images held out than would be now; "
            "distil it again with dcbench run --fresh, or leave out --selection "
            "best_val and protocol.learning_rates"
        )
    return opened._replace(dataset=replace(loaded, train=train), validation=validation)


def _opened(
    path: Path, synthetic: SyntheticSet, dataset: str | None, root: Path | None
) -> tuple[Cell, data.Dataset]:
    """The cell that a set came from, and the data set it is to be tested on.

    Raises:
        DataError: the file does not say where it is from, or the data do not fit it.
    """
    try:
        cell = msgspec.convert(synthetic.provenance["cell"], Cell)
        made_for = msgspec.convert(synthetic.provenance["dataset"], DatasetInfo)
    except (KeyError, msgspec.ValidationError) as error:
        raise DataError(f"{path} does not say what it was made from") from error
    container.check_fits(path, synthetic, made_for)
    for warning in count(synthetic.labels).warnings(made_for.class_names):
        logger.warning("%s: %s", path, warning)
    # A header names no folder of this machine: only --dataset does.
    name = dataset or cell.dataset.partition(":")[0]
    try:
        loaded = data.load(name, root, synthetic.images.device)
    except UsageError as error:
        raise DataError(
            f"{path} was made from {cell.dataset}, which is no data set of that name "
            "here; name it with --dataset, for a folder --dataset folder:PATH"
        ) from error
    found = (loaded.info.channels, loaded.info.size, loaded.info.classes)
    if found != (made_for.channels, made_for.size, made_for.classes):
        raise DataError(
            f"{path} was made from {made_for.name} ({_shape(made_for)}), "
            f"{loaded.info.name} has {_shape(loaded.info)}; "
            "name the right one with --dataset"
        )
    if (loaded.info.mean, loaded.info.std) != (made_for.mean, made_for.std):
        raise DataError(
            f"{path} was normalised with the statistics of {made_for.name}, which are "
            f"not those of {loaded.info.name}; name the right one with --dataset"
        )
    if synthetic.provenance.get("zca"):
        loaded = whitening.whiten(loaded)
        if synthetic.provenance.get("dataset_sha256", loaded.fingerprint) != (
            loaded.fingerprint
        ):
            logger.warning(
                "%s was whitened with the statistics of other images than those of %s "
                "here: expect too low an accuracy",
                path,
                loaded.info.name,
            )
    return cell, loaded


def _shape(info: DatasetInfo) -> str:
    return f"{info.channels}x{info.size}x{info.size}, {info.classes} classes"
