"""Options that several commands share, and the types of their values."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click

from dcbench_bacon.cli.arguments.completions import among
from dcbench_bacon.cli.arguments.data_options import (
    PAPER_DATASETS as PAPER_DATASETS,
)
from dcbench_bacon.cli.arguments.data_options import (
    data_root_option as data_root_option,
)
from dcbench_bacon.cli.arguments.data_options import datasets_option as datasets_option
from dcbench_bacon.cli.arguments.data_options import size_option, sized
from dcbench_bacon.cli.arguments.decorators import Command, options
from dcbench_bacon.cli.arguments.old_spellings import former_preset
from dcbench_bacon.cli.arguments.option_types import (
    Classes,
    IntList,
    NameList,
    Networks,
    SetIndex,
)
from dcbench_bacon.exchange.formats import FORMATS, Labels
from dcbench_bacon.field_types import MOST_PARTS, CompileMode, Preset, Selection
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.recipes.protocols import protocol_titles

methods_option = click.option(
    "--methods", type=NameList(METHODS), help="Names separated by commas, or all."
)
ipc_option = click.option(
    "--ipc", type=IntList(1), help="Images per class, such as 1,10,50."
)
output_option = click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="The results folder.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ..."
)
compile_option = click.option(
    "--compile",
    "compiling",
    type=click.Choice(get_args(CompileMode)),
    default="auto",
    show_default=True,
    help="Whether to use torch.compile; auto uses it if the run is long enough to gain "
    "from it and a compiler is installed. On a GPU, auto and on also use CUDA graphs.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a recipe key, or protocol.KEY; may be repeated. The record contains "
    "it. dcbench show lists the keys, dcbench list augmentations the values of "
    "protocol.augmentation.",
)


def protocol_option(use: str) -> Callable[[Command], Command]:
    """Return the option of the evaluation protocol.

    Args:
        use: a sentence about what the protocol decides.
    """
    return click.option(
        "--protocol",
        metavar="NAME",
        shell_complete=among(protocol_titles),
        help=f"{use} See dcbench list protocols, and for the augmentation of each "
        "dcbench show and dcbench list augmentations. The default is dc, or common "
        "with --regime.",
    )


time_budget_option = click.option(
    "--time-budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop within seconds after this time, in the same way as on Ctrl-C. It counts "
    "from the start of the command, and includes compilation.",
)


def table_format(name: str) -> Callable[[Command], Command]:
    """Return the option of a table's format, as the parameter of the given name."""
    return click.option(
        "--format",
        name,
        type=click.Choice(["md", "csv", "latex", "html"]),
        help="Format of the table; by default one that fits a terminal, and Markdown "
        "in a file or a pipe.",
    )


format_option = table_format("format")
preset_option = options(
    click.option(
        "--preset",
        type=click.Choice(get_args(Preset)),
        help="demo and quick are reduced recipes; paper, the default, is the published "
        "one (demo is the default of dcbench run without --datasets).",
    ),
    former_preset("preset", multiple=False),
)
protocol_options = options(
    click.option(
        "--architectures",
        type=Networks(),
        help="Networks to train on each set, or pools of them: S M B W D A P N, all; "
        "see dcbench list architectures.",
    ),
    protocol_option("How to evaluate."),
    click.option(
        "--selection",
        type=click.Choice(get_args(Selection)),
        help="The pass whose accuracy counts; best_test is optimistic, and tables mark "
        "it.",
    ),
)
as_option = click.option(
    "--as",
    "as_method",
    metavar="METHOD",
    callback=lambda _, __, name: None if name is None else METHODS.resolve(name),
    help="Judge the sets as those of this method, with its augmentation, epochs and "
    "networks under protocol dc; by default that of the method which made a set, if it "
    "is known.",
)
reading_options = options(
    click.option(
        "--dataset",
        callback=sized,
        help="The data set that the set was made from; by default the one that the "
        "file names.",
    ),
    size_option,
    click.option(
        "--from",
        "format",
        type=click.Choice(
            ["auto", *(n for n, format in FORMATS.items() if format.reads)]
        ),
        default="auto",
        show_default=True,
        callback=lambda _, __, name: None if name == "auto" else name,
        help="Format of the file; auto guesses. See dcbench list formats.",
    ),
    click.option(
        "--index",
        type=SetIndex(),
        help="The index of one of several sets in a file; the first is 0. With --index "
        "all, dcbench evaluate uses all of them as sets of one method.",
    ),
    click.option(
        "--partition",
        type=click.IntRange(1, MOST_PARTS),
        help="Number of smaller images along each side of an image (IDM, BACON, IDC: "
        "2).",
    ),
    click.option(
        "--zca/--no-zca",
        default=None,
        help="Whether the images are ZCA-whitened.",
    ),
    click.option(
        "--pixels/--normalized",
        default=None,
        help="Whether the images are pixels, in [0, 1] or 0 to 255, or normalised.",
    ),
    click.option(
        "--statistics",
        metavar="DATASET",
        help="The data set whose mean and std normalised the images, if it is another "
        "one.",
    ),
    click.option(
        "--labels",
        type=click.Choice(get_args(Labels)),
        help="How to use rows of labels: as stored, as their largest class, or as "
        "logits.",
    ),
    click.option(
        "--learned-rate",
        "learning_rate",
        type=click.FloatRange(min=0, min_open=True),
        help="The learning rate that was learned with the images; networks train with "
        "it under --set protocol.use_learned_rate=true.",
    ),
    click.option(
        "--classes",
        type=Classes(),
        metavar="NAMES|FILE",
        help="The data set's class for each class of the file, in the file's order: "
        "names separated by commas, or a file with one name per line; index if the "
        "numbers in the file's names are those of the labels, order if its classes are "
        "in the data set's order.",
    ),
    click.option(
        "--name", help="The name of the set in tables; by default that of the file."
    ),
)
