"""What the commands do that need torch: running and timing grids, recipes."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dcbench_bacon.cli.setup import Setup
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import pools
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.reporting import longform, rendering, tables
from dcbench_bacon.reporting.rendering import accuracy, moments
from dcbench_bacon.running import step_timing
from dcbench_bacon.running.grid import CellResult, run
from dcbench_bacon.running.planning_of_grids import Grid, plan
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.schema import Evaluation

DEMO_METHODS = ("random", "dm", "idm", "bacon")
DEMO_DATASETS = ("digits",)
AXES = ("methods", "datasets", "ipc")
REFERENCES = ("random", "whole")  # what scores hold the others against


def run_grid(*, references: bool, **given: Any) -> int:
    """Runs the grid asked for, printing each result and the table.

    Args:
        references: run these as well.
        given: the axes of the grid, and the fields of ``Setup`` and of a request.

    Returns:
        The exit status: 0 when all is done, 1 when some cells failed.
    """
    setup = Setup.taken(given)
    methods, datasets, ipc = (given.pop(axis) for axis in AXES)
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
    jobs = plan(grid, setup.data_root)
    results, console = [], Console(stderr=True)
    with setup.ready(console) as (store, options):
        profile, count = grid.request.profile, len(jobs)
        cells = f"{count} cell{'s' * (count > 1)}"
        where = environment(options.device).device
        options.tell(f"{cells}, profile {profile}, on {where}")
        for result in run(jobs, store, options):
            results.append(result)
            options.tell(f"[{len(results)}/{count}] {_line(result)}")
    _conclude(results, setup.output, profile)
    failed = sum(result.outcome in ("failed", "diverged") for result in results)
    if failed:
        options.tell(f"{failed} of {count} cells failed; see the lines above")
    return 1 if failed else 0


def profile_grid(*, steps: int, form: str, **given: Any) -> str:
    """Times steps, stores the records and returns the table.

    Args:
        steps: how many of a cell are timed.
        form: of the table.
        given: the axes of the grid, and the fields of ``Setup`` and of a request.
    """
    setup = Setup.taken(given)
    methods, datasets, ipc = (given.pop(axis) for axis in AXES)
    if methods is None or datasets is None:
        raise UsageError("name what to time with --methods and --datasets")
    grid = Grid(
        methods=methods,
        datasets=datasets,
        ipc=ipc or (1, 10, 50),
        seeds=(0,),
        request=request_of("paper", **given),
    )
    records = []
    with setup.ready(Console(stderr=True)) as (store, options):
        for record in step_timing.profile(grid, options, steps):
            store.write(record, "timing")
            records.append(record)
    return rendering.render(tables.timing(records), form)


def _conclude(results: list[CellResult], output: Path, profile: str) -> None:
    """Prints the table of this grid and says how to see it again."""
    records = [result.record for result in results if result.record.status == "done"]
    if not records:
        return
    table = tables.summary(longform.frame(records), profiles=(profile,))
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a file or a pipe has no width of its own
    console.print(rendering.to_rich(table, console.width))
    words = ["dcbench", "table", "--profile", profile, "--output", str(output)]
    again = shlex.join(words)
    Console(stderr=True).print(
        f"Records: {output / 'records'}   This table again: {again}",
        highlight=False,
        soft_wrap=True,
    )


def _line(result: CellResult) -> str:
    """What became of a cell, in a line."""
    record = result.record
    if record.status != "done":
        return f"{result.job.cell}: {result.outcome}: {record.error}"
    parts = [
        f"{architecture} {spread(found)}"
        for architecture, found in by_architecture(record.evaluations).items()
    ]
    seconds = [
        sum(timing.seconds for timing in stages.values())
        for stages in (record.distillation, record.evaluation)
    ]
    times = f"distilled {seconds[0]:.1f} s, evaluated {seconds[1]:.1f} s"
    note = "already done" if result.outcome == "skipped" else times
    return f"{result.job.cell}: {', '.join(parts)}  ({note})"


def by_architecture(found: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """The evaluations of each network."""
    names = dict.fromkeys(entry.architecture for entry in found)
    return {name: [e for e in found if e.architecture == name] for name in names}


def spread(found: Sequence[Evaluation]) -> str:
    """Mean and standard deviation between networks, in percent, as tables have them."""
    return in_percent([entry.accuracy for entry in found])


def in_percent(fractions: Sequence[float]) -> str:
    """The same of accuracies alone."""
    return accuracy(*moments(fractions), len(fractions)).replace(" (", " % (")
