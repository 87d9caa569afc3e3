"""The commands that run cells: ``dcbench run`` and ``dcbench time``."""

import sys
from functools import partial
from time import monotonic
from typing import Any

import click

from dcbench_bacon.cli.arguments.completions import among
from dcbench_bacon.cli.arguments.executor_options import executor_options
from dcbench_bacon.cli.arguments.option_types import IntList
from dcbench_bacon.cli.arguments.options import (
    compile_option,
    data_root_option,
    datasets_option,
    device_option,
    format_option,
    ipc_option,
    methods_option,
    output_option,
    preset_option,
    protocol_options,
    set_option,
    time_budget_option,
)
from dcbench_bacon.cli.arguments.regime_options import regime_options
from dcbench_bacon.cli.cells import detached
from dcbench_bacon.recipes.grids import grid_titles
from dcbench_bacon.runtime.monitoring.notice import noticed


@click.command(
    epilog="""\b
Examples:
  dcbench run                                        the demo
  dcbench run --methods bacon,idm --datasets all     the paper's grid, IPC 1, 10, 50
  dcbench run --methods dm --datasets folder:my/images --ipc 10 --preset quick
  dcbench run --methods idm --datasets cifar10 --ipc 10 --set image_lr=0.1
  dcbench run --methods bacon --datasets cifar10 --ipc 10 --sweep tv_weight=0,0.4,0.8
  dcbench run --grid bacon-ablation --preset demo --datasets digits --ipc 10
  dcbench run --methods dm --datasets mnist --ipc 1 --references     with random, whole
  dcbench run --datasets all --executor ray --cores-per-cell 2       cells side by side
  dcbench run --methods bacon,idm --datasets all --dry-run           what it would take
  dcbench run --methods bacon,idm --datasets all --detach            in the background
"""
)
@methods_option
@datasets_option
@ipc_option
@click.option(
    "--seeds",
    type=IntList(0),
    default="0",
    help="Seeds of the sets, one set per seed, such as 0,1,2,3,4.",
)
@preset_option
@set_option
@protocol_options
@regime_options
@device_option
@compile_option
@data_root_option
@output_option
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="KEY=V1,V2,...",
    help="Run the grid once for each value of a recipe key, or of protocol.KEY; with "
    "several --sweep, for each combination. dcbench plot ablation draws the result.",
)
@click.option(
    "--grid",
    "ready",
    metavar="NAME",
    shell_complete=among(grid_titles),
    help="Run a ready grid, such as an ablation, and print the table of its arms; "
    "--methods, --datasets, --ipc and --preset replace what it states. dcbench list "
    "grids lists them.",
)
@click.option(
    "--gain-over",
    metavar="METHOD",
    help="The method that the gain row of the table at the end compares with; random "
    "by default, where the grid has it.",
)
@click.option(
    "--references",
    is_flag=True,
    help="Also run the methods random and whole, which the scores of other methods "
    "need.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the cells (done, resumable, to do), whether their data are on disk, "
    "and the time, memory and disk space they will take; run nothing.",
)
@click.option(
    "--track",
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Also send losses, phase times, accuracies, images and recipes to a tracker, "
    "with files in OUTPUT/TRACKER (pip install 'dcbench-bacon[track]').",
)
@click.option("--fresh", is_flag=True, help="Run finished cells again.")
@click.option("--no-download", is_flag=True, help="Use only data that is on disk.")
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between checkpoints; a killed run loses at most this much.",
)
@time_budget_option
@executor_options
@click.option(
    "--detach",
    is_flag=True,
    allow_from_autoenv=False,  # the command in the background would inherit it
    help="Run in the background, also after the terminal is closed; what is printed "
    "goes to OUTPUT/logs.",
)
def run(detach: bool, **given: Any) -> None:
    """Distil, evaluate, record and print the table.

    Finished cells are skipped, interrupted ones continue where they stopped, and failed
    ones are tried again. Without --datasets, the command runs the demo: digits at IPC 1
    and 10, with reduced recipes.
    """
    if detach:
        click.echo(detached.start(sys.argv[1:], given["output"]))
        return
    began = monotonic()
    with noticed(partial(click.echo, err=True), "loading PyTorch"):
        from dcbench_bacon.cli.cells.run import run_grid

    raise SystemExit(run_grid(began=began, **given))


def _here_alone(_context: click.Context, _option: click.Parameter, value: Any) -> None:
    """Refuse an executor: a step is timed on the device of this process.

    Raises:
        BadParameter: one was named.
    """
    if value not in (None, "process"):
        raise click.BadParameter(
            "steps are timed alone on a device of this machine; leave it out, and run "
            "dcbench time on the machine that is to be measured"
        )


@click.command(
    epilog="""\b
Examples:
  dcbench time --methods bacon,idm,dm --datasets cifar10 --ipc 1,10,50
  dcbench time --methods bacon --datasets cifar10 --ipc 10 --steps 50 --format csv
"""
)
@methods_option
@datasets_option
@ipc_option
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of timed steps per cell, not counting the warm-up.",
)
@preset_option
@set_option
@device_option
@click.option(
    "--compile",
    "compiling",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="torch.compile and CUDA graphs, as a run of the recipe's length uses them.",
)
@data_root_option
@output_option
@format_option
@click.option(
    "--executor",
    hidden=True,
    expose_value=False,
    callback=_here_alone,
    help="Refused: steps are timed alone on a device of this machine.",
)
def time(format: str | None, **given: Any) -> None:
    """Time distillation steps by phase, and compare them with a large matrix product.

    Only one dcbench time works on a device at a time. Random pixels replace a data set
    that is not on disk. The records go to OUTPUT/timing; `dcbench table --what timing
    --output OUTPUT` prints them again.
    """
    from dcbench_bacon.cli.cells.run import time_grid
    from dcbench_bacon.cli.printing import show

    show(time_grid(**given), format)
