"""The running and timing of grids by ``dcbench run`` and ``dcbench time``."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

from dcbench_bacon.cli.arguments.executor_options import per_cell
from dcbench_bacon.cli.cells import forecast, tracking
from dcbench_bacon.cli.cells.conclusion import conclude
from dcbench_bacon.cli.cells.sweeps import name_key, names_of, plan_each, swept
from dcbench_bacon.cli.setup import Setup
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import pools
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.recipes.grids import ReadyGrid, ready_grid
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.reporting.numbers import contents
from dcbench_bacon.reporting.numbers.accuracies import accuracy, moments
from dcbench_bacon.reporting.table import Table
from dcbench_bacon.running.grids import ray_cluster, ray_executor
from dcbench_bacon.running.grids.grid import CellResult, run
from dcbench_bacon.running.plans import step_timing
from dcbench_bacon.running.plans.planning_of_grids import Grid
from dcbench_bacon.runtime.compute.alone import alone_on
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.schema import Evaluation

DEMO_METHODS = ("random", "dm", "idm", "bacon")
DEMO_DATASETS = ("digits",)
AXES = ("methods", "datasets", "ipc")
REFERENCES = ("random", "whole")  # methods that scores compare the others with


def run_grid(
    *,
    references: bool,
    dry_run: bool,
    sweeps: tuple[str, ...],
    ready: str | None,
    gain_over: str | None,
    track: str | None,
    **given: Any,
) -> int:
    """Run the requested grid; print each result and the table.

    Args:
        references: whether the methods ``REFERENCES`` run as well.
        dry_run: print what would run and what it would take instead.
        sweeps: the texts of ``--sweep``.
        ready: the name of a ready grid; None for none.
        gain_over: the method of the gain row of the table; None for random images,
            where the grid has them.
        track: the name of a tracker; None for none.
        given: the axes of the grid, the options of the executor, and the fields of
            ``Setup`` and of a request.

    Returns:
        The exit status: 0 when all is done, 1 when some cells failed.
    """
    setup = Setup.pop_from(given)
    cluster = ray_cluster.asked(**per_cell(given))
    methods, datasets, ipc = (given.pop(axis) for axis in AXES)
    arms = ready_grid(ready) if ready else None
    if arms:
        methods, datasets = methods or arms.methods, datasets or arms.datasets
        ipc = ipc or arms.ipc
    over = METHODS.resolve(gain_over) if gain_over else None
    demo = datasets is None
    chosen = (*(methods or DEMO_METHODS), *(REFERENCES if references else ()))
    grid = Grid(
        methods=tuple(dict.fromkeys(chosen)),
        datasets=datasets or DEMO_DATASETS,
        ipc=ipc or ((1, 10) if demo else (1, 10, 50)),
        seeds=given.pop("seeds"),
        request=request_of("demo" if demo else "paper", **given),
    )
    pools.check_architectures(grid.request.architectures)
    jobs = plan_each(grid, _overrides(grid, sweeps, arms), setup.data_root)
    names, results, console = names_of(jobs), [], Console(stderr=True)
    preset, count = grid.request.preset, len(jobs)
    with (
        tracking.opened(None if dry_run else track, setup.output) as tracker,
        setup.ready(console, writing=not dry_run) as (store, context),
    ):
        for line in arms.left_out(grid.request.overrides) if arms else ():
            context.tell(line)
        if dry_run:
            click.echo(forecast.dry_run(jobs, store, context, preset))
            return 0
        cells = f"{count} cell{'s' * (count > 1)}"
        where = environment(context.device).device
        context.tell(f"{cells}, preset {preset}, on {where}")
        overall = forecast.forecast(jobs, store, context, preset)
        results_of = (
            ray_executor.run(jobs, store, tracking.tracked(context, tracker), cluster)
            if cluster
            else run(jobs, store, tracking.tracked(overall.context, tracker))
        )
        for result in results_of:
            results.append(result)
            if tracker:
                tracking.track(tracker, result, store)
            left = overall.finished(result)
            if result.outcome == "missing":  # said once per data set
                continue
            name = names[name_key(result.job)]
            context.tell(f"[{len(results)}/{count}] {name}: {_line(result)}{left}")
    conclude(results, setup.output, preset, arms=ready, gain_over=over)
    failed = sum(result.outcome in ("failed", "diverged") for result in results)
    if failed:
        context.tell(f"{failed} of {count} cells failed; see the lines above")
    lacking = [result.job.source for result in results if result.outcome == "missing"]
    for source, cells_of in Counter(lacking).items():
        context.tell(f"{cells_of} of {count} cells did not run for want of {source}")
    return 1 if failed or lacking else 0


def _overrides(
    grid: Grid, sweeps: tuple[str, ...], arms: ReadyGrid | None
) -> list[dict[str, str]]:
    """Return all overrides of a grid, once per arm or per combination of swept values.

    Raises:
        UsageError: there are both, or they differ in a key of ``--set``.
    """
    if arms is None:
        return swept(grid, sweeps)
    if sweeps:
        raise UsageError("--grid has arms of its own: leave out --sweep, or --grid")
    return [overrides for _, overrides in arms.overrides(grid.request.overrides)]


def time_grid(*, steps: int, **given: Any) -> Table:
    """Time steps, store the records and return the table.

    Args:
        steps: number of timed steps per cell.
        given: the axes of the grid, and the fields of ``Setup`` and of a request.
    """
    setup = Setup.pop_from(given)
    methods, datasets, ipc = (given.pop(axis) for axis in AXES)
    if methods is None or datasets is None:
        raise UsageError(
            "name what to time with --methods and --datasets, such as --methods dm "
            "--datasets cifar10"
        )
    grid = Grid(
        methods=methods,
        datasets=datasets,
        ipc=ipc or (1, 10, 50),
        seeds=(0,),
        request=request_of("paper", **given),
    )
    records = []
    with (
        setup.ready(Console(stderr=True)) as (store, context),
        alone_on(context.device),
    ):
        for record in step_timing.time_steps(grid, context, steps):
            store.write(record, "timing")
            records.append(record)
    presets = (grid.request.preset,)
    return contents.table_of(records, "timing", presets=presets)


def _line(result: CellResult) -> str:
    """Return the outcome of a cell, as the end of a line."""
    record = result.record
    if record.status != "done":
        return f"{result.outcome}: {record.error}"
    parts = [
        f"{architecture} {spread(evaluations)}"
        for architecture, evaluations in by_architecture(record.evaluations).items()
    ]
    seconds = [
        sum(timing.seconds for timing in stages.values())
        for stages in (record.distillation, record.evaluation)
    ]
    times = f"distilled {seconds[0]:.1f} s, evaluated {seconds[1]:.1f} s"
    note = "already done" if result.outcome == "skipped" else times
    return f"{', '.join(parts)}  ({note})"


def by_architecture(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Return the evaluations of each network."""
    names = dict.fromkeys(entry.architecture for entry in evaluations)
    return {name: [e for e in evaluations if e.architecture == name] for name in names}


def spread(evaluations: Sequence[Evaluation]) -> str:
    """Return mean and deviation between networks in percent, as tables print them."""
    return in_percent([entry.accuracy for entry in evaluations])


def in_percent(fractions: Sequence[float]) -> str:
    """Return mean and deviation of fractions in percent, as tables print them."""
    return accuracy(*moments(fractions), len(fractions)).replace(" (", " % (")
