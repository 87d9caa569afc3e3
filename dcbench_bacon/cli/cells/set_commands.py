"""The commands about saved sets: ``dcbench evaluate``, ``convert`` and ``quality``."""

from pathlib import Path
from typing import Any

import click

from dcbench_bacon.cli.arguments.executor_options import executor_options
from dcbench_bacon.cli.arguments.old_spellings import former_epochs
from dcbench_bacon.cli.arguments.options import (
    as_option,
    compile_option,
    data_root_option,
    device_option,
    output_option,
    preset_option,
    protocol_options,
    reading_options,
    set_option,
    table_format,
    time_budget_option,
)
from dcbench_bacon.cli.arguments.regime_options import regime_options
from dcbench_bacon.exchange.formats import FORMATS, ReadingOptions


@click.command(
    epilog="""\b
Examples:
  dcbench evaluate results/synthetic/digits-ipc1-dm-s0-1a2b3c4d.safetensors
  dcbench evaluate my.safetensors --dataset cifar10 --architectures ConvNet,ResNet18
  dcbench evaluate res_DM_CIFAR10_ConvNet_10ipc.pt --partition 2 --index 4
  dcbench evaluate res_DC_MNIST_ConvNet_1ipc.pt --index all --name "DC, authors'"
  dcbench evaluate my/pictures --dataset cifar10 --classes plane,car,bird,...
  dcbench evaluate logged_files/CIFAR100/images_best.pt --no-zca --learned-rate 0.02
  dcbench evaluate sets/mnist.pt --dataset mnist --as dc
  dcbench evaluate sets/*.pt --dataset cifar10 --executor ray     sets side by side
"""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@reading_options
@as_option
@preset_option
@set_option
@protocol_options
@regime_options
@device_option
@compile_option
@data_root_option
@output_option
@time_budget_option
@executor_options
@click.option(
    "--fresh", is_flag=True, help="Repeat evaluations that already have a record."
)
def evaluate(**given: Any) -> None:
    """Train fresh networks on saved sets and test them on real images.

    Each set leaves a record in OUTPUT/records, which dcbench table shows from then on.
    Recorded evaluations are not repeated, interrupted ones continue. A file that cannot
    be used does not stop the others; its error goes to OUTPUT/failures, and the exit
    status is 1.

    Sets of other tools are read as well, without running any code in a pickle. What
    such a file does not state is guessed from its name and its values; a table shows
    each guess, how certain it is and which option states it. The record contains how a
    file was read, and another reading is another result. Accuracies that the authors
    stored with a set are printed beside the measured ones.

    A set is judged as its method would judge it: under protocol dc the augmentation and
    the epochs depend on method and data set (dcbench show METHOD DATASET IPC).
    """
    from dcbench_bacon.cli.cells.evaluate import evaluate_files

    raise SystemExit(evaluate_files(stated=ReadingOptions.pop_from(given), **given))


@click.command(
    epilog="""\b
Examples:
  dcbench convert res_DSA_CIFAR10_ConvNet_10ipc.pt --to dcbench --output dsa.safetensors
  dcbench convert bacon.safetensors --to picture --output bacon.png --decode
  dcbench convert acc_0.45.pkl --dataset svhn --partition 2 --to mtt --output svhn-mtt
  dcbench convert dsa.safetensors --to npz --output dsa.npz --force       once more
"""
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    type=click.Choice([name for name, format in FORMATS.items() if format.writes]),
    help="The format to write.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write; a new folder for mtt, dd_ranking and folder.",
)
@click.option("--decode", is_flag=True, help="Cut partitioned images apart first.")
@click.option(
    "--force",
    is_flag=True,
    help="Replace an output that exists, once the new one is complete.",
)
@reading_options
@data_root_option
def convert(**given: Any) -> None:
    """Turn a synthetic set of any format into another, or into a picture.

    See `dcbench list formats`. Formats of float32 keep every bit. The file that is read
    is never overwritten, not even with --force.
    """
    from dcbench_bacon.exchange.conversion import convert_file

    click.echo(convert_file(stated=ReadingOptions.pop_from(given), **given))


@click.command(
    epilog="""\b
Examples:
  dcbench quality results/synthetic/cifar10-ipc10-*.safetensors
  dcbench quality my.safetensors --dataset cifar10 --architecture ResNet18 --epochs 20
  dcbench quality my.safetensors --dataset cifar10 --clip-weights laion2b_s34b_b79k
"""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@reading_options
@click.option(
    "--architecture",
    default="ConvNet",
    show_default=True,
    help="The network that is trained on the train split and computes the features.",
)
@former_epochs
@click.option(
    "--epochs",
    type=click.IntRange(min=2),
    default=51,
    show_default=True,
    help="Epochs of its training on the train split.",
)
@click.option(
    "--images",
    type=click.IntRange(min=2),
    default=5000,
    show_default=True,
    help="Largest number of real images to compare with.",
)
@click.option(
    "--clip-model",
    default="ViT-B-32",
    show_default=True,
    help="An image-text model of open_clip, which needs --clip-weights.",
)
@click.option(
    "--clip-weights",
    default="",
    metavar="FILE|NAME",
    help="Its weights: a file, or a name that open_clip downloads. Without weights the "
    "table has no row for such a model and no zero-shot agreement.",
)
@device_option
@data_root_option
@output_option
@table_format("table")
def quality(**given: Any) -> None:
    """Compare synthetic images with real ones in feature space.

    The table shows squared MMD and Frechet distance from the test images, in the
    features of a network trained on the train split and of an image-text model, beside
    those of equally many random training images. It also shows the share of images
    that the image-text model assigns to their own class.
    """
    from dcbench_bacon.cli.cells.quality import quality_of_files

    raise SystemExit(quality_of_files(stated=ReadingOptions.pop_from(given), **given))
