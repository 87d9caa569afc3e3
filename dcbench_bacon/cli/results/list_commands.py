"""The commands that describe what there is, such as ``list`` and ``status``."""

from pathlib import Path
from typing import Any

import click

from dcbench_bacon.cli.arguments.options import (
    output_option,
    preset_option,
    protocol_options,
    set_option,
)
from dcbench_bacon.cli.arguments.regime_options import regime_options
from dcbench_bacon.plugins import METHODS


@click.command(
    name="list",
    epilog="""\b
Examples:
  dcbench list methods             values of --methods
  dcbench list protocols           of --protocol
  dcbench list augmentations       of --set protocol.augmentation=...
  dcbench list formats             of --from and --to
  dcbench list grids               of --grid: ready grids, such as ablations
""",
)
@click.argument(
    "what",
    type=click.Choice(
        [
            *("methods", "datasets", "architectures", "protocols", "augmentations"),
            *("formats", "grids"),
        ]
    ),
    metavar="WHAT",
)
def list_(what: str) -> None:
    """List what exists, with a line about each.

    WHAT is methods, datasets, architectures, protocols, augmentations, formats or
    grids.
    """
    from dcbench_bacon.cli.results.lists import listing

    click.echo(listing(what))


@click.command(
    epilog="""\b
Examples:
  dcbench status                               of the folder results
  dcbench status --output /shared/results --watch
"""
)
@output_option
@click.option(
    "--watch",
    is_flag=True,
    help="Print the state again every two seconds, until Ctrl-C.",
)
def status(output: Path, watch: bool) -> None:
    """Show what runs in a results folder, on all machines, and what is done.

    It reads files alone, and may run on any machine that sees the folder.
    """
    from dcbench_bacon.cli.results.status import lines, shown_again_and_again

    if watch:
        shown_again_and_again(output)
    else:
        for line in lines(output):
            click.echo(line)


@click.command(epilog="Example: dcbench show bacon cifar10 10")
@click.argument("method")
@click.argument("dataset")
@click.argument("ipc", type=click.IntRange(min=1))
@preset_option
@set_option
@protocol_options
@regime_options
def show(**given: Any) -> None:
    """Show the recipe of a cell and where each value comes from."""
    from dcbench_bacon.cli.results.recipes import show_recipe

    click.echo(show_recipe(**given))


@click.command(epilog="Example: dcbench check")
def check() -> None:
    """Validate all recipes: every key, value, data set and base."""
    from dcbench_bacon.cli.results.recipes import check_recipes

    problems = check_recipes()
    for problem in problems:
        click.echo(problem, err=True)
    count = len(problems)
    summary = f"{count} problem{'s' * (count != 1)}"
    click.echo(f"{len(METHODS.names())} recipes, {summary}")
    raise SystemExit(1 if problems else 0)
