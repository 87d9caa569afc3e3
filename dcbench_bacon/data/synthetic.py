"""Synthetic sets in memory."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SyntheticSet:
    """The synthetic set that a method returns and that is saved and evaluated.

    Attributes:
        images: images normalised with the data set's mean and standard deviation.
        labels: one row per image that sums to 1; the row of a hard label is one-hot.
        partition: the number of parts along each side of an image, 1 or more; an image
            contains ``partition**2`` smaller ones (IDM, section 3.2).
        provenance: JSON values that describe the origin of the set.
    """

    images: Float32[Tensor, "m c h w"]
    labels: Float32[Tensor, "m k"]
    partition: int = 1
    provenance: dict[str, Any] = field(default_factory=dict)

    def decode(self) -> "SyntheticSet":
        """Return the set with each part of an image enlarged to a full image.

        Returns:
            A set of ``partition**2`` times as many images, ordered by part. For
            ``partition`` 2 these are all top-left parts, then all bottom-left, all
            top-right and all bottom-right ones.
        """
        if self.partition == 1:
            return self
        return replace(
            self,
            images=decode(self.images, self.partition),
            labels=self.labels.repeat(self.partition**2, 1),
            partition=1,
        )

    def to(self, device: torch.device) -> "SyntheticSet":
        """Return the set on another device."""
        return replace(
            self, images=self.images.to(device), labels=self.labels.to(device)
        )


def decode(
    images: Float[Tensor, "n c h w"], partition: int
) -> Float[Tensor, "m c h w"]:
    """Return the ``partition**2`` parts of images, enlarged bilinearly (IDM, 3.2).

    Args:
        images: the stored images; gradients flow through.
        partition: the number of parts along each side, which divides the size.

    Returns:
        The parts, ordered by column and then by row. For 2 these are all top-left
        parts, then all bottom-left, all top-right and all bottom-right ones.
    """
    if partition == 1:
        return images
    *_, height, width = images.shape
    rows, columns = height // partition, width // partition
    parts = [
        images[..., y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
        for x in range(partition)
        for y in range(partition)
    ]
    return F.interpolate(
        torch.cat(parts), size=(height, width), mode="bilinear", align_corners=False
    )
