"""Network slimming without real images: pruning by batch norm, recovery on a set.

A network that was trained on real images loses its channels of the smallest batch-norm
scales (Liu et al., ICCV 2017), over all layers together. Then it is trained on a
synthetic set alone, while the unpruned network labels every batch, as in the data-free
slimming of G-VBSM and EDC. Unlike in network slimming, no penalty on the scales is part
of the training on real images.
"""

import copy
from typing import NamedTuple

import torch
from torch import nn

from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks.base import Network
from dcbench_bacon.schema import DatasetInfo

_MOST = 0.9  # the largest share of the channels that one layer loses


class Pruned(NamedTuple):
    """A pruned network.

    Attributes:
        network: the network, whose parameters are those of the kept channels.
        share: the share of the parameters that are gone, in [0, 1).
    """

    network: Network
    share: float


def check(architecture: str, network: Network) -> None:
    """Make sure that a network can be slimmed.

    Raises:
        UsageError: it has no batch norm, or torch-pruning is not installed.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        raise UsageError(
            f"--network {architecture} has no batch norm whose scales say what to "
            "prune; choose one that has, such as --network VGG11BN"
        )
    try:
        import torch_pruning  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "dcbench slim needs torch-pruning: pip install 'dcbench-bacon[slim]'"
        ) from error


def pruned(network: Network, ratio: float, info: DatasetInfo) -> Pruned:
    """Return a copy of a network without its channels of the smallest scales.

    Args:
        network: a network with batch norm, on any device.
        ratio: the share of all channels to remove, in (0, 1).
        info: the facts of the images that the network takes.
    """
    import torch_pruning as tp

    device = next(network.parameters()).device
    slim = copy.deepcopy(network).eval()
    # The pruner traces gradients to find the parameters that belong together.
    slim.requires_grad_(True)
    images = torch.zeros(2, info.channels, info.size, info.size, device=device)
    pruner = tp.pruner.BNScalePruner(
        slim,
        images,
        importance=tp.importance.BNScaleImportance(),
        pruning_ratio=ratio,
        max_pruning_ratio=_MOST,
        global_pruning=True,
        ignored_layers=[slim.classifier],
    )
    pruner.step()
    share = 1 - slim.parameter_count / network.parameter_count
    return Pruned(slim, share)
