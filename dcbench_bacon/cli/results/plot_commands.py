"""The commands that draw figures: ``dcbench plot``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dcbench_bacon.cli.arguments.decorators import Command
from dcbench_bacon.cli.arguments.options import (
    data_root_option,
    output_option,
    reading_options,
)
from dcbench_bacon.cli.arguments.record_options import (
    chosen_options,
    presets_option,
)
from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import ReadingOptions


@click.group(
    epilog="""\b
Examples:
  dcbench plot history                               accuracy against steps
  dcbench plot ablation --key tv_weight --preset quick
  dcbench plot pareto --format pdf
  dcbench plot images --methods idm,bacon --ipc 10   the sets themselves, side by side
"""
)
def plot() -> None:
    """Draw figures from records and sets; nothing is measured again."""


def _format_option(parameter: str) -> Callable[[Command], Command]:
    """Return the option of the files' format, as a parameter of this name."""
    return click.option(
        "--format",
        parameter,
        type=click.Choice(["png", "svg", "pdf"]),
        default="png",
        show_default=True,
        help="Format of the files.",
    )


def _figure(
    name: str, summary: str, detail: str, *more: Any, downstream: bool = False
) -> None:
    """Add the command of one kind of figure.

    Args:
        name: the name of the command.
        summary: what it draws, as a sentence.
        detail: a paragraph about its files.
        more: decorators of further options.
        downstream: whether it draws the records of a downstream use, all of them.
    """
    chosen, example = [chosen_options], "--methods dm,bacon --datasets cifar10 --ipc 10"
    if downstream:
        chosen, example = [], "--preset demo --format svg"

    def draw(output: Path, format: str, presets: tuple[str, ...], **given: Any) -> None:
        from dcbench_bacon.cli.results.figures import draw as drawn

        for path in drawn(name, output, format, presets or ("paper",), **given):
            click.echo(path)

    draw.__doc__ = f"{summary}\n\n{detail}"
    shared = (output_option, presets_option, _format_option("format"))
    for option in (*more, *chosen, *shared):
        draw = option(draw)
    plot.command(
        name,
        epilog=f"""\b
Examples:
  dcbench plot {name} --preset quick            PNG files in results/figures
  dcbench plot {name} {example}
  dcbench plot {name} --format pdf --output elsewhere
""",
    )(draw)


_figure(
    "transfer",
    "Draw the accuracy of every set on every network as heat maps.",
    "There is one file per data set, number of images per class, preset and selection.",
)
_figure(
    "history",
    "Draw the accuracy against the steps of the distillation.",
    "Only sets that were evaluated on the way are drawn: run them with --set "
    "protocol.evaluate_every=STEPS. There is a panel per number of images per class; "
    "bands are one standard deviation.",
)
_figure(
    "ablation",
    "Draw the accuracy against a setting that was swept.",
    "dcbench run --sweep KEY=VALUES makes such records. A line joins records that "
    "differ in this key alone; bands are one standard deviation.",
    click.option(
        "--key",
        metavar="KEY",
        help="The recipe key, or protocol.KEY; by default all overridden keys but "
        "protocol.evaluate_every, which decides no accuracy.",
    ),
)
_figure(
    "timing",
    "Draw the seconds per distillation step, divided into phases.",
    "There is one file per data set and device; records of dcbench time are included. "
    "The unit is milliseconds where no step takes a second.",
)
_figure(
    "pareto",
    "Draw the accuracy against images and against seconds.",
    "There is one file per network. Bars are one standard deviation, and the grey "
    "steps are the best accuracy up to each cost.",
)
_figure(
    "continual",
    "Draw the accuracy against the classes seen so far.",
    "The records are those of dcbench continual. Bands are one standard deviation over "
    "networks, orders of classes and sets.",
    downstream=True,
)
_figure(
    "slim",
    "Draw the accuracy of slimmed networks against the share that is pruned.",
    "The records are those of dcbench slim. There is one file per network that was "
    "pruned; grey lines are the networks before pruning and after it, not recovered.",
    downstream=True,
)


@plot.command(
    epilog="""\b
Examples:
  dcbench plot images --methods random,dm,idm,bacon --datasets cifar10 --ipc 10
  dcbench plot images --datasets mnist --decode --show-classes 0,3,8 --format pdf
  dcbench plot images mine.safetensors res_DC_MNIST_ConvNet_1ipc.pt
  dcbench plot images images_best.pt --dataset cifar100 --show-classes 20
"""
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--decode", is_flag=True, help="Cut partitioned images apart first.")
@click.option(
    "--show-classes",
    metavar="COUNT|NAMES|all",
    help="The classes to show: the first so many, those named, or all, which may be "
    "more than a page; by default as many as fit a page.",
)
@click.option(
    "--show-images",
    type=click.IntRange(1),
    help="The most images per class and set; by default as many as fit a page, at most "
    "20.",
)
@_format_option("to")  # ``format`` is that of the sets in FILES
@presets_option
@chosen_options
@output_option
@data_root_option
@reading_options
def images(
    files: tuple[Path, ...], output: Path, presets: tuple[str, ...], **given: Any
) -> None:
    """Draw the images of sets side by side, with a row per class.

    Without FILES, the sets are those of the records in the results folder, in a file
    per data set, number of images per class and preset. FILES are sets of dcbench or of
    other tools, drawn in the order given; what such a file does not state is guessed
    and said, as by dcbench evaluate. Colours are those of the data set; whitening is
    undone where the data set is at hand.
    """
    from dcbench_bacon.cli.results import pictures

    chosen = {name: given.pop(name) for name in ("methods", "datasets", "ipc")}
    stated = ReadingOptions.pop_from(given)
    look = pictures.Look(
        format=given["to"],
        decode=given["decode"],
        classes=given["show_classes"],
        images=given["show_images"],
        stated=stated,
        data_root=given["data_root"],
    )
    if files:
        _alone("FILES", "leave them out", {**chosen, "preset": presets})
        paths = pictures.of_files(files, output, look)
    else:
        _alone("the results folder", "name FILES", stated.typed)
        paths = pictures.of_folder(output, presets or ("paper",), look, **chosen)
    for path in paths:
        click.echo(path)


def _alone(source: str, remedy: str, options: dict[str, Any]) -> None:
    """Make sure that no option of the other source of sets was given.

    Raises:
        UsageError: one was.
    """
    for name, value in options.items():
        if value not in (None, ()):
            option = {"learning_rate": "learned-rate", "format": "from"}.get(name, name)
            raise UsageError(
                f"--{option} does not go with sets of {source}: leave it out, or "
                f"{remedy}"
            )
