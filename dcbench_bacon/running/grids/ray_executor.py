"""Cells as tasks of Ray, which places them, retries them and survives lost nodes.

All nodes need this version of dcbench and the results folder under one path. A cell
that is retried continues from its checkpoint in that folder. The locks of cells are
those of every run, so a grid on Ray and plain processes can share a folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dcbench_bacon.errors import InterruptedRunError, OutputError
from dcbench_bacon.running.cell import CellRunner
from dcbench_bacon.running.failures import fields_of
from dcbench_bacon.running.grids.elsewhere import (
    Board,
    BoardReporter,
    RareQuestion,
    portable,
    run_cell,
)
from dcbench_bacon.running.grids.grid import CellResult, ask_anew, at_work
from dcbench_bacon.running.grids.ray_cluster import (
    Cluster,
    Share,
    connected,
    load,
    share,
    whole_node,
)
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import RunConfig, RunContext
from dcbench_bacon.store import Store

LOOK_SECONDS = 0.5  # between two looks at what has happened
LAST_STEP_SECONDS = 2.0  # that cells have to end a step before they are cancelled
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
MOST_SHOWN = 4  # cells whose progress is shown at a time


def run(
    jobs: Sequence[CellJob], store: Store, context: RunContext, cluster: Cluster
) -> Iterator[CellResult]:
    """Run jobs as tasks of Ray, and yield each result as soon as it is known.

    Raises:
        InterruptedRunError: the user or a time budget stopped the run.
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = load()
    if context.fresh:
        ask_anew(jobs, store, context)
    with at_work(), connected(ray, cluster.address, context.tell):
        grid = _RayGrid(ray, store, context, cluster, len(jobs))
        try:
            yield from grid.results(jobs)
        finally:
            grid.end()


class _RayGrid:
    """The tasks of a grid.

    Args:
        ray: the module.
        store: the results folder, under one path on all nodes.
        context: the configuration in this process.
        cluster: what each cell gets.
        count: the number of cells.
    """

    def __init__(
        self, ray: Any, store: Store, context: RunContext, cluster: Cluster, count: int
    ) -> None:
        """Start the board; no cell runs yet."""
        self.ray = ray
        self.store = store
        self.context = context
        self.cluster = cluster
        self.count = count
        self.share = share(cluster, ray.cluster_resources(), context.device, count)
        self.board = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
        self.pending: dict[Any, CellJob] = {}
        self.alone: set[str] = set()  # cells that were out of memory and run alone

    def results(self, jobs: Sequence[CellJob]) -> Iterator[CellResult]:
        """Start all tasks and yield their results.

        Raises:
            InterruptedRunError: the user or a time budget stopped the run.
        """
        reporter, done = self.context.policy.reporter, 0
        for job in jobs:
            self._start(job, self.share)
        reporter.start("cells", 0, self.count)
        while self.pending:
            ended, _ = self.ray.wait(list(self.pending), timeout=LOOK_SECONDS)
            self._show(done)
            if self.context.policy.stopped():
                raise InterruptedRunError(f"stopped after {done} of {self.count} cells")
            for task in ended:
                result = self._result(task)
                if result is not None:
                    done += 1
                    reporter.stop()
                    yield result
                    reporter.start("cells", done, self.count)

    def end(self) -> None:
        """Let the cells in flight end their step, and cancel what is left."""
        if self.context.policy.track:
            self._show(self.count)  # what the last cell has sent
        self.context.policy.reporter.stop()
        if not self.pending:
            return
        self.board.stop.remote()
        waiting = list(self.pending)
        for task in waiting:
            self.ray.cancel(task)  # those that have not begun
        self.ray.wait(waiting, num_returns=len(waiting), timeout=LAST_STEP_SECONDS)
        for task in waiting:
            self.ray.cancel(task, force=True)

    def _start(self, job: CellJob, given: Share) -> None:
        """Start the task of a cell."""
        kind = "cuda" if given.gpus else "cpu"
        config = replace(self.context.config, device=torch.device(kind), fresh=False)
        task = (
            self.ray.remote(_task)
            .options(
                num_cpus=given.cores,
                num_gpus=given.gpus,
                max_retries=self.cluster.retries,
                name=str(job.cell),
            )
            .remote(
                self.board,
                given.cores,
                self.context.policy.track is not None,
                *portable(job, self.store.root, config),
            )
        )
        self.pending[task] = job

    def _result(self, task: Any) -> CellResult | None:
        """Return the result of a task; None if its cell runs again, alone."""
        job = self.pending.pop(task)
        try:
            result: CellResult = self.ray.get(task)._replace(job=job)
        except self.ray.exceptions.RayError as error:
            result = self._lost(job, error)
        name = f"{job.cell} {job.source} {job.digest}"
        message = result.record.error or ""
        if not message.startswith(OUT_OF_MEMORY) or name in self.alone:
            return result
        self.alone.add(name)
        self.context.tell(f"{job.cell}: out of memory, so it runs again alone")
        self._start(job, whole_node(self.ray.nodes(), self.share))
        return None

    def _lost(self, job: CellJob, error: Exception) -> CellResult:
        """Record that the worker of a cell has died more often than it is retried.

        Raises:
            InterruptedRunError: the cell was stopped.
            OutputError: results can no longer be written.
        """
        cause = getattr(error, "cause", None)
        if isinstance(cause, (InterruptedRunError, OutputError)):
            raise cause
        # The data set may be on no disk of this machine, so its images are not known.
        runner = CellRunner(job, None, self.store, self.context)
        record = runner.record(**fields_of(error))
        self.store.write(record)
        return CellResult(job, "failed", record)

    def _show(self, done: int) -> None:
        """Show the lines and the progress that cells have sent; track their values."""
        try:
            lines, cells, tracked = self.ray.get(self.board.take.remote())
        except self.ray.exceptions.RayError:  # its node is gone; it begins anew
            return
        for line in lines:
            self.context.tell(line)
        if self.context.policy.track:
            for values in tracked:
                self.context.policy.track(*values)
        shown = "; ".join(list(cells.values())[:MOST_SHOWN])
        more = len(cells) - MOST_SHOWN
        note = f"{shown}; and {more} more" if more > 0 else shown
        self.context.policy.reporter.update(done, note)


def _task(
    board: Any, cores: int, tracked: bool, job: CellJob, root: Path, config: RunConfig
) -> Any:
    """Run a cell in a worker of Ray."""
    import ray

    torch.set_num_threads(cores)
    reporter = BoardReporter(
        str(job.cell), board.tell.remote, lambda *shown: board.show.remote(*shown)
    )

    def stopping() -> bool:
        try:
            return bool(ray.get(board.is_stopping.remote()))
        except ray.exceptions.RayError:  # its node is gone; it begins anew
            return False

    def track(run: str, values: dict[str, float], step: int) -> None:
        board.track.remote(run, values, step)

    stop = RareQuestion(stopping)
    return run_cell(job, root, config, reporter, stop, track if tracked else None)
