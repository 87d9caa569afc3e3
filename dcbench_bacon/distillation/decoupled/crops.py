"""Random crops of images, resized by one antialiased bilinear rule everywhere."""

from math import cos, log, pi

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcbench_bacon.distillation.decoupled.settings import RecoverySettings

ATTEMPTS = 10  # as RandomResizedCrop of torchvision
ASPECT = (3 / 4, 4 / 3)  # range of width / height, as there


def draw_boxes(
    count: int,
    size: int,
    least: float,
    generator: torch.Generator,
    aspect: tuple[float, float] = ASPECT,
) -> Int64[Tensor, "count 4"]:
    """Return random boxes inside a square image, as torchvision draws them.

    The area is uniform in [``least``, 1] of the image's, the logarithm of the aspect
    ratio is uniform, and the first of ten draws that fits counts. Where none fits, the
    box is the whole image.

    Args:
        count: the number of boxes.
        size: the pixels along a side of the image.
        least: the least share of the area.
        generator: a generator on the CPU. It advances by the same amount for every
            outcome.
        aspect: the range of the width divided by the height.

    Returns:
        Top, left, height and width of each box in pixels, on the CPU.
    """
    drawn = torch.rand(
        count, ATTEMPTS, 4, generator=generator, device="cpu", dtype=torch.float64
    )
    area = size**2 * (least + (1 - least) * drawn[..., 0])
    low, high = log(aspect[0]), log(aspect[1])
    ratio = (low + (high - low) * drawn[..., 1]).exp()
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], -1)
    sides = sides.round().long()
    fits = ((sides > 0) & (sides <= size)).all(-1)
    first = fits.long().argmax(1)  # 0 where none fits
    row = torch.arange(count)
    sides = torch.where(fits[row, first][:, None], sides[row, first], size)
    room = (size + 1 - sides).double()
    corner = (drawn[row, first, 2:] * room).long()
    return torch.cat([corner, sides], 1)


def resized_crops(
    images: Float[Tensor, "n c h w"], boxes: Int64[Tensor, "m 4"], side: int
) -> Float[Tensor, "n c s s"]:
    """Return a crop of each image, resized bilinearly with antialiasing.

    The values are those of ``resized_crop`` of torchvision with ``antialias=True``.

    Args:
        images: the images; gradients flow through.
        boxes: top, left, height and width of each image's box, or one box for all, on
            the device of the images.
        side: the side of the results in pixels.
    """
    top, left, height, width = boxes.unbind(1)
    rows = _resampling(top, height, images.shape[-2], side).to(images.dtype)
    columns = _resampling(left, width, images.shape[-1], side).to(images.dtype)
    return rows[:, None] @ images @ columns[:, None].transpose(-1, -2)


def _resampling(
    start: Int64[Tensor, "m"], length: Int64[Tensor, "m"], size: int, side: int
) -> Float[Tensor, "m s z"]:
    """Return the weight of each pixel of an axis in each pixel of the result."""
    first, count = start[:, None, None].double(), length[:, None, None].double()
    scale = count / side
    target = torch.arange(side, device=start.device)[None, :, None]
    source = torch.arange(size, device=start.device)[None, None, :] + 0.5 - first
    distance = (source - scale * (target + 0.5)).abs() / scale.clamp(min=1)
    inside = (source > 0) & (source < count)
    weights = torch.where(inside, (1 - distance).clamp(min=0), 0.0)
    return weights / weights.sum(-1, keepdim=True)


def least_area(settings: RecoverySettings, done: float) -> float:
    """Return the least share of the area that a view shows.

    Args:
        settings: the curriculum.
        done: the share of a batch's steps that are done, in [0, 1).
    """
    least, milestone = settings.view_area, settings.milestone
    if settings.curriculum == "none" or done >= milestone:
        return least
    falling = {
        "step": 1.0,
        "linear": 1 - done / milestone,
        "cosine": (1 + cos(pi * done / milestone)) / 2,
    }
    return least + (1 - least) * falling[settings.curriculum]
