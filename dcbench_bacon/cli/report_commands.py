"""The commands that read records alone: ``dcbench table`` and ``dcbench plot``."""

from pathlib import Path
from typing import Any

import click

from dcbench_bacon.cli.options import format_option, output_option, presets_option
from dcbench_bacon.errors import UsageError


@click.command(
    epilog="""\b
Examples:
  dcbench table                                  paper records, as Markdown
  dcbench table --preset quick --format csv
  dcbench table --what timing
  dcbench table --what scores --against dm       intervals of the difference from DM
"""
)
@format_option
@click.option(
    "--what",
    type=click.Choice(
        [
            *("accuracy", "spread", "transfer", "scores", "timing", "unfinished"),
            *("continual", "nas"),
        ]
    ),
    default="accuracy",
    show_default=True,
    help="The content of the table: accuracies, their spread between sets and between "
    "networks, every set on every network, scores relative to random images and the "
    "whole set, cost, failures, or the records of dcbench continual and dcbench nas.",
)
@presets_option
@click.option(
    "--source",
    help="Compare with this source of published numbers instead of each method's own: "
    "`bacon` is the table of BACON's page; a wrong name prints a list of all sources.",
)
@click.option(
    "--against",
    default="random",
    show_default=True,
    help="The method that --what scores compares the others with.",
)
@output_option
def table(what: str, source: str | None, against: str, **given: Any) -> None:
    """Print measured accuracies beside published ones, from the records alone."""
    from dcbench_bacon.cli.lists import print_table

    for option, value, use in (
        ("--source", source, "accuracy"),
        ("--against", against if against != "random" else None, "scores"),
    ):
        if value and what != use:
            raise UsageError(f"{option} goes with --what {use}, not with {what}")
    click.echo(print_table(what=what, source=source, against=against, **given))


@click.group(epilog="Example: dcbench plot transfer --preset quick")
def plot() -> None:
    """Draw figures from the records alone."""


@plot.command(
    epilog="""\b
Examples:
  dcbench plot transfer --preset quick              PNG files in results/figures
  dcbench plot transfer --format pdf --output elsewhere
"""
)
@click.option(
    "--format",
    "format",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="Format of the files.",
)
@presets_option
@output_option
def transfer(format: str, presets: tuple[str, ...], output: Path) -> None:
    """Draw the accuracy of every set on every network as heat maps.

    There is one file per data set, number of images per class, preset and selection.
    """
    from dcbench_bacon.cli.lists import plot_transfer

    for path in plot_transfer(output, format, presets or ("paper",)):
        click.echo(path)
