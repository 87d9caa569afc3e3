"""The command line: options in, calls out. Heavy modules load inside the commands."""

import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from dcbench_bacon import __version__
from dcbench_bacon.errors import (
    DataError,
    DcbenchError,
    InterruptedRunError,
    UsageError,
    guess,
)
from dcbench_bacon.exchange.formats import FORMATS, Claims
from dcbench_bacon.options import (
    PAPER_DATASETS,
    Command,
    IntList,
    NameList,
    Texts,
    as_option,
    claim_options,
    compile_option,
    data_root_option,
    datasets_option,
    device_option,
    format_option,
    ipc_option,
    methods_option,
    options,
    output_option,
    profile_option,
    profiles_option,
    protocol_option,
    protocol_options,
    set_option,
    table_format,
)
from dcbench_bacon.registry import DATASETS, METHODS


class Commands(click.Group):
    """Shows mistakes without a traceback, and guesses a mistyped command."""

    def invoke(self, ctx: click.Context) -> Any:
        """Turns the errors that a user can mend into messages and exit codes."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            fail(str(error), 2)
        except InterruptedRunError as error:
            fail(f"{error}; {error.kept}. {going_on(noted=error.noted)}", 130)
        except DcbenchError as error:
            fail(str(error), 1)
        except KeyboardInterrupt:
            fail(f"interrupted at once. {going_on(noted=False)}", 130)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the nearest command when there is none of that name."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near, known = guess(args[0], self.commands), ", ".join(self.commands)
            raise click.UsageError(
                f"no such command {args[0]!r}.{near} There are: {known}", ctx
            )
        return super().resolve_command(ctx, args)


def going_on(*, noted: bool) -> str:
    """How to resume.

    Args:
        noted: what ``--fresh`` asks for is on disk; to ask again would begin it again.
    """
    words = [word for word in sys.argv[1:] if not (noted and word == "--fresh")]
    return f"To go on:\n  {shlex.join(['dcbench', *words])}"


def fail(message: str, code: int) -> NoReturn:
    """Prints a message and ends the program."""
    click.echo(f"error: {message}", err=True)
    raise SystemExit(code)


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "DCBENCH",
        "max_content_width": 100,
    },
    epilog="Start with `dcbench run`: a demo that ends within 90 seconds.",
)
@click.version_option(__version__, prog_name="dcbench")
@click.option("-v", "--verbose", is_flag=True, help="Also print what goes on inside.")
def main(verbose: bool) -> None:
    """Distil image data sets, evaluate them fairly, print the tables."""
    level = logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dcbench_bacon").setLevel(level)


@main.command(
    epilog="""\b
Examples:
  dcbench run                                        the demo
  dcbench run --methods bacon,idm --datasets all     the paper's grid, IPC 1, 10, 50
  dcbench run --methods dm --datasets folder:my/images --ipc 10 --profile quick
  dcbench run --methods idm --datasets cifar10 --ipc 10 --set image_lr=0.1
  dcbench run --methods dm --datasets mnist --ipc 1 --references     with random, whole
"""
)
@methods_option
@datasets_option
@ipc_option
@click.option("--seeds", type=IntList(0), default="0", help="Such as 0,1,2,3,4.")
@profile_option
@set_option
@protocol_options
@device_option
@compile_option
@data_root_option
@output_option
@click.option(
    "--references",
    is_flag=True,
    help="Also random and whole under the same protocol, for scores against them.",
)
@click.option("--fresh", is_flag=True, help="Run finished cells again.")
@click.option("--no-download", is_flag=True, help="Use only data that is on disk.")
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="A kill loses at most this much.",
)
@click.option(
    "--time-budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after this long, as on Ctrl-C.",
)
def run(**given: Any) -> None:
    """Distil, evaluate, record and print the table.

    Finished cells are skipped, interrupted ones go on where they stopped, failed ones
    are tried again. Without --datasets it runs on those of the demo: digits at IPC 1
    and 10, with reduced recipes.
    """
    from dcbench_bacon.commands import run_grid

    raise SystemExit(run_grid(**given))


@main.command(
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
    from dcbench_bacon.judging import evaluate_files

    evaluate_files(claims=Claims.taken(given), **given)


@main.command(
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


downstream_options = options(
    click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path)),
    claim_options,
    profile_option,
    set_option,
    protocol_option("How networks are trained on the sets."),
    device_option,
    compile_option,
    data_root_option,
    output_option,
    table_format("table"),
    click.option("--fresh", is_flag=True, help="Train again what has a record."),
)


@main.command(
    epilog="""\b
