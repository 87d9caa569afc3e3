"""How many images each class of a set has, and what is wrong with that."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Counts(NamedTuple):
    """The images of a set by class; a soft label counts as its largest entry.

    Attributes:
        images: in all, as stored.
        least: of a class.
        most: of a class.
        absent: the indices of the classes that have none.
        soft: whether labels are soft, so that a class may be taught by others' images.
    """

    images: int
    least: int
    most: int
    absent: tuple[int, ...]
    soft: bool

    def ipc(self, classes: int) -> int:
        """Images per class, rounded up: a set is never called smaller than it is."""
        return -(-self.images // classes)

    def warnings(self, names: Sequence[str]) -> list[str]:
        """What to tell the user; ``names`` are those of the data set's classes."""
        said = []
        if self.absent:
            shown = ", ".join(names[index] for index in self.absent[:5])
            more = " ..." if len(self.absent) > 5 else ""
            largest = "as its largest label" if self.soft else "at all"
            said.append(
                f"NO IMAGE of class {shown}{more} {largest}: {len(self.absent)} of "
                f"{len(names)} classes are missing, and networks trained on this set "
                "can hardly name them"
            )
        if self.least != self.most and not self.soft:
            said.append(
                f"{self.least} to {self.most} images per class, {self.images} in all: "
                f"recorded under IPC {self.ipc(len(names))} (rounded up) with the count"
            )
        return said


def count(labels: Tensor) -> Counts:
    """Return the counts of a set's labels (n, k), whose rows sum to 1."""
    found = torch.bincount(labels.argmax(1), minlength=labels.shape[1])
    return Counts(
        images=len(labels),
        least=int(found.min()),
        most=int(found.max()),
        absent=tuple(torch.nonzero(found == 0).flatten().tolist()),
        soft=bool((labels.amax(1) < 1).any()),
    )
