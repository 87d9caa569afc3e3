"""``torch.compile`` where it pays: whether, of what, and the reason."""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compilation import Decider
from dcbench_bacon.schema import DatasetInfo


def compile_network(
    run: Decider, network: Network, info: DatasetInfo, images: int
) -> None:
    """Compiles a network's two ways to be called, if that pays.

    Args:
        run: decides.
        network: gets compiled attributes; its parameters may be exchanged later on.
        info: facts of the images it will see.
        images: how many forward passes of an image are to come, with a backward pass
            counted as two.
    """
    flops = forward_flops(network, info) * images
    network.embed = run.compiled(network.embed, flops)  # type: ignore[method-assign]
    network.features_and_logits = run.compiled(  # type: ignore[method-assign]
        network.features_and_logits, flops
    )


def forward_flops(network: Network, info: DatasetInfo) -> float:
    """Operations of one image's forward pass, a multiply-add counted as two."""
    shape = (2, info.channels, info.size, info.size)  # batch norm refuses one image
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost = copy.deepcopy(network).to("meta")
        ghost.precision = "fp32"  # nothing is cast where there are no numbers
        ghost(torch.empty(shape, device="meta"))
    return float(counter.get_total_flops()) / 2
