"""Splits of real images, and synthetic sets, in memory."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Split:
    """Images and labels of train or test, resident on one device.

    Attributes:
        images: pixels as they are on disk, 0 to 255; or whitened.
        labels: class indices.
    """

    images: UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class SyntheticSet:
    """What a method returns, what is saved and what is evaluated.

    Attributes:
        images: normalised with the data set's mean and std.
        labels: rows sum to 1; a hard label is one-hot.
        partition: each image holds ``partition**2`` smaller ones (IDM, section 3.2).
        provenance: JSON values that say where the set comes from.
    """

    images: Float32[Tensor, "m c h w"]
    labels: Float32[Tensor, "m k"]
    partition: int = 1
    provenance: dict[str, Any] = field(default_factory=dict)

    def decode(self) -> "SyntheticSet":
        """Cuts every image into its parts and enlarges them to the full size.

        Returns:
            A set of ``partition**2`` times as many images, ordered part by part: all
            top-left parts, all bottom-left, all top-right, all bottom-right.
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
        """The same set on another device."""
        return replace(
            self, images=self.images.to(device), labels=self.labels.to(device)
        )


def decode(
    images: Float[Tensor, "n c h w"], partition: int
) -> Float[Tensor, "m c h w"]:
    """Cuts images into ``partition**2`` parts, each enlarged bilinearly (IDM, 3.2).

    Args:
        images: the stored images; gradients flow through.
        partition: parts along each side; must divide the size.

    Returns:
        The parts, columns outermost: for 2, all TL, then all BL, all TR, all BR.
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
