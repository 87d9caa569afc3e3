"""Splits of real images: what is asked of them, and those that are kept as pixels.

Nothing outside ``data`` knows where the images of a split are. Three kinds answer the
same questions: images resident on the device, images in memory-mapped files, and image
files that are decoded when they are needed (``streaming``).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from dcbench_bacon.data.normalisation import normalize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.runtime.compute.memory import send
from dcbench_bacon.schema import DatasetInfo

Pixels = UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]
"""Pixels from 0 to 255, or whitened images, which are floats."""
Change = Callable[[Pixels], Pixels]
"""A function of the pixels of any number of images that keeps their number."""


class Batch(NamedTuple):
    """Normalised images with their labels, on the device of their split."""

    images: Float32[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]


class Split(ABC):
    """The images and labels of train or test.

    Attributes:
        labels: class indices from 0, on the device that the images are given on.
        info: the facts of the data set, with the statistics for normalisation.
    """

    labels: Int64[Tensor, "n"]
    info: DatasetInfo

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """The device that images are given on."""
        return self.labels.device

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images together: number, channels, height and width."""
        return (len(self), self.info.channels, self.info.size, self.info.size)

    @property
    def images(self) -> Pixels:
        """The pixels of all images where they are in memory; ``take`` works anywhere.

        Raises:
            UsageError: the images are decoded from their files when they are needed.
        """
        raise UsageError(
            f"{self.info.name}: its images are decoded from their files when they are "
            "needed, and are never in memory together; read them by split.take(index) "
            "or split.batches(size), or keep them in memory with --stream-above 1TB"
        )

    def take(self, index: Int64[Tensor, "*shape"]) -> Float32[Tensor, "*shape c h w"]:
        """Return the normalised images at indices of any shape, on the device."""
        images = normalize(self.pixels(index.flatten()), self.info)
        return torch.unflatten(images, 0, index.shape) if index.ndim != 1 else images

    @abstractmethod
    def pixels(self, index: Int64[Tensor, "n"]) -> Pixels:
        """Return the images at indices before normalisation, on the device."""

    @abstractmethod
    def batches(
        self, size: int, order: Int64[Tensor, "m"] | None = None
    ) -> Iterator[Batch]:
        """Yield normalised images with their labels, ``size`` at a time.

        Args:
            size: the number of images of each batch except the last, at least 1.
            order: the indices of the images, in order; by default all as they are.
        """

    @abstractmethod
    def whole(self) -> Float32[Tensor, "n c h w"]:
        """Return all images, normalised.

        Raises:
            UsageError: they do not fit into memory.
        """

    @abstractmethod
    def subset(self, index: Int64[Tensor, "m"] | Bool[Tensor, "n"]) -> "Split":
        """Return the split of some images, by their indices or by a mask."""

    @abstractmethod
    def changed(self, change: Change) -> "Split":
        """Return the split with a function applied to its pixels."""

    @abstractmethod
    def resident(self) -> "ResidentSplit":
        """Return the split with its images on the device.

        Raises:
            UsageError: they do not fit into memory.
        """

    @abstractmethod
    def to(self, device: torch.device) -> "Split":
        """Return the split on another device."""

    @abstractmethod
    def sha256(self, start: str = "") -> str:
        """Return the SHA-256 of a text and of what identifies images and labels."""


class ResidentSplit(Split):
    """A split whose images are on the device.

    Args:
        images: pixels, or whitened images.
        labels: class indices from 0, on the same device.
        info: the facts of the data set.
    """

    def __init__(
        self, images: Pixels, labels: Int64[Tensor, "n"], info: DatasetInfo
    ) -> None:
        """Keep the tensors; nothing is copied."""
        self._images = images
        self.labels = labels
        self.info = info

    @property
    def images(self) -> Pixels:
        """The pixels of all images."""
        return self._images

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the images."""
        return tuple(self.images.shape)

    def pixels(self, index: Int64[Tensor, "n"]) -> Pixels:
        """Return the images at indices before normalisation."""
        return self.images[index]

    def batches(
        self, size: int, order: Int64[Tensor, "m"] | None = None
    ) -> Iterator[Batch]:
        """Yield normalised images with their labels, ``size`` at a time."""
        if order is not None:
            for index in torch.split(order, size):
                yield Batch(self.take(index), self.labels[index])
            return
        pieces = (torch.split(tensor, size) for tensor in (self.images, self.labels))
        for images, labels in zip(*pieces, strict=True):
            yield Batch(normalize(images.to(self.device), self.info), labels)

    def whole(self) -> Float32[Tensor, "n c h w"]:
        """Return all images, normalised."""
        return normalize(self.images.to(self.device), self.info)

    def subset(self, index: Int64[Tensor, "m"] | Bool[Tensor, "n"]) -> "ResidentSplit":
        """Return the split of some images, which are copied."""
        images = self.images[index.to(self.images.device)]
        return type(self)(images, self.labels[index], self.info)

    def changed(self, change: Change) -> "ResidentSplit":
        """Return the split with a function applied to all its pixels at once."""
        return type(self)(change(self.images), self.labels, self.info)

    def resident(self) -> "ResidentSplit":
        """Return the split with its images on the device."""
        return ResidentSplit(self.images.to(self.device), self.labels, self.info)

    def to(self, device: torch.device) -> "ResidentSplit":
        """Return the split on another device."""
        images, labels = self.images.to(device), self.labels.to(device)
        return ResidentSplit(images, labels, self.info)

    def sha256(self, start: str = "") -> str:
        """Return the SHA-256 of a text, the images and the labels."""
        return sha256(self.images, self.labels, start=start)


class MappedSplit(ResidentSplit):
    """A split whose images stay in memory-mapped files of the host.

    The images that a step asks for are copied to the device. Args are those of
    ``ResidentSplit``, with the images on the CPU.
    """

    def pixels(self, index: Int64[Tensor, "n"]) -> Pixels:
        """Return the images at indices before normalisation, on the device."""
        return send(self.images[index.cpu()], self.device)

    def to(self, device: torch.device) -> "MappedSplit":
        """Return the split on another device; the images stay where they are."""
        return MappedSplit(self.images, self.labels.to(device), self.info)


class Feed:
    """The batches of a pass over a split, which are prepared ahead where that helps.

    Args:
        split: the images.
        size: the number of images of each batch except the last.
    """

    def __init__(self, split: Split, size: int) -> None:
        """Begin no pass yet."""
        self.split = split
        self.size = size
        self.order: Tensor | None = None
        self.following = 0

    def batch(self, number: int, order: Int64[Tensor, "m"]) -> Batch:
        """Return a batch of a pass; a pass may begin at any of them.

        Args:
            number: the index of the batch. Those of a pass are asked for in order.
            order: the indices of the images of the whole pass, the same tensor during
                the pass.
        """
        if order is not self.order or number != self.following:
            self.order = order
            self.pass_ = self.split.batches(self.size, order[number * self.size :])
        self.following = number + 1
        return next(self.pass_)


def sha256(*tensors: Tensor, start: str = "") -> str:
    """Return the SHA-256 of a text and the bytes of tensors, in hex digits."""
    total = hashlib.sha256(start.encode())
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()
