"""Cells as tasks of Ray.

All nodes need this version of dcbench and the results folder under one path. A cell
that is retried continues from its checkpoint in that folder. The locks of cells are
those of every run, so a grid on Ray and plain processes can share a folder.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dcbench_bacon.data.dataset_sources import anywhere
from dcbench_bacon.running.cell import CellRunner
from dcbench_bacon.running.failures import fields_of, message_of
from dcbench_bacon.running.grids import grid, parts
from dcbench_bacon.running.grids.aside import Aside
from dcbench_bacon.running.grids.grid import CellResult, ask_anew, at_work
from dcbench_bacon.running.grids.parts import Part
from dcbench_bacon.running.grids.ray_cluster import Cluster, connected, load
from dcbench_bacon.running.grids.ray_tasks import RayTasks, cause_of
from dcbench_bacon.running.grids.ray_work import Work
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import RunConfig, RunContext
from dcbench_bacon.store import Store


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
        yield from results(ray, jobs, store, context, cluster)


def results(
    ray: Any,
    jobs: Sequence[CellJob],
    store: Store,
    context: RunContext,
    cluster: Cluster,
) -> Iterator[CellResult]:
    """Run jobs on a connected cluster.

    The parts that cells need are tasks of their own, which run before these cells.

    Args:
        ray: the module.
        jobs: the cells and their recipes.
        store: the results folder, under one path on all nodes.
        context: the configuration in this process.
        cluster: what each cell gets.
    """
    root = store.root.absolute()
    tasks = RayTasks[CellJob](ray, context, cluster, len(jobs), "cells", root)
    config = tasks.config

    def made(part: Part, job: CellJob) -> Any:
        needs = [made(needed, job) for needed in part.needs]
        work = Work(part.title, make_part, (part, job, root, config))
        return tasks.part(part.key, work, needs)

    try:
        for job in jobs:
            there = job._replace(source=anywhere(job.source))
            needs = parts.parts_of(there, store, fresh=context.fresh)
            work = Work(str(job.cell), run_cell, (there, root, config))
            tasks.start(job, work, [made(part, there) for part in needs])
        for job, result in tasks.ended(lambda result: result.record.error):
            if isinstance(result, Exception):
                yield _lost(job, result, store, context)
            else:
                yield result._replace(job=job)
    finally:
        tasks.end()


def run_cell(job: CellJob, root: Path, config: RunConfig, aside: Aside) -> CellResult:
    """Run a cell in this process, and return its result.

    Args:
        job: the cell and its recipe.
        root: the results folder.
        config: how it runs.
        aside: where progress goes.

    Raises:
        InterruptedRunError: the run was stopped; the same job can continue later.
        OutputError: results can no longer be written.
    """
    (result,) = grid.run([job], Store(root), aside.context(config))
    return result


def make_part(
    part: Part, job: CellJob, root: Path, config: RunConfig, aside: Aside
) -> None:
    """Make a part of a cell in this process; see ``parts.make``."""
    with at_work():
        parts.make(part, job, Store(root), aside.context(config))


def _lost(
    job: CellJob, error: Exception, store: Store, context: RunContext
) -> CellResult:
    """Record a cell without a result of its own.

    Its worker has died more often than it is retried, or a part could not be made.
    """
    # The data set may be on no disk of this machine, so its images are not known.
    runner = CellRunner(job, None, store, context)
    fields = fields_of(error)
    fields["error"] = message_of(cause_of(error))
    fields["traceback"] = re.sub(r"\x1b\[[0-9;]*m", "", fields["traceback"])  # colours
    record = runner.record(**fields)
    store.write(record)
    return CellResult(job, "failed", record)
