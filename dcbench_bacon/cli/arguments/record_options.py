"""Options that choose records, of the commands that print and draw them."""

from typing import get_args

import click

from dcbench_bacon.cli.arguments.decorators import options
from dcbench_bacon.cli.arguments.old_spellings import former_preset
from dcbench_bacon.cli.arguments.option_types import IntList, Texts
from dcbench_bacon.cli.arguments.options import PAPER_DATASETS
from dcbench_bacon.field_types import Preset

presets_option = options(
    click.option(
        "--preset",
        "presets",
        multiple=True,
        type=click.Choice(get_args(Preset)),
        help="The presets whose records are shown; paper alone by default. May be "
        "repeated.",
    ),
    former_preset("presets", multiple=True),
)
chosen_options = options(
    click.option("--methods", type=Texts(), help="Show these methods alone."),
    click.option(
        "--datasets",
        type=Texts(PAPER_DATASETS),
        help="Show these data sets alone; all for the paper's six.",
    ),
    click.option(
        "--ipc", type=IntList(1), help="Show these numbers of images per class."
    ),
)
