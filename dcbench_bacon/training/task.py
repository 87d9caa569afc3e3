"""The evaluation task of a set, and the accuracy of a network."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import interpolate

from dcbench_bacon.augmentation.mixing import Mix, Mixer
from dcbench_bacon.data.splits import Pixels, Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks.base import Network
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.schema import DatasetInfo


class LabelledBatch(NamedTuple):
    """A batch of a set whose labels were made before.

    Attributes:
        positions: those of the images in the decoded set.
        draw: the numbers that decide the augmentation.
        mix: the numbers that decide the mixing; None for none.
        logits: the teachers' mean logits for what the networks see, in half precision.
    """

    positions: Int64[Tensor, "n"]
    draw: Any
    mix: Mix | None
    logits: Float[Tensor, "n k"]


def accuracy(network: Network, split: Split, info: DatasetInfo) -> float:
    """Return the share of a split that a network classifies correctly, in [0, 1].

    The arithmetic has the precision of the network. Nothing is compiled, because this
    is called too rarely to compile for its batch sizes.
    """
    most = images_per_call(split.device, info.size, network.memory_demand)
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.device)
    with (
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),
        tensor_cores(network.precision),
    ):
        for images, labels in split.batches(most):
            correct += (network(images).argmax(1) == labels).sum()
    return correct.item() / len(split.labels)


class Task(NamedTuple):
    """A set to evaluate, with the images and the protocol of the evaluation.

    Attributes:
        synthetic: the set, which is decoded before use.
        test: the real images that networks are tested on.
        info: the facts of the data set.
        protocol: the protocol of the evaluation.
        validation: the images held out of train if the protocol makes a choice by them.
        teachers: the networks of ``protocol.teachers``, trained on real images, on the
            device.
        start: returns the network to train for the number of a trial; None for a new
            network of the protocol's architecture.
        kept: returns the labelled batches of a pass; None where batches are drawn and
            labelled for each network.
        measure: returns the accuracy of a network on a split, in [0, 1].
    """

    synthetic: SyntheticSet
    test: Split
    info: DatasetInfo
    protocol: Protocol
    validation: Split | None = None
    teachers: tuple[Network, ...] = ()
    start: Callable[[int], Network] | None = None
    kept: Callable[[int], Sequence[LabelledBatch]] | None = None
    measure: Callable[[Network, Split, DatasetInfo], float] = accuracy

    @property
    def mixer(self) -> Mixer | None:
        """The source of draws for mixing images; None where they are not mixed."""
        kind = self.protocol.mixing
        if kind == "none":
            return None
        return Mixer(kind, self.protocol.mixing_alpha, self.info.size)


def enlarge(split: Split, side: int) -> Split:
    """Return the middle of each image after bilinear enlargement.

    Args:
        split: pixels, which are rounded after enlargement, or whitened images.
        side: the side of the enlarged images in pixels, at least that of the images.

    Raises:
        UsageError: ``side`` is smaller than the side of the images.
    """
    size = split.shape[-1]
    if side < size:
        raise UsageError(
            f"protocol.test_size={side}: the images have {size} pixels a side; choose "
            f"{size} or more, or 0 to test them at their own size"
        )
    start = (side - size) // 2
    middle = slice(start, start + size)

    def enlarged(images: Pixels) -> Pixels:
        pieces = []
        for piece in torch.split(images, images_per_call(images.device, side)):
            large = interpolate(piece.float(), size=(side, side), mode="bilinear")
            cut = large[..., middle, middle]
            pieces.append(cut if images.is_floating_point() else cut.round().byte())
        return torch.cat(pieces)

    return split.changed(enlarged)
