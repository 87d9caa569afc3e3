"""The evaluation of saved sets by ``dcbench evaluate``."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from dcbench_bacon.cli.arguments.executor_options import per_cell
from dcbench_bacon.cli.cells.judging import SetJudge, judge_elsewhere
from dcbench_bacon.cli.cells.opening import ReadSet, SetReader, read_anywhere
from dcbench_bacon.cli.cells.run import by_architecture, in_percent, spread
from dcbench_bacon.cli.setup import Setup
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.networks import pools
from dcbench_bacon.recipes import overlay
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.recipes.toml_tables import literal
from dcbench_bacon.running import saved_sets
from dcbench_bacon.running.failures import FileFailures
from dcbench_bacon.running.grids import grid, ray_cluster
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.grids.ray_tasks import RayTasks, cause_of
from dcbench_bacon.running.grids.ray_work import Work
from dcbench_bacon.runtime.compute.memory import keep_freed_memory
from dcbench_bacon.schema import Record


def evaluate_files(
    *, files: Sequence[Path], stated: ReadingOptions, **given: Any
) -> int:
    """Judge saved sets, and print one line per network.

    Tables show the records beside those of ``dcbench run``; evaluations that are
    already recorded are printed and not repeated. A set that cannot be judged does not
    stop the others.

    Args:
        files: the files of the sets.
        stated: what the user states about them.
        given: the options of the executor, and the fields of ``Setup`` and of a
            request.

    Returns:
        The exit status: 0 when all sets are judged; see ``FileFailures.status``.
    """
    keep_freed_memory()
    setup = Setup.pop_from(given)
    cluster = ray_cluster.asked(**per_cell(given))
    request = request_of("paper", **given)
    pools.check_architectures(request.architectures)
    overlay.check_overrides(request.overrides, [])
    saved_sets.check_as(request, stated.as_method)
    learned = request.overrides.get("protocol.use_learned_rate", "false")
    stated = replace(stated, needs_rate=literal(learned) is True)
    with setup.ready(Console(stderr=True)) as (store, context):
        reader = SetReader(stated, Datasets(context.config), several=True)
        failures = FileFailures(store, context.tell)
        judge = SetJudge(request, stated, store, context, reader)
        asked = reader.read_all(files, failures)
        count = len(asked) + failures.count
        opened = judge.ask_anew(asked) if context.fresh else [None] * len(asked)
        pooled: dict[Path, list[Record]] = {}
        judged = (
            _judged_on(cluster, asked, judge)
            if cluster
            else (
                (read, partial(judge.judge, read, known))
                for read, known in zip(asked, opened, strict=True)
            )
        )
        for read, result_of in judged:
            with failures.noted(read.path):
                record = result_of()
                if record.status != "done":
                    failures.add(read.path, f"{record.status}: {record.error}")
                    continue
                pooled.setdefault(read.path, []).append(record)
                chosen = stated.index == "all" and read.stated.index is not None
                title = f"{read.path} [{read.stated.index}]" if chosen else read.path
                _print(f"{title}", [record])
                failures.forget(read.path)
        for path, records in pooled.items():
            if len(records) > 1:
                _print(f"{path} [{len(records)} sets]", records)
    return failures.status(count)


def _print(title: str, records: Sequence[Record]) -> None:
    """Print one line per network, with the accuracies that the authors stored."""
    evaluations = [
        evaluation for record in records for evaluation in record.evaluations
    ]
    for architecture, results in by_architecture(evaluations).items():
        stored = [
            value
            for record in records
            for value in record.stored_accuracies.get(architecture, ())
        ]
        beside = f"  stored in the file: {in_percent(stored)}" if stored else ""
        sys.stderr.flush()
        print(f"{title}  {architecture}  {spread(results)}{beside}", flush=True)


def _judged_on(
    cluster: ray_cluster.Cluster, asked: Sequence[ReadSet], judge: SetJudge
) -> Iterator[tuple[ReadSet, Callable[[], Record]]]:
    """Judge each set in a task of Ray.

    Yields:
        Each set whose task has ended, and a function that returns its record or raises
        its error.
    """
    ray, context, root = ray_cluster.load(), judge.context, judge.store.root.absolute()
    stated = read_anywhere(judge.stated)
    with (
        grid.at_work(),
        ray_cluster.connected(ray, cluster.address, context.tell),
    ):
        tasks = RayTasks[ReadSet](ray, context, cluster, len(asked), "sets", root)
        try:
            for read in asked:
                path = read.path.expanduser().absolute()
                this = read_anywhere(read.stated)
                given = (path, this, judge.request, stated, root, tasks.config)
                tasks.start(read, Work(str(read.path), judge_elsewhere, given))
            for read, result in tasks.ended(lambda record: record.error):
                yield read, partial(_result, result)
        finally:
            tasks.end()


def _result(result: Record | Exception) -> Record:
    """Return a record, or raise an error in its place."""
    if isinstance(result, Exception):
        raise cause_of(result)
    return result