Examples:
  dcbench continual results/synthetic/cifar100-ipc10-*.safetensors --tasks 10
  dcbench continual random.safetensors dm.safetensors --profile demo --orders 3
  dcbench table --what continual             the table again, from the records
"""
)
@downstream_options
@click.option(
    "--tasks",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Groups of classes that arrive one after another.",
)
@click.option(
    "--orders",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Random orders of the classes, the same for all sets.",
)
@click.option("--architectures", type=Texts(), help="Networks to train.")
def continual(**given: Any) -> None:
    """Learn classes group by group, with each set as the memory.

    As in the DM paper: when a group of classes arrives, its synthetic images join the
    memory; a fresh network is trained on the memory and tested on all classes seen so
    far. The table has a row a set and a column a number of classes. Records go to
    OUTPUT/continual; finished stages are skipped, interrupted ones go on.
    """
    from dcbench_bacon.downstream.commands import learn_continually

    raise SystemExit(learn_continually(claims=Claims.taken(given), **given))


def axis_option(
    name: str, kind: click.ParamType[Any], default: str, text: str
) -> Callable[[Command], Command]:
    """An option that lists one of a grid's axes."""
    return click.option(name, type=kind, default=default, show_default=True, help=text)


@main.command(
    epilog="""\b
Examples:
  dcbench nas random.safetensors dm.safetensors --profile demo --widths 8,16,32
  dcbench nas dm.safetensors --depths 1,2,3,4 --norms IN,BN,LN,GN,NN --top 20
  dcbench table --what nas                   the table again, from the records
"""
)
@downstream_options
@axis_option("--depths", IntList(1), "1,2,3", "Blocks of the ConvNets.")
@axis_option("--widths", IntList(1), "8,16,32", "Channels of a block.")
@axis_option("--norms", Texts(), "IN", "Some of NN BN LN IN GN.")
@axis_option("--activations", Texts(), "AR", "Some of AS AR AL ASwish.")
@axis_option("--poolings", Texts(), "AP", "Some of NP MP AP.")
@click.option(
    "--passes",
    type=click.IntRange(min=2),
    help="Over the whole train split for the reference; the protocol `reference` says "
    "how many by default.",
)
@click.option(
    "--top",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="How many of the best on a set are also compared on their own.",
)
def nas(**given: Any) -> None:
    """Compare how sets rank ConvNets with how the whole train split ranks them.

    Every network of the grid is trained on each set and, once for all sets, on the
    whole train split. The table gives rank correlations, the network that a search on
    the set finds, what it reaches on the whole split, and the time. Give a set of
    random images as the baseline. Records go to OUTPUT/nas; what is finished is
    skipped, interrupted trainings go on.
    """
    from dcbench_bacon.downstream.commands import search_architectures

    raise SystemExit(search_architectures(claims=Claims.taken(given), **given))


