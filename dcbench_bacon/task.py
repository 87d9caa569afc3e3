"""What is evaluated, and how right a network is."""

from typing import NamedTuple

import torch

from dcbench_bacon.data import normalize
from dcbench_bacon.memory import images_per_call
from dcbench_bacon.networks import Network
from dcbench_bacon.schema import DatasetInfo, Protocol
from dcbench_bacon.spec import Split, SyntheticSet


class Task(NamedTuple):
    """What is evaluated, and against what.

    Attributes:
        synthetic: the set; decoded before use.
        test: real images.
        info: facts of the data set.
        protocol: how.
        validation: held out of train, where the protocol chooses by it.
        teachers: the networks that ``protocol.teachers`` names, trained on real
            images, on the device.
    """

    synthetic: SyntheticSet
    test: Split
    info: DatasetInfo
    protocol: Protocol
    validation: Split | None = None
    teachers: tuple[Network, ...] = ()


def accuracy(network: Network, split: Split, info: DatasetInfo) -> float:
    """The share of a split that a network classifies rightly, in [0, 1].

    Never compiled: it is called too seldom for batches of a shape of their own.
    """
    most = images_per_call(split.images.device, info.size)
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.images.device)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        pieces = (torch.split(each, most) for each in (split.images, split.labels))
        for images, labels in zip(*pieces, strict=True):
            logits = network(normalize(images, info))
            correct += (logits.argmax(1) == labels).sum()
    return correct.item() / len(split.labels)
