"""The downstream uses of sets: `dcbench continual` and `dcbench nas`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dcbench_bacon.cli.options import (
    Command,
    IntList,
    Texts,
    claim_options,
    compile_option,
    data_root_option,
    device_option,
    options,
    output_option,
    profile_option,
    protocol_option,
    set_option,
    table_format,
)
from dcbench_bacon.exchange.formats import Claims

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


@click.command(
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
    from dcbench_bacon.cli.downstream import learn_continually

    raise SystemExit(learn_continually(claims=Claims.taken(given), **given))


def axis_option(
    name: str, kind: click.ParamType[Any], default: str, text: str
) -> Callable[[Command], Command]:
    """An option that lists one of a grid's axes."""
    return click.option(name, type=kind, default=default, show_default=True, help=text)


@click.command(
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
    from dcbench_bacon.cli.downstream import search_architectures

    raise SystemExit(search_architectures(claims=Claims.taken(given), **given))
