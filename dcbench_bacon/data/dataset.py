"""Data sets in memory, their normalisation, and their splits for validation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor

from dcbench_bacon.data.normalisation import denormalize as denormalize
from dcbench_bacon.data.normalisation import normalize as normalize
from dcbench_bacon.data.normalisation import standardize as standardize
from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.splits import sha256 as sha256
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.field_types import IdentifiedBy
from dcbench_bacon.runtime.seeds import stream
from dcbench_bacon.schema import Cell, DatasetInfo


@dataclass(frozen=True)
class RawSplit:
    """A decoded split before any check: images (n, c, h, w) and labels (n,)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A data set on one device.

    Attributes:
        info: the facts of the data set.
        train: the official training images.
        test: the official test images.
        fingerprint: the SHA-256 of all pixels, labels and shapes; whitened images have
            another one.
        zca: JSON values that describe the whitening; None for images that are not
            whitened.
        before_whitening: the fingerprint of the images before whitening; None for
            images that are not whitened.
        identified_by: what the fingerprint is of: the content, or the names, sizes and
            times of image files that are decoded when they are needed.
    """

    info: DatasetInfo
    train: Split
    test: Split
    fingerprint: str
    zca: dict[str, Any] | None = None
    before_whitening: str | None = None
    identified_by: IdentifiedBy = "content"

    @property
    def raw_fingerprint(self) -> str:
        """The fingerprint before any whitening, by which results are named."""
        return self.before_whitening or self.fingerprint


def class_index(
    labels: Int64[Tensor, "n"], classes: int
) -> tuple[Int64[Tensor, "c n_max"], Int64[Tensor, "c"]]:
    """Return the positions of each class's images, to draw from all classes at once.

    Returns:
        Ascending positions, one row per class, padded with -1; and the number of images
        per class.
    """
    counts = torch.bincount(labels, minlength=classes)
    order = labels.argsort(stable=True)
    ranks = torch.arange(len(labels), device=labels.device)
    ranks = ranks - (counts.cumsum(0) - counts)[labels[order]]
    width = int(counts.max()) if classes else 0
    index = labels.new_full((classes, width), -1)
    index[labels[order], ranks] = order
    return index, counts


def as_set(split: Split, info: DatasetInfo) -> SyntheticSet:
    """Return real images as a set: normalised and with hard labels."""
    labels = torch.nn.functional.one_hot(split.labels, info.classes)
    return SyntheticSet(split.whole(), labels.float())


def split_validation(
    split: Split, share: float, generator: torch.Generator
) -> tuple[Split, Split]:
    """Return a split without the held-out images, and the held-out images.

    Args:
        split: the split to divide; each class that occurs has two images or more.
        share: the share of each class that is held out, in (0, 1). The number of images
            is rounded; at least one image of each class is on either side.
        generator: draws the images that are held out.

    Returns:
        The remaining and the held-out images, both in the original order.

    Raises:
        DataError: a class has one image only.
    """
    labels = split.labels
    keys = torch.rand(len(labels), generator=generator, device=generator.device)
    shuffled = keys.argsort().to(labels.device)
    index, counts = class_index(labels[shuffled], int(labels.max()) + 1)
    if (counts == 1).any():
        raise DataError(
            "a class with one image cannot be split for validation; add images to it"
        )
    quota = (counts * share).round().long().clamp(min=1).minimum(counts - 1)
    ranks = torch.arange(index.shape[1], device=labels.device)
    held = torch.zeros_like(labels, dtype=torch.bool)
    held[shuffled[index[ranks < quota[:, None]]]] = True
    return split.subset(~held), split.subset(held)


def hold_out(cell: Cell, train: Split, share: float) -> tuple[Split, Split]:
    """Return the part of train that a cell's method sees, and the validation split.

    They are the same for all methods and numbers of images per class, so that methods
    are compared on the same images and share the networks trained on the others.
    """
    draws = stream(f"{cell.dataset}-s{cell.seed}", "validation")
    return split_validation(train, share, draws)


def held_out_sha256(validation: Split | None) -> str | None:
    """Return the SHA-256 of held-out images and labels, or None without any."""
    if validation is None:
        return None
    return validation.sha256()


def check_ipc(cell: Cell, dataset: Dataset) -> None:
    """Make sure that every class has as many images as a cell needs.

    Raises:
        UsageError: the smallest class has fewer than ``cell.ipc`` images.
    """
    counts = torch.bincount(dataset.train.labels, minlength=dataset.info.classes)
    smallest = int(counts.argmin())
    if cell.ipc > counts[smallest]:
        raise UsageError(
            f"ipc {cell.ipc} is more than the {int(counts[smallest])} training images "
            f"of class {dataset.info.class_names[smallest]!r} of {cell.dataset}; "
            "choose a smaller --ipc"
        )
