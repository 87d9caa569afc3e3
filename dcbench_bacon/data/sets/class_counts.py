"""The number of images per class of a set, and warnings about it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Counts(NamedTuple):
    """The number of images per class; a soft label counts as its largest entry.

    Attributes:
        images: the number of images in the set, as stored.
        least: the smallest number of images per class.
        most: the largest number of images per class.
        absent: the indices of the classes without images.
        soft: whether labels are soft, so that images of other classes may also teach a
            class.
    """

    images: int
    least: int
    most: int
    absent: tuple[int, ...]
    soft: bool

    def ipc(self, classes: int) -> int:
        """Return the images per class, rounded up so as not to understate the set."""
        return -(-self.images // classes)

    def warnings(self, names: Sequence[str]) -> list[str]:
        """Return the warnings for the user; ``names`` are the names of the classes."""
        said = []
        if self.absent:
            shown = ", ".join(names[index] for index in self.absent[:5])
            more = " ..." if len(self.absent) > 5 else ""
            largest = "as its largest label" if self.soft else "at all"
            said.append(
                f"NO IMAGE of class {shown}{more} {largest}: {len(self.absent)} of "
                f"{len(names)} classes are missing, and networks trained on this set "
                "can hardly recognise them"
            )
        if self.least != self.most and not self.soft:
            said.append(
                f"{self.least} to {self.most} images per class, {self.images} in all: "
                f"recorded under IPC {self.ipc(len(names))} (rounded up) with the count"
            )
        return said


def count(labels: Tensor) -> Counts:
    """Return the counts for the labels (n, k) of a set, whose rows sum to 1."""
    images = torch.bincount(labels.argmax(1), minlength=labels.shape[1])
    return Counts(
        images=len(labels),
        least=int(images.min()),
        most=int(images.max()),
        absent=tuple(torch.nonzero(images == 0).flatten().tolist()),
        soft=bool((labels.amax(1) < 1).any()),
    )
