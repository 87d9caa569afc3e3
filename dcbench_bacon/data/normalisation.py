"""The standardisation of pixels with the mean and deviation of a data set."""

from functools import cache

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from dcbench_bacon.schema import DatasetInfo


def normalize(
    images: UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Return images scaled to [0, 1] and then standardised per channel.

    Whitened images are not pixels and are returned unchanged.
    """
    if images.dtype == torch.float32:
        return images
    mean, std = _statistics(info, images.device)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def denormalize(
    images: Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Return the pixels of normalised images on the scale [0, 1], not clamped."""
    mean, std = _statistics(info, images.device)
    return images * std + mean


def standardize(
    pixels: Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Return the normalised images of pixels on the scale [0, 1]."""
    mean, std = _statistics(info, pixels.device)
    return (pixels - mean) / std


@cache
def _statistics(info: DatasetInfo, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation in shapes that broadcast over a batch."""
    both = torch.tensor([info.mean, info.std], dtype=torch.float32, device=device)
    return both[0, :, None, None], both[1, :, None, None]
