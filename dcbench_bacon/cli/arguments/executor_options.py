"""The options of where cells run, and of what each cell gets there."""

from typing import Any

import click

from dcbench_bacon.cli.arguments.decorators import options

executor_options = options(
    click.option(
        "--executor",
        default="process",
        show_default=True,
        metavar="process|ray|ray:auto|ray://HOST:PORT",
        help="Where cells (sets, trainings) run: one after another in this process, or "
        "as tasks of Ray on this machine, on the running cluster or on that of a Ray "
        "client server. All nodes need the results folder under one path.",
    ),
    click.option(
        "--cores-per-cell",
        "cores",
        type=click.IntRange(min=1),
        help="With Ray: processor cores per cell; by default those of the cluster "
        "divided by the cells that run at once.",
    ),
    click.option(
        "--gpus-per-cell",
        "gpus",
        type=click.FloatRange(min=0, min_open=True),
        default=1.0,
        show_default=True,
        help="With Ray: GPUs per cell, such as 0.25 for four cells on one.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="With Ray: how often a cell runs again whose worker or node has died. It "
        "continues from its last checkpoint.",
    ),
)


def per_cell(given: dict[str, Any]) -> dict[str, Any]:
    """Take these options out of all options of a command."""
    return {name: given.pop(name) for name in ("executor", "cores", "gpus", "retries")}
