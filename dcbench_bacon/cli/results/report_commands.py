"""The commands that read records alone: ``dcbench table`` and ``dcbench report``."""

from pathlib import Path
from typing import Any, get_args

import click

from dcbench_bacon.cli.arguments.completions import among
from dcbench_bacon.cli.arguments.options import (
    format_option,
    output_option,
)
from dcbench_bacon.cli.arguments.record_options import (
    chosen_options,
    presets_option,
)
from dcbench_bacon.errors import UsageError
from dcbench_bacon.field_types import Preset
from dcbench_bacon.recipes.grids import grid_titles


@click.command(
    epilog="""\b
Examples:
  dcbench table --published                      the literature alone
  dcbench table --layout paper --gain-over dm    methods as rows, data sets as columns
  dcbench table --layout networks                networks as columns
  dcbench table --grid bacon-ablation            arms of an ablation as rows
  dcbench table --published --source edc-table1 --layout methods
  dcbench table --published --source edc-table2 --layout networks --gain-over rded
  dcbench table --layout paper --format latex > table.tex
  dcbench table --preset quick --format csv
  dcbench table --what scores --against dm       intervals of the difference from DM
  dcbench table --what augmentations             mean, best and each, as DC-BENCH
  dcbench table --what summary                   mean ranks; wins, ties and losses
  dcbench table --what cost                      bytes, updates, images, seconds
  dcbench table --what timing --layout paper     a step beside published costs
"""
)
@format_option
@click.option(
    "--what",
    type=click.Choice(
        [
            *("accuracy", "summary", "spread", "augmentations", "transfer"),
            *("scores", "regimes", "cost"),
            *("timing", "unfinished", "continual", "nas", "slim"),
        ]
    ),
    default="accuracy",
    show_default=True,
    help="The content of the table: accuracies; a summary of methods over data sets "
    "(mean rank; wins, ties and losses by paired intervals); the spread between sets "
    "and between networks; the mean and best of several augmentations; transfer, every "
    "set on every network; scores relative to random images and the whole set; "
    "regimes, every set under the labels of --regime; the cost of sets (bytes, "
    "updates, images, seconds); the timing of steps by phase; unfinished cells; or the "
    "records of dcbench continual, dcbench nas and dcbench slim.",
)
@click.option(
    "--layout",
    type=click.Choice(["paper", "long", "networks", "methods"]),
    help="The arrangement of accuracies: paper has a block per number of images per "
    "class, with methods as rows and data sets as columns; networks has networks as "
    "columns; methods has methods with their networks as columns; long, the default, "
    "has a row per recipe. With --published, the default is paper.",
)
@click.option(
    "--published",
    "alone",
    is_flag=True,
    help="Print the published numbers alone; this needs no records.",
)
@presets_option
@click.option(
    "--source",
    help="Compare with this source of published numbers instead of each method's own: "
    "`bacon` is the table of BACON's page; a wrong name prints a list of all sources.",
)
@click.option(
    "--against",
    metavar="METHOD",
    help="The method that --what scores (random by default) and --what summary (each "
    "other method by default) compare with.",
)
@click.option(
    "--gain-over",
    metavar="METHOD",
    help="Add a row to each block: how far the best other method is above this one.",
)
@click.option(
    "--grid",
    "ready",
    metavar="NAME",
    shell_complete=among(grid_titles),
    help="The arms of a ready grid as rows, with their differences to the first arm; "
    "dcbench list grids lists them.",
)
@chosen_options
@output_option
def table(format: str | None, alone: bool, **given: Any) -> None:
    """Print measured accuracies beside published ones, from the records alone."""
    from dcbench_bacon.cli.printing import show
    from dcbench_bacon.cli.results import reports

    _check(alone, given)
    contents = reports.literature(**given) if alone else reports.measured(**given)
    if format == "csv" or not contents.frame.empty:
        show(contents, format)


def _check(alone: bool, given: dict[str, Any]) -> None:
    """Make sure that the options go together.

    Raises:
        UsageError: they do not.
    """
    what = given["what"]
    if alone:
        for name, unset in (
            *(("what", "accuracy"), ("against", None), ("presets", ())),
            ("ready", None),
        ):
            if given[name] != unset:
                spelt = {"presets": "preset", "ready": "grid"}
                option = f"--{spelt.get(name, name)}"
                raise UsageError(
                    f"{option.replace('_', '-')} is about records: leave it out, or "
                    "leave out --published"
                )
    for option, value, uses in (
        ("--source", given["source"], ("accuracy", "augmentations")),
        ("--against", given["against"], ("scores", "summary")),
        ("--layout paper", given["layout"] == "paper", ("accuracy", "timing")),
        ("--layout", given["layout"] in ("networks", "methods"), ("accuracy",)),
        ("--gain-over", given["gain_over"], ("accuracy",)),
        ("--grid", given["ready"], ("accuracy",)),
    ):
        if value and what not in uses:
            use = " or ".join(uses)
            raise UsageError(f"{option} goes with --what {use}, not with {what}")
    for name in ("source", "layout", "gain_over"):
        if given["ready"] and given[name]:
            option = f"--{name}".replace("_", "-")
            raise UsageError(f"--grid has a layout of its own: leave out {option}")


@click.command(
    epilog="""\b
Examples:
  dcbench report                                 results/report.html, all presets
  dcbench report --preset paper --to page.html
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
    Sets that are in the results folder are shown as images.
    """
    from dcbench_bacon.cli.results.report import write_report

    click.echo(write_report(output, presets, to))
