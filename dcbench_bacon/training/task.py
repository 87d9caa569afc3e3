"""What is evaluated, and how right a network is."""

from typing import NamedTuple

import torch
from torch.nn.functional import interpolate

from dcbench_bacon.data.dataset import normalize
from dcbench_bacon.data.synthetic import Split, SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks.base import Network
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.runtime.memory import images_per_call
from dcbench_bacon.runtime.precision import tensor_cores
from dcbench_bacon.schema import DatasetInfo


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


def enlarge(split: Split, side: int) -> Split:
    """Return the middle of each image after it was enlarged, bilinearly.

    Args:
        split: of pixels, which are rounded again, or of whitened images.
        side: pixels of the enlarged images; no fewer than they have.

    Raises:
        UsageError: it is fewer.
    """
    size = split.images.shape[-1]
    if side < size:
        raise UsageError(
            f"protocol.test_size={side}: the images have {size} pixels a side; choose "
            "as many or more, or 0 to test them as they are"
        )
    start = (side - size) // 2
    middle = slice(start, start + size)
    whole = split.images.dtype == torch.uint8
    pieces = []
    for piece in torch.split(split.images, images_per_call(split.images.device, side)):
        large = interpolate(piece.float(), size=(side, side), mode="bilinear")
        cut = large[..., middle, middle]
        pieces.append(cut.round().to(torch.uint8) if whole else cut)
    return Split(torch.cat(pieces), split.labels)


def accuracy(network: Network, split: Split, info: DatasetInfo) -> float:
    """The share of a split that a network classifies rightly, in [0, 1].

    In the network's precision, as it was trained. Never compiled: it is called too
    seldom for batches of a shape of their own.
    """
    most = images_per_call(split.images.device, info.size)
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.images.device)
    with (
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),
        tensor_cores(network.precision),
    ):
        pieces = (torch.split(each, most) for each in (split.images, split.labels))
        for images, labels in zip(*pieces, strict=True):
            logits = network(normalize(images, info))
            correct += (logits.argmax(1) == labels).sum()
    return correct.item() / len(split.labels)
