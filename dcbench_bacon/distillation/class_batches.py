"""Batches of real images by class, drawn at every step."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.contract import Run
from dcbench_bacon.data.dataset import class_index
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.schema import DatasetInfo

Init = Literal["real", "noise"]
REAL_CALLS = 10  # most network calls for the real images of one chunk of classes


def in_class_order(
    images: Float[Tensor, "m ch h w"], info: DatasetInfo, **more: Any
) -> SyntheticSet:
    """Return a set with equally many images of every class, in class order.

    Args:
        images: all images of the first class, then those of the second, and so on.
        info: the facts of the data set.
        more: further fields of the set.
    """
    classes = torch.arange(info.classes, device=images.device)
    labels = classes.repeat_interleave(len(images) // info.classes)
    return SyntheticSet(images, F.one_hot(labels, info.classes).float(), **more)


class RealImages:
    """The real images of a run by class, drawn without waiting for the device.

    Args:
        run: supplies the train split, its facts and the random streams.
    """

    def __init__(self, run: Run) -> None:
        """Index the train split by class."""
        self.run = run
        self.labels = run.train.labels
        self.index, self.counts = class_index(self.labels, run.info.classes)
        self.largest = self.index.shape[1]

    def draw(self, count: int, generator: torch.Generator) -> Int64[Tensor, "c n"]:
        """Draw image indices for each class, without replacement while they last.

        A class with fewer than ``count`` images gives all of them once before it gives
        any twice, so that the batches of all classes have one size.

        Args:
            count: images per class; cut to the size of the largest class.
            generator: a random stream on the run's device.
        """
        count = min(count, self.largest)
        shape = self.index.shape
        keys = torch.rand(shape, generator=generator, device=self.index.device)
        position = torch.arange(self.largest, device=self.index.device)
        keys.masked_fill_(position >= self.counts[:, None], -1)
        order = keys.topk(count, dim=1).indices  # padding sorts last
        chosen = order.gather(1, position[:count] % self.counts[:, None])
        return self.index.gather(1, chosen)

    def take(self, index: Int64[Tensor, "c n"]) -> Float[Tensor, "c n ch h w"]:
        """Return the normalised images at indices that ``draw`` returned."""
        return self.run.train.take(index)

    def minibatches(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> Int64[Tensor, "*shape"]:
        """Draw image indices from all classes, with replacement.

        Args:
            shape: the shape of the indices.
            generator: a random stream on the run's device.
        """
        where = self.labels.device
        return torch.randint(len(self.labels), shape, generator=generator, device=where)

    def labelled(
        self, index: Int64[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "*shape c h w"], Int64[Tensor, "*shape"]]:
        """Return the normalised images at the given indices, with their labels."""
        return self.run.train.take(index), self.labels[index]

    def start(
        self, init: Init, generator: torch.Generator, partition: int = 1
    ) -> Float[Tensor, "c ipc ch h w"]:
        """Return the images before the first step: real, or standard normal noise."""
        if init == "real":
            return self.initial(partition, generator)
        info, ipc = self.run.info, self.run.cell.ipc
        shape = (info.classes, ipc, info.channels, info.size, info.size)
        return torch.randn(shape, generator=generator, device=self.run.device)

    def initial(
        self, partition: int, generator: torch.Generator
    ) -> Float[Tensor, "c ipc ch h w"]:
        """Return real images to start from; with a partition, join several in each.

        Each of the ``partition**2`` parts of an image is another real image of the
        class, reduced bilinearly. The parts are drawn independently, as in IDM.
        """
        ipc = self.run.cell.ipc
        if partition == 1:
            return self.take(self.draw(ipc, generator))
        columns = []
        for _ in range(partition):
            parts = [self.take(self.draw(ipc, generator)) for _ in range(partition)]
            size = parts[0].shape[-1] // partition
            reduced = [_reduce(part, size) for part in parts]
            columns.append(torch.cat(reduced, dim=-2))
        return torch.cat(columns, dim=-1)


def _reduce(
    images: Float[Tensor, "c n ch h w"], size: int
) -> Float[Tensor, "c n ch y x"]:
    flat = F.interpolate(
        images.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False
    )
    return torch.unflatten(flat, 0, images.shape[:2])
