"""The commands about saved sets: `dcbench evaluate`, `convert` and `quality`."""

from pathlib import Path
from typing import Any

import click

from dcbench_bacon.cli.options import (
    as_option,
    claim_options,
    compile_option,
    data_root_option,
    device_option,
    output_option,
    profile_option,
    protocol_options,
    set_option,
    table_format,
)
from dcbench_bacon.exchange.formats import FORMATS, Claims


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
"""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@claim_options
@as_option
@profile_option
@set_option
@protocol_options
@device_option
@compile_option
@data_root_option
@output_option
@click.option("--fresh", is_flag=True, help="Train again what has a record.")
def evaluate(**given: Any) -> None:
    """Train fresh networks on saved sets and test them on real images.

    Each set leaves a record in OUTPUT/records and stands in the tables of dcbench table
    from then on; what is recorded is not done again, what was interrupted goes on.

    Sets of other tools are read as well, without running what a pickle may ask for.
    What such a file does not say is taken from its name and its numbers; one table says
    what was taken, how sure it is and which option states it. How a file was read is
    recorded, and read in another way it is another result. Accuracies that the file's
    authors stored with a set are printed beside the measured ones.

    A set is judged as its method would judge it: under protocol dc the augmentation and
    the epochs depend on method and data set (dcbench show METHOD DATASET IPC).
    """
    from dcbench_bacon.cli.evaluate import evaluate_files

    evaluate_files(claims=Claims.taken(given), **given)


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
    type=click.Choice([name for name, each in FORMATS.items() if each.writes]),
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
@claim_options
@data_root_option
def convert(**given: Any) -> None:
    """Turn a synthetic set of any format into another, or into a picture.

    See `dcbench list formats`. Formats of float32 keep every bit. What is read is never
    written over, also with --force.
    """
    from dcbench_bacon.exchange.conversion import convert_file

    click.echo(convert_file(claims=Claims.taken(given), **given))


@click.command(
    epilog="""\b
Examples:
  dcbench quality results/synthetic/cifar10-ipc10-*.safetensors
  dcbench quality my.safetensors --dataset cifar10 --architecture ResNet18 --passes 20
  dcbench quality my.safetensors --dataset cifar10 --clip-weights laion2b_s34b_b79k
"""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@claim_options
@click.option(
    "--architecture",
    default="ConvNet",
    show_default=True,
    help="The one network that is trained on the train split for its features.",
)
@click.option(
    "--passes",
    type=click.IntRange(min=2),
    default=51,
    show_default=True,
    help="Over the train split, in its training.",
)
@click.option(
    "--images",
    type=click.IntRange(min=2),
    default=5000,
    show_default=True,
    help="Real images to compare with, at most.",
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
    help="Its weights: a file, or a name that open_clip downloads. Without them there "
    "is no row of such a model and no zero-shot agreement.",
)
@device_option
@data_root_option
@output_option
@table_format("table")
def quality(**given: Any) -> None:
    """Compare synthetic images with real ones in feature space.

    Squared MMD and Frechet distance to test images, in the features of a network
    trained on the train split and of an image-text model, beside those of as many
    random training images; the share of images that the model gives their own class.
    """
    from dcbench_bacon.cli.quality import quality_of_files

    click.echo(quality_of_files(claims=Claims.taken(given), **given))
