"""The compilation of a network, and the number of its operations."""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.compilation import Decider
from dcbench_bacon.schema import DatasetInfo


def compile_network(
    run: Decider, network: Network, info: DatasetInfo, images: int
) -> None:
    """Compile the methods ``embed`` and ``features_and_logits`` if that saves time.

    Args:
        run: decides whether they are compiled.
        network: the network that gets the compiled methods; its parameters may be
            replaced later on.
        info: the facts of the data set.
        images: the number of forward passes of an image to come, where a backward pass
            counts as two.
    """
    flops = forward_flops(network, info) * images
    network.embed = run.compiled(network.embed, flops)  # type: ignore[method-assign]
    network.features_and_logits = run.compiled(  # type: ignore[method-assign]
        network.features_and_logits, flops
    )


def forward_flops(network: Network, info: DatasetInfo) -> float:
    """Return the operations per image of a forward pass; a multiply-add is two."""
    # Two images, because batch norm does not train on one.
    shape = (2, info.channels, info.size, info.size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost = copy.deepcopy(network).to("meta")
        ghost.precision = "fp32"  # autocast has nothing to cast on the meta device
        ghost(torch.empty(shape, device="meta"))
    return float(counter.get_total_flops()) / 2
