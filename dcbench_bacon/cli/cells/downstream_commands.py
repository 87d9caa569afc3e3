"""The commands of downstream uses: ``continual``, ``nas`` and ``slim``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dcbench_bacon.cli.arguments.decorators import Command, options
from dcbench_bacon.cli.arguments.executor_options import executor_options
from dcbench_bacon.cli.arguments.old_spellings import former_epochs
from dcbench_bacon.cli.arguments.option_types import IntList, Networks, Ratios, Texts
from dcbench_bacon.cli.arguments.options import (
    compile_option,
    data_root_option,
    device_option,
    output_option,
    preset_option,
    protocol_option,
    reading_options,
    set_option,
    table_format,
    time_budget_option,
)
from dcbench_bacon.cli.arguments.regime_options import budget_option
from dcbench_bacon.exchange.formats import ReadingOptions

downstream_options = options(
    click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path)),
    reading_options,
    preset_option,
    set_option,
    protocol_option("How networks are trained on the sets."),
    device_option,
    compile_option,
    data_root_option,
    output_option,
    time_budget_option,
    executor_options,
    table_format("table"),
    click.option(
        "--fresh", is_flag=True, help="Repeat trainings that already have a record."
    ),
)


@click.command(
    epilog="""\b
Examples:
  dcbench continual results/synthetic/cifar100-ipc10-*.safetensors --tasks 10
  dcbench continual random.safetensors dm.safetensors --preset demo --orders 3
  dcbench table --what continual             the table again, from the records
"""
)
@downstream_options
@click.option(
    "--tasks",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of groups of classes that arrive one after another.",
)
@click.option(
    "--orders",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of random orders of the classes, the same for all sets.",
)
@click.option("--architectures", type=Networks(), help="Networks to train.")
def continual(**given: Any) -> None:
    """Learn classes group by group, with each set as the memory.

    The task is that of the DM paper: when a group of classes arrives, its synthetic
    images join the memory, and a fresh network is trained on the memory and tested on
    all classes seen so far. The table has one row per set and one column per number of
    classes. Records go to OUTPUT/continual; finished stages are skipped, interrupted
    ones continue.
    """
    from dcbench_bacon.cli.cells.downstream import learn_continually

    raise SystemExit(learn_continually(stated=ReadingOptions.pop_from(given), **given))


def axis_option(
    name: str, kind: click.ParamType[Any], default: str, text: str
) -> Callable[[Command], Command]:
    """Return an option that lists the values of one axis of a grid."""
    return click.option(name, type=kind, default=default, show_default=True, help=text)


@click.command(
    epilog="""\b
Examples:
  dcbench nas random.safetensors dm.safetensors --preset demo --widths 8,16,32
  dcbench nas dm.safetensors --depths 1,2,3,4 --norms IN,BN,LN,GN,NN --top 20
  dcbench nas dm.safetensors --executor ray --cores-per-cell 1    side by side
  dcbench table --what nas                   the table again, from the records
"""
)
@downstream_options
@axis_option("--depths", IntList(1), "1,2,3", "Numbers of blocks.")
@axis_option("--widths", IntList(1), "8,16,32", "Numbers of channels per block.")
@axis_option("--norms", Texts(), "IN", "Normalisations: NN BN LN IN GN.")
@axis_option("--activations", Texts(), "AR", "Activations: AS AR AL ASwish.")
@axis_option("--poolings", Texts(), "AP", "Poolings: NP MP AP.")
@former_epochs
@click.option(
    "--epochs",
    type=click.IntRange(min=2),
    help="Epochs on the whole train split for the reference; by default those of the "
    "protocol `reference`.",
)
@click.option(
    "--top",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Number of networks, the best on a set, that are also compared on their own.",
)
def nas(**given: Any) -> None:
    """Compare how sets rank ConvNets with how the whole train split ranks them.

    Every network of the grid is trained on each set and, once for all sets, on the
    whole train split. The table shows rank correlations, the network that a search on
    the set finds, its accuracy after training on the whole split, and the time. Give a
    set of random images as the baseline. Records go to OUTPUT/nas; finished trainings
    are skipped, interrupted ones continue.
    """
    from dcbench_bacon.cli.cells.downstream import search_architectures

    raise SystemExit(
        search_architectures(stated=ReadingOptions.pop_from(given), **given)
    )


@click.command(
    epilog="""\b
Examples:
  dcbench slim random.safetensors sre2l.safetensors --preset demo
  dcbench slim edc.safetensors --network VGG11BN --ratios 0.3,0.5,0.7 --networks 3
  dcbench table --what slim                  the table again, from the records
  dcbench plot slim                          accuracy against the pruned share
"""
)
@downstream_options
@budget_option
@click.option(
    "--network",
    default="VGG11BN",
    show_default=True,
    metavar="NAME",
    help="The network with batch norm that is trained on real images and pruned.",
)
@click.option(
    "--ratios",
    type=Ratios(),
    default="0.3,0.5,0.7",
    show_default=True,
    help="The shares of the channels to remove.",
)
@click.option(
    "--networks",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Number of networks that are trained on real images, once for all sets.",
)
@former_epochs
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Epochs of that training on the train split; by default 60, and fewer under "
    "--preset quick (6) and demo (20).",
)
def slim(**given: Any) -> None:
    """Prune a network and let it recover on each set, without real images.

    A network is trained on the real images and loses its channels of the smallest
    batch-norm scales (torch-pruning, an extra: pip install 'dcbench-bacon[slim]'). Then
    it is trained on the set alone by the protocol common, unless --protocol names
    another, and the unpruned network labels every batch. Give a set of random images as
    the baseline. Records go to OUTPUT/slim; finished trainings
    are skipped, interrupted ones continue.
    """
    from dcbench_bacon.cli.cells.slimming import slim_networks

    raise SystemExit(slim_networks(stated=ReadingOptions.pop_from(given), **given))