@main.command(
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
    from dcbench_bacon.appraisal import quality_of_files

    click.echo(quality_of_files(claims=Claims.taken(given), **given))


@main.command(
    epilog="""\b
Examples:
  dcbench table                                  paper records, as Markdown
  dcbench table --profile quick --format csv
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
    help="Accuracies, their spread between sets and networks, every set on every "
    "network, scores against random images and the whole set, cost, failures, or what "
    "dcbench continual and dcbench nas have recorded.",
)
@profiles_option
@click.option(
    "--source",
    help="Compare with this source of published numbers, not with each method's own: "
    "`bacon` is the table of BACON's page; a wrong name lists them.",
)
@click.option(
    "--against",
    default="random",
    show_default=True,
    help="The method that --what scores holds the others against.",
)
@output_option
def table(what: str, source: str | None, against: str, **given: Any) -> None:
    """Print measured beside published, from the records alone."""
    from dcbench_bacon.catalogue import print_table

    for option, value, use in (
        ("--source", source, "accuracy"),
        ("--against", against if against != "random" else None, "scores"),
    ):
        if value and what != use:
            raise UsageError(f"{option} goes with --what {use}, not with {what}")
    click.echo(print_table(what=what, source=source, against=against, **given))


@main.group(epilog="Example: dcbench plot transfer --profile quick")
def plot() -> None:
    """Draw figures from the records alone."""


@plot.command(
    epilog="""\b
Examples:
  dcbench plot transfer --profile quick              PNG files in results/figures
  dcbench plot transfer --format pdf --output elsewhere
"""
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="Of the files.",
)
@profiles_option
@output_option
def transfer(form: str, profiles: tuple[str, ...], output: Path) -> None:
    """Draw the accuracy of every set on every network as heat maps.

    One file a data set, number of images per class, profile and selection.
    """
    from dcbench_bacon.catalogue import plot_transfer

    for path in plot_transfer(output, form, profiles or ("paper",)):
        click.echo(path)


@main.command(
    epilog="""\b
Examples:
  dcbench profile --methods bacon,idm,dm --datasets cifar10 --ipc 1,10,50
  dcbench profile --methods bacon --datasets cifar10 --ipc 10 --steps 50 --format csv
"""
)
@methods_option
@datasets_option
@ipc_option
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Timed steps of each cell; those that warm up are not among them.",
)
@profile_option
@set_option
@device_option
@click.option(
    "--compile",
    "compiling",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="torch.compile and CUDA graphs, as a run of the recipe's length uses them.",
)
@data_root_option
@output_option
@format_option
def profile(**given: Any) -> None:
    """Time distillation steps by phase, against a large matrix product.

    Random pixels stand in for a data set that is not on disk. The records go to
    OUTPUT/timing; `dcbench table --what timing --output OUTPUT` prints them again.
    """
    from dcbench_bacon.commands import profile_grid

    click.echo(profile_grid(**given))


@main.command(
    name="list",
    epilog="""\b
Examples:
  dcbench list methods             values of --methods
  dcbench list protocols           of --protocol
  dcbench list augmentations       of --set protocol.augmentation=...
  dcbench list formats             of --from and --to
""",
)
@click.argument(
    "what",
    type=click.Choice(
        [
            *("methods", "datasets", "architectures", "protocols", "augmentations"),
            "formats",
        ]
    ),
    metavar="WHAT",
)
def list_(what: str) -> None:
    """List what exists, with a line about each.

    WHAT is methods, datasets, architectures, protocols, augmentations or formats.
    """
    from dcbench_bacon.catalogue import listing

    click.echo(listing(what))


@main.command(epilog="Example: dcbench show bacon cifar10 10")
@click.argument("method")
@click.argument("dataset")
@click.argument("ipc", type=click.IntRange(min=1))
@profile_option
@set_option
@protocol_options
def show(**given: Any) -> None:
    """Show the recipe in force and where each value comes from."""
    from dcbench_bacon.commands import show_recipe

    click.echo(show_recipe(**given))


@main.group(
    epilog="""\b
Examples:
  dcbench data get mnist,cifar10
  dcbench data verify all
"""
)
def data() -> None:
    """Fetch or verify data sets."""


@data.command(epilog="Example: dcbench data get mnist,cifar10")
@click.argument("datasets", type=NameList(DATASETS, PAPER_DATASETS))
@data_root_option
def get(datasets: tuple[str, ...], data_root: Path | None) -> None:
    """Download data sets that are not on disk yet."""
    from dcbench_bacon import data as loader

    missing = 0
    for name in datasets:
        try:
            loader.get(name, data_root)
        except DataError as error:
            missing += 1
            click.echo(f"error: {error}", err=True)
        else:
            click.echo(f"{name}: ready")
    raise SystemExit(1 if missing else 0)


@data.command(epilog="Example: dcbench data verify all")
@click.argument("datasets", type=NameList(DATASETS, PAPER_DATASETS))
@data_root_option
def verify(datasets: tuple[str, ...], data_root: Path | None) -> None:
    """Check the files of data sets against their official checksums."""
    from dcbench_bacon import data as loader

    bad = 0
    for name in datasets:
        for check in loader.verify(name, data_root):
            bad += not check.ok
            click.echo(f"{check.mark:<3} {name}: {check.file}: {check.message}")
    raise SystemExit(1 if bad else 0)


@main.command(epilog="Example: dcbench check")
def check() -> None:
    """Validate all recipes: every key, value, data set and base."""
    from dcbench_bacon.commands import check_recipes

    problems = check_recipes()
    for problem in problems:
        click.echo(problem, err=True)
    count = len(problems)
    found = f"{count} problem{'s' * (count != 1)}"
    click.echo(f"{len(METHODS.names())} recipes, {found}")
    raise SystemExit(1 if problems else 0)
