"""The commands that read records alone: ``dcbench table``, ``plot`` and ``report``."""

from pathlib import Path
from typing import Any, get_args

import click

from dcbench_bacon.cli.options import format_option, output_option, presets_option
from dcbench_bacon.errors import UsageError
from dcbench_bacon.field_types import Preset


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


@click.command(
    epilog="""\b
Examples:
  dcbench report                                 results/report.html, all presets
  dcbench report --preset paper --to page.html
  dcbench convert SET.safetensors --to picture --output SET.png    its image, too
"""
)
@click.option(
    "--preset",
    "presets",
    multiple=True,
    type=click.Choice(get_args(Preset)),
    help="The presets whose records are shown; all by default, for the page has a "
    "filter. May be repeated.",
)
@output_option
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; report.html in the results folder by default.",
)
def report(presets: tuple[str, ...], output: Path, to: Path | None) -> None:
    """Write one HTML file with tables, figures and the record of every number.

    The file needs no network and makes no request. Tables can be sorted and filtered by
    data set, images per class, network and preset. Each number leads to its recipe with
    sources, its seeds, its commit, its hashes and the command that makes it again.
    Pictures of sets are shown where a PNG file lies beside the set under its name.
    """
    from dcbench_bacon.cli.report import write_report

    click.echo(write_report(output, presets, to))
