"""A data set in memory: its images, normalised or not, and its classes."""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from dcbench_bacon.data.synthetic import Split, SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.runtime.seeds import stream
from dcbench_bacon.schema import Cell, DatasetInfo


@dataclass(frozen=True)
class RawSplit:
    """A decoded split, unchecked: images (n, c, h, w) and labels (n,)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A data set, resident on one device.

    Attributes:
        info: its facts.
        train: the official training images.
        test: the official test images.
        fingerprint: sha256 over all pixels, labels and shapes; that of whitened images
            is another.
        zca: JSON values that say how the images were whitened; none if they were not.
        before_whitening: the fingerprint of the images before that.
    """

    info: DatasetInfo
    train: Split
    test: Split
    fingerprint: str
    zca: dict[str, Any] | None = None
    before_whitening: str | None = None

    @property
    def raw_fingerprint(self) -> str:
        """The fingerprint before any whitening: what results are filed under."""
        return self.before_whitening or self.fingerprint


def class_index(
    labels: Int64[Tensor, "n"], classes: int
) -> tuple[Int64[Tensor, "c n_max"], Int64[Tensor, "c"]]:
    """Lists each class's images, for draws of all classes in one gather.

    Returns:
        Ascending positions, a class a row, padded with -1; and how many each class has.
    """
    counts = torch.bincount(labels, minlength=classes)
    order = labels.argsort(stable=True)
    ranks = torch.arange(len(labels), device=labels.device)
    ranks = ranks - (counts.cumsum(0) - counts)[labels[order]]
    width = int(counts.max()) if classes else 0
    index = labels.new_full((classes, width), -1)
    index[labels[order], ranks] = order
    return index, counts


def normalize(
    images: UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Scales pixels to [0, 1], then standardises each channel.

    Images that were whitened are no pixels any more and stay as they are.
    """
    if images.dtype == torch.float32:
        return images
    mean, std = _statistics(info, images.device)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def denormalize(
    images: Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Undoes ``normalize`` up to the scale of 255: pixels in [0, 1], not clamped."""
    mean, std = _statistics(info, images.device)
    return images * std + mean


def standardize(
    pixels: Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Undoes ``denormalize``."""
    mean, std = _statistics(info, pixels.device)
    return (pixels - mean) / std


def sha256(*tensors: Tensor, start: str = "") -> str:
    """Of the tensors' bytes after some text, whatever the device."""
    total = hashlib.sha256(start.encode())
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()


def as_set(split: Split, info: DatasetInfo) -> SyntheticSet:
    """Real images as a set: normalised, with hard labels."""
    labels = torch.nn.functional.one_hot(split.labels, info.classes)
    return SyntheticSet(normalize(split.images, info), labels.float())


def split_validation(
    split: Split, share: float, generator: torch.Generator
) -> tuple[Split, Split]:
    """Holds out the same share of every class.

    Args:
        split: what to divide; at least two images in each class present.
        share: of each class's images, in (0, 1); rounded, at least one on each side.
        generator: decides which.

    Returns:
        What remains and what is held out, both in the original order.
    """
    labels = split.labels
    keys = torch.rand(len(labels), generator=generator, device=generator.device)
    shuffled = keys.argsort().to(labels.device)
    index, counts = class_index(labels[shuffled], int(labels.max()) + 1)
    if (counts == 1).any():
        raise DataError("a class of one image cannot be split for validation")
    quota = (counts * share).round().long().clamp(min=1).minimum(counts - 1)
    ranks = torch.arange(index.shape[1], device=labels.device)
    held = torch.zeros_like(labels, dtype=torch.bool)
    held[shuffled[index[ranks < quota[:, None]]]] = True
    return (
        Split(split.images[~held], labels[~held]),
        Split(split.images[held], labels[held]),
    )


@cache
def _statistics(info: DatasetInfo, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std, shaped to broadcast over a batch."""
    both = torch.tensor([info.mean, info.std], dtype=torch.float32, device=device)
    return both[0, :, None, None], both[1, :, None, None]


def hold_out(cell: Cell, train: Split, share: float) -> tuple[Split, Split]:
    """What a cell's method may see of train, and what is kept for validation.

    The same for all methods and numbers of images: they are compared on one split, and
    share what is trained on the other.
    """
    draws = stream(f"{cell.dataset}-s{cell.seed}", "validation")
    return split_validation(train, share, draws)


def held_out_sha256(validation: Split | None) -> str | None:
    """Return what tells held-out images apart; none where nothing is held out."""
    if validation is None:
        return None
    return sha256(validation.images, validation.labels)


def check_ipc(cell: Cell, dataset: Dataset) -> None:
    """Makes sure that every class has enough images.

    Raises:
        UsageError: the smallest class has fewer than ``ipc``.
    """
    counts = torch.bincount(dataset.train.labels, minlength=dataset.info.classes)
    smallest = int(counts.argmin())
    if cell.ipc > counts[smallest]:
        raise UsageError(
            f"ipc {cell.ipc} is more than the {int(counts[smallest])} training images "
            f"of class {dataset.info.class_names[smallest]!r} of {cell.dataset}; "
            "choose a smaller --ipc"
        )
