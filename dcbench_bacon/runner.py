"""Plans the grid and runs its cells; a cell that fails does not stop the others."""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock
from msgspec import Struct

from dcbench_bacon import data, recipe, whitening
from dcbench_bacon.errors import (
    DataError,
    DivergedError,
    InterruptedRunError,
    OutputError,
    RecordError,
    UsageError,
)
from dcbench_bacon.memory import keep_freed_memory
from dcbench_bacon.records import Store, acquire
from dcbench_bacon.registry import METHODS
from dcbench_bacon.schema import Record
from dcbench_bacon.work import (
    Job,
    Options,
    Work,
    cell_of,
    method_class,
    resolve,
    say_if_changed,
)

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


class Result(NamedTuple):
    """What became of a job."""

    job: Job
    outcome: Outcome
    record: Record


def plan(grid: Grid, data_root: Path | None = None) -> list[Job]:
    """The jobs of a grid: by data set, then images per class, method and seed.

    Raises:
        UsageError: a name, a key or a value is wrong; nothing has run.
    """
    methods = [METHODS.resolve(name) for name in grid.methods]
    settings = [method_class(name).Settings for name in methods]
    recipe.check_overrides(grid.request.overrides, settings)
    jobs = {}
    names: dict[str, str] = {}
    for source in grid.datasets:
        name = data.cell_name(source, data_root)
        if names.setdefault(name, source) != source:
            raise UsageError(
                f"{names[name]} and {source} would both be called {name}: rename one"
            )
        for ipc in grid.ipc:
            for method in methods:
                for seed in grid.seeds:
                    cell = cell_of(method, name, ipc, seed)
                    # A reference has one cell for all ipc.
                    jobs[cell] = Job(cell, source, resolve(cell, grid.request))
    return list(jobs.values())


def run(jobs: Sequence[Job], store: Store, options: Options) -> Iterator[Result]:
    """Runs jobs, yielding each result as it is known.

    A cell that another process is at work on comes last: it is waited for, and then
    found done.

    Raises:
        InterruptedRunError: the user or a time budget stopped the run.
        OutputError: results cannot be written any more.
    """
    keep_freed_memory()
    if options.fresh:
        for job in jobs:
            store.forget(job.cell, job.digest, job.distillation_digest)
    runner = _Runner(store, options)
    postponed: list[Job] = []
    for job in jobs:
        result = runner.attempt(job)
        if result is None:
            options.tell(
                f"{job.cell}: another process is at work on it; later (if that is on "
                "this machine, divide its threads by OMP_NUM_THREADS)"
            )
            postponed.append(job)
        else:
            yield result
    for job in postponed:
        while (result := runner.attempt(job, patience=1.0)) is None:
            pass
        yield result


class Datasets:
    """Keeps the data set in use, and no other, in memory.

    What was whitened for one cell serves those that follow, up to one that takes the
    images as they are: its peak memory is to be its own. A data set that could not be
    loaded is not looked for again.
    """

    def __init__(self, options: Options) -> None:
        """Loads nothing yet."""
        self.options = options
        self.name: str | None = None
        self.loaded: data.Dataset | None = None
        self.whitened: data.Dataset | None = None
        self.missing: dict[str, DataError] = {}

    def __getitem__(self, name: str) -> data.Dataset:
        """The data set on the device."""
        if name in self.missing:
            raise self.missing[name]
        if self.name != name or self.loaded is None:
            self.loaded = self.whitened = None  # first frees the memory of the last one
            try:
                self.loaded = data.load(
                    name,
                    self.options.data_root,
                    self.options.device,
                    download=self.options.download,
                )
            except DataError as error:
                self.missing[name] = error
                raise
            self.name = name
        return self.loaded

    def of(self, job: Job) -> data.Dataset:
        """The data set of a job as its recipe wants it."""
        dataset = self[job.source]
        if not job.resolved.recipe.settings.get("zca"):
            self.whitened = None
            return dataset
        if self.whitened is None:
            self.whitened = whitening.whiten(dataset)
        return self.whitened


class _Runner:
    """Runs cells one by one."""

    def __init__(self, store: Store, options: Options) -> None:
        """Loads no data yet."""
        self.store = store
        self.options = options
        self.datasets = Datasets(options)

    def attempt(self, job: Job, patience: float = 0.0) -> Result | None:
        """Runs a job under its lock; None while another process holds it.

        Args:
            job: the cell and its recipe.
            patience: seconds to wait for the lock.
        """
        policy = self.options.policy
        if policy.stop() or time.monotonic() > policy.deadline:
            raise InterruptedRunError(f"stopped before {job.cell}")
        lock = self._lock(job)
        if not acquire(lock, patience):
            return None
        try:
            return self._skipped(job) or self._run(job)
        finally:
            lock.release()

    def _lock(self, job: Job) -> FileLock:
        """Cells that share a set share its lock, so that it is distilled once."""
        return self.store.lock(job.cell, job.distillation_digest)

    def _skipped(self, job: Job) -> Result | None:
        """The result of a cell that is done already."""
        try:
            record = self.store.find(job.cell, job.digest)
        except RecordError as error:
            self.options.tell(f"warning: {error}")
            return None
        if record is None or record.status != "done" or self._outdated(job, record):
            return None
        say_if_changed(job.cell, record.method_sha256, self.options.tell)
        # A kill may come between a record and the tidying after it.
        self.store.clear(job.cell, job.digest)
        return Result(job, "skipped", record)

    def _outdated(self, job: Job, record: Record) -> bool:
        """Whether a folder's images have changed since the record was made."""
        if ":" not in job.source or record.dataset_sha256 is None:
            return False
        try:
            return self.datasets[job.source].fingerprint != record.dataset_sha256
        except DataError:
            return False

    def _run(self, job: Job) -> Result:
        """Runs a cell and records it, also when it fails."""
        work = Work(job, self.store, self.options)
        try:
            fingerprint = self.datasets[job.source].fingerprint
            record = work.run(self.datasets.of(job), fingerprint)
        except (InterruptedRunError, OutputError):
            raise
        except DivergedError as error:
            record = work.record("diverged", error=str(error))
        except (DataError, UsageError, RecordError) as error:
            record = work.record("failed", error=str(error))
        except Exception as error:  # torch's, or a mistake in anyone's method
            logger.debug("%s failed", job.cell, exc_info=True)
            record = work.record("failed", error=f"{type(error).__name__}: {error}")
        self.store.write(record)
        if record.status == "done":
            self.store.clear(job.cell, job.digest)
        return Result(job, record.status, record)


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
        logger.warning("stopping after this step; once more to stop at once")

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request) for number in signals]
    try:
        yield lambda: requested
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
