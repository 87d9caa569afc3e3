"""Plans the grid and runs its cells; a cell that fails does not stop the others."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from msgspec import Struct

from dcbench_bacon import container, data, recipe
from dcbench_bacon.clock import Clock, Policy, Schedule
from dcbench_bacon.errors import (
    DataError,
    DivergedError,
    InterruptedRunError,
    OutputError,
    RecordError,
    UsageError,
)
from dcbench_bacon.evaluate import Task, evaluate
from dcbench_bacon.files import write_atomically
from dcbench_bacon.memory import keep_freed_memory
from dcbench_bacon.records import Store, acquire
from dcbench_bacon.registry import METHODS
from dcbench_bacon.schema import Cell, Evaluation, Record, Timing
from dcbench_bacon.spec import Method, Split, SyntheticSet
from dcbench_bacon.timing import environment

logger = logging.getLogger(__name__)
Outcome = Literal["done", "skipped", "failed", "diverged"]


class Grid(Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        methods: names as typed.
        datasets: names as typed, ``folder:PATH`` among them.
        ipc: images per class.
        seeds: repetitions.
        request: profile, protocol and overrides.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    ipc: tuple[int, ...]
    seeds: tuple[int, ...]
    request: recipe.Request


class Job(NamedTuple):
    """A cell with its recipe, ready to run.

    Attributes:
        source: the data set as typed; for a folder, with its path.
    """

    cell: Cell
    source: str
    resolved: recipe.Resolved

    @property
    def digest(self) -> str:
        """Of the whole recipe."""
        return recipe.digest(self.resolved.recipe)


class Result(NamedTuple):
    """What became of a job."""

    job: Job
    outcome: Outcome
    record: Record


@dataclass(frozen=True)
class Options:
    """How cells run; nothing here changes their numbers on one kind of device.

    Attributes:
        device: where.
        data_root: where data sets lie.
        download: whether missing data may be fetched.
        fresh: run finished cells again, from the start.
        policy: checkpoints, progress and stopping; its folder is set a cell.
        tell: takes a line for the user.
    """

    device: torch.device
    data_root: Path | None = None
    download: bool = False
    fresh: bool = False
    policy: Policy = field(default_factory=Policy)
    tell: Callable[[str], None] = logger.info


class CellRun(Clock):
    """The run that a method sees: the clock, and what belongs to the cell."""

    def __init__(
        self, cell: Cell, dataset: data.Dataset, options: Options, folder: Path | None
    ) -> None:
        """Joins clock and data."""
        policy = replace(options.policy, folder=folder)
        super().__init__(str(cell), options.device, policy)
        self.cell = cell
        self.info = dataset.info
        self.train = dataset.train


def method_class(name: str) -> type[Method]:
    """The method of a module: the one subclass of ``Method`` that it defines.

    Raises:
        UsageError: the module defines none, or several.
    """
    module = METHODS.module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UsageError(f"{module.__name__} defines {len(found)} methods, not one")
    return found[0]


def resolve(cell: Cell, request: recipe.Request) -> recipe.Resolved:
    """The recipe in force for a cell."""
    path = METHODS.source(cell.method).with_suffix(".toml")
    return recipe.resolve(path, method_class(cell.method).Settings, cell, request)


def plan(grid: Grid, data_root: Path | None = None) -> list[Job]:
    """The jobs of a grid: by data set, then images per class, method and seed.

    Raises:
        UsageError: a name, a key or a value is wrong; nothing has run.
    """
    methods = [METHODS.resolve(name) for name in grid.methods]
    settings = [method_class(name).Settings for name in methods]
    recipe.check_overrides(grid.request.overrides, settings)
    jobs = []
    for source in grid.datasets:
        name = data.cell_name(source, data_root)
        for ipc in grid.ipc:
            for method in methods:
                for seed in grid.seeds:
                    cell = Cell(method, name, ipc, seed)
                    jobs.append(Job(cell, source, resolve(cell, grid.request)))
    return jobs


def run(jobs: Sequence[Job], store: Store, options: Options) -> Iterator[Result]:
    """Runs jobs, yielding each result as it is known.

    A cell that another process is at work on comes last: it is waited for, and then
    found done.

    Raises:
        InterruptedRunError: the user or a time budget stopped the run.
        OutputError: results cannot be written any more.
    """
    keep_freed_memory()
    datasets = Datasets(options)
    postponed: list[Job] = []
    for job in jobs:
        result = _locked(job, store, options, datasets, wait=False)
        if result is None:
            options.tell(f"{job.cell}: another process is at work on it; later")
            postponed.append(job)
        else:
            yield result
    for job in postponed:
        result = _locked(job, store, options, datasets, wait=True)
        assert result is not None
        yield result


class Datasets:
    """Keeps the data set in use, and no other, in memory."""

    def __init__(self, options: Options) -> None:
        """Loads nothing yet."""
        self.options = options
        self.name: str | None = None
        self.loaded: data.Dataset | None = None

    def __getitem__(self, name: str) -> data.Dataset:
        """The data set on the device."""
        if self.name != name or self.loaded is None:
            self.loaded = None  # first frees the memory of the last one
            self.loaded = data.load(
                name,
                self.options.data_root,
                self.options.device,
                download=self.options.download,
            )
            self.name = name
        return self.loaded


def _locked(
    job: Job, store: Store, options: Options, datasets: Datasets, *, wait: bool
) -> Result | None:
    """Runs a job under its lock; None when another process holds it."""
    lock = store.lock(job.cell, job.digest)
    if not acquire(lock, wait=wait):
        return None
    try:
        return _skipped(job, store, options) or _run(job, store, options, datasets)
    except OSError as error:
        raise OutputError(
            f"{error.filename or store.root}: {error.strerror}; make room or choose "
            "another folder with --output, then give the same command again"
        ) from error
    finally:
        lock.release()


def _skipped(job: Job, store: Store, options: Options) -> Result | None:
    """The record of a cell that is done already."""
    if options.fresh:
        store.clear(job.cell, job.digest)
        return None
    try:
        record = store.find(job.cell, job.digest)
    except RecordError as error:
        options.tell(f"warning: {error}")
        return None
    if record is None or record.status != "done":
        return None
    store.clear(job.cell, job.digest)  # a kill may come between record and tidying
    return Result(job, "skipped", record)


def _run(job: Job, store: Store, options: Options, datasets: Datasets) -> Result:
    """Runs a cell and records it, also when it fails."""
    work = Work(job, store, options)
    try:
        record = work.run(datasets[job.source])
    except (InterruptedRunError, OSError):
        raise
    except DivergedError as error:
        record = work.record("diverged", error=str(error))
    except (DataError, UsageError, RecordError) as error:
        record = work.record("failed", error=str(error))
    except Exception as error:  # torch's, or a mistake in anyone's method
        logger.debug("%s failed", job.cell, exc_info=True)
        record = work.record("failed", error=f"{type(error).__name__}: {error}")
    store.write(record)
    if record.status == "done":
        store.clear(job.cell, job.digest)
    return Result(job, record.status, record)


class Work:
    """One cell on its way from data to record."""

    def __init__(self, job: Job, store: Store, options: Options) -> None:
        """Nothing has happened yet."""
        self.job = job
        self.store = store
        self.options = options
        self.recipe = job.resolved.recipe
        self.folder = store.checkpoint_folder(job.cell, job.digest)
        self.history: list[Evaluation] = []
        self.timings: dict[str, Timing] = {}

    def run(self, dataset: data.Dataset) -> Record:
        """Distils (or finds the set on disk), evaluates, and makes the record."""
        cell, protocol = self.job.cell, self.recipe.protocol
        if cell.dataset != dataset.info.name:
            raise DataError(f"{self.job.source} holds {dataset.info.name}")
        check_ipc(cell, dataset)
        clock = Clock(str(cell), self.options.device)
        train, validation = dataset.train, None
        if protocol.selection == "best_val":
            train, validation = data.split_validation(
                train, protocol.validation, clock.generator("validation", "cpu")
            )
        dataset = replace(dataset, train=train)
        path = self.store.synthetic_path(cell, recipe.distillation_digest(self.recipe))
        if self.options.fresh or not path.exists():
            self._distill(dataset, validation, path)
        try:
            synthetic = container.read(path, self.options.device)
        except RecordError as error:
            raise RecordError(f"{error}; distil it again with --fresh") from error
        task = Task(synthetic, dataset.test, dataset.info, protocol, validation)
        run = CellRun(cell, dataset, self.options, self.folder)
        evaluations = evaluate(run, task)
        distillation = msgspec.convert(
            synthetic.provenance["distillation"], dict[str, Timing]
        )
        return self.record(
            "done",
            evaluations=tuple(evaluations),
            history=tuple(self._read_history()),
            distillation=distillation,
            evaluation=run.timings,
            synthetic_sha256=container.digest(synthetic),
            synthetic_bytes=synthetic.images.nbytes + synthetic.labels.nbytes,
        )

    def record(self, status: Any, **fields: Any) -> Record:
        """A record of this cell."""
        return Record(
            cell=self.job.cell,
            recipe=self.recipe,
            digest=self.job.digest,
            status=status,
            environment=environment(self.options.device),
            **fields,
        )

    def _distill(
        self, dataset: data.Dataset, validation: Split | None, path: Path
    ) -> None:
        """Runs the method and stores its set with where it comes from."""
        run = CellRun(self.job.cell, dataset, self.options, self.folder)
        if every := self.recipe.protocol.evaluate_every:
            run.schedule = Schedule(every, self._scheduled(dataset, validation))
        method = method_class(self.job.cell.method).create(self.recipe.settings)
        synthetic = method.distill(run)
        if not torch.isfinite(synthetic.images).all():
            raise DivergedError("the images are not finite; try a smaller image_lr")
        if every and self.recipe.protocol.selection != "final":
            synthetic = self._best(synthetic, run, dataset, validation)
        provenance = {
            "cell": msgspec.to_builtins(self.job.cell),
            "dataset": msgspec.to_builtins(dataset.info),
            "dataset_sha256": dataset.fingerprint,
            "recipe": msgspec.to_builtins(self.recipe),
            "zca": None,
            "learning_rate": None,
            "environment": msgspec.to_builtins(environment(self.options.device)),
            "distillation": msgspec.to_builtins(run.timings),
        }
        container.write(
            path,
            replace(synthetic, provenance={**provenance, **synthetic.provenance}),
        )

    def _scheduled(
        self, dataset: data.Dataset, validation: Split | None
    ) -> Callable[[int, SyntheticSet], None]:
        """Evaluates a snapshot, once, and keeps it if it is the best so far."""

        def evaluate_snapshot(step: int, synthetic: SyntheticSet) -> None:
            history = self._read_history()
            if any(entry.step == step for entry in history):
                return
            policy = replace(self.options.policy, folder=None)
            clock = Clock(f"{self.job.cell}@{step}", self.options.device, policy)
            task = Task(
                synthetic,
                dataset.test,
                dataset.info,
                self.recipe.protocol,
                validation,
            )
            new = [
                msgspec.structs.replace(entry, step=step)
                for entry in evaluate(clock, task, f"step {step}")
            ]
            if self._score(new) > max(map(self._score, _by_step(history)), default=-1):
                container.write(self.folder / "best.set", synthetic)
            encoded = msgspec.json.encode([*history, *new])
            write_atomically(self.folder / "history.json", encoded)

        return evaluate_snapshot

    def _best(
        self,
        last: SyntheticSet,
        run: CellRun,
        dataset: data.Dataset,
        validation: Split | None,
    ) -> SyntheticSet:
        """The snapshot that the protocol's selection prefers."""
        assert run.schedule is not None
        settings = self.recipe.settings
        run.schedule.evaluate(int(settings.get("steps") or 0), last)
        best = self.folder / "best.set"
        return container.read(best, self.options.device)

    def _score(self, evaluations: Sequence[Evaluation]) -> float:
        """What snapshots are compared by; never test unless the name says so."""
        on_test = self.recipe.protocol.selection != "best_val"
        values = [e.accuracy if on_test else e.validation or 0.0 for e in evaluations]
        return sum(values) / len(values)

    def _read_history(self) -> list[Evaluation]:
        path = self.folder / "history.json"
        if not path.exists():
            return []
        return msgspec.json.decode(path.read_bytes(), type=list[Evaluation])


def _by_step(history: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """The evaluations of each snapshot."""
    steps = dict.fromkeys(entry.step for entry in history)
    return [[entry for entry in history if entry.step == step] for step in steps]


def check_ipc(cell: Cell, dataset: data.Dataset) -> None:
    """Makes sure that every class has enough images.

    Raises:
        UsageError: the smallest class has fewer than ``ipc``.
    """
    counts = torch.bincount(dataset.train.labels, minlength=dataset.info.classes)
    smallest = int(counts.argmin())
    if cell.ipc > counts[smallest]:
        raise UsageError(
            f"ipc {cell.ipc} is more than the {int(counts[smallest])} training images "
            f"of class {dataset.info.class_names[smallest]!r} of {cell.dataset}; "
            "choose a smaller --ipc"
        )


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C and a polite kill into a request that steps look at.

    A second Ctrl-C ends the program at once.
    """
    requested = False

    def request(number: int, frame: Any) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request) for number in signals]
    try:
        yield lambda: requested
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
