"""Real images by class, drawn for every step."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.contract import Run
from dcbench_bacon.data.dataset import class_index, normalize
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.schema import DatasetInfo

Init = Literal["real", "noise"]
REAL_CALLS = 10  # calls of a network that the real images of a chunk may take


def in_class_order(
    images: Float[Tensor, "m ch h w"], info: DatasetInfo, **more: Any
) -> SyntheticSet:
    """A set of as many images of every class, one class after another.

    Args:
        images: of the first class, then of the second, and so on.
        info: of the data set.
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
        """Indexes the train split by class."""
        self.run = run
        self.images = run.train.images
        self.labels = run.train.labels
        self.index, self.counts = class_index(self.labels, run.info.classes)
        self.largest = self.index.shape[1]

    def draw(self, count: int, generator: torch.Generator) -> Int64[Tensor, "c n"]:
        """Draws image indices a class, without replacement while they last.

        A class with fewer than ``count`` images gives all of them once before any
        twice, so that all classes have batches of one size.

        Args:
            count: images a class; cut to the largest class.
            generator: on the run's device.
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
        """The normalised images at indices that ``draw`` returned."""
        images = normalize(self.images[index.flatten()], self.run.info)
        return torch.unflatten(images, 0, index.shape)

    def minibatches(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> Int64[Tensor, "*shape"]:
        """Draws image indices from all classes, with replacement.

        Args:
            shape: of what is returned.
            generator: on the run's device.
        """
        where = self.labels.device
        return torch.randint(len(self.labels), shape, generator=generator, device=where)

    def labelled(
        self, index: Int64[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "*shape c h w"], Int64[Tensor, "*shape"]]:
        """The normalised images at indices, with their labels."""
        images = normalize(self.images[index.flatten()], self.run.info)
        return torch.unflatten(images, 0, index.shape), self.labels[index]

    def start(
        self, init: Init, generator: torch.Generator, partition: int = 1
    ) -> Float[Tensor, "c ipc ch h w"]:
        """The images before the first step: real ones, or standard normal noise."""
        if init == "real":
            return self.initial(partition, generator)
        info, ipc = self.run.info, self.run.cell.ipc
        shape = (info.classes, ipc, info.channels, info.size, info.size)
        return torch.randn(shape, generator=generator, device=self.run.device)

    def initial(
        self, partition: int, generator: torch.Generator
    ) -> Float[Tensor, "c ipc ch h w"]:
        """Real images to start from; with a partition, ``partition**2`` in each.

        Each part is another real image of the class, reduced bilinearly; parts are
        drawn independently, as IDM does it.
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
