"""The operations of differentiable siamese augmentation (DSA), batched and for Kornia.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation",
ICML 2021, https://arxiv.org/abs/2102.08259. The batched functions hold the arithmetic,
the ``DSA*`` classes offer them to Kornia. Images are normalized, so that the zeros that
fill borders are the mean color.
"""

from math import pi

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "n c h w"]
Values = Shaped[Tensor, "n"]  # A parameter of each image; on the CPU or beside them.
Thetas = Float[Tensor, "m 2 3"]
Size = tuple[int, int]

# ParamDiffAug of the authors' code, github.com/VICO-UoE/DatasetCondensation, utils.py.
FLIP_PROBABILITY = 0.5
SCALE_RATIO = 1.2
ROTATE_DEGREES = 15.0
CROP_RATIO = 0.125
CUTOUT_RATIO = 0.5
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
PARAMETERS = 3  # The most any operation has; a group draws as many whatever it needs.


def flip(images: Images, flags: Values) -> Images:
    """Mirrors left and right where the flag is not zero."""
    return torch.where(_column(flags, images).bool(), images.flip(-1), images)


def scale(images: Images, x: Values, y: Values, align_corners: bool = False) -> Images:
    """Shrinks the content ``x`` times in width and ``y`` times in height."""
    return affine(images, scale_theta(x, y), align_corners)


def rotate(images: Images, degrees: Values, align_corners: bool = False) -> Images:
    """Turns the content counter-clockwise as displayed."""
    return affine(images, rotate_theta(degrees), align_corners)


def scale_theta(x: Values, y: Values) -> Float[Tensor, "n 2 3"]:
    """Where an output point lies in the input: above 1 is outside, so zooms out."""
    zero = torch.zeros_like(x)
    return torch.stack([x, zero, zero, zero, y, zero], -1).view(-1, 2, 3)


def rotate_theta(degrees: Values) -> Float[Tensor, "n 2 3"]:
    """Where an output point lies in the input, in coordinates from -1 to 1."""
    angle = degrees * (pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero], -1).view(-1, 2, 3)


def affine(
    images: Images, theta: Thetas, align_corners: bool = False, mode: str = "bilinear"
) -> Images:
    """Resamples images, zeros beyond the border.

    Args:
        images: gradients flow through.
        theta: as ``F.affine_grid`` takes it. With fewer matrices than images, each
            serves a run of ``n / m`` images.
        align_corners: False in DSA's code, True in MTT's and DD-Ranking's. It has no
            effect on these centred maps, rotations of oblong images apart.
        mode: the interpolation, ``bilinear`` or ``nearest``.
    """
    count, channels, height, width = images.shape
    run, inputs = count // max(len(theta), 1), images
    theta = theta.to(images.device, images.dtype, non_blocking=True)
    if run > 1 and images.device.type == "cpu":
        # Images of a run share their grid as channels do: its weights are computed
        # once. A GPU would lose the threads that many images keep busy.
        inputs = images.reshape(len(theta), run * channels, height, width)
    elif run > 1:
        theta = theta.repeat_interleave(run, 0)
    grid = F.affine_grid(theta, list(inputs.shape), align_corners=align_corners)
    outputs = F.grid_sample(inputs, grid, mode, "zeros", align_corners=align_corners)
    return outputs.reshape(images.shape)


def crop(images: Images, rows: Values, columns: Values) -> Images:
    """Moves the content up by ``rows`` and left by ``columns`` whole pixels."""
    _, channels, height, width = images.shape
    y, x = _positions(rows, height, images), _positions(columns, width, images)
    index = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    # Outside, any valid index does: what is read there is overwritten by zero.
    index = index.flatten(1)[:, None].expand(-1, channels, -1)
    taken = images.flatten(2).gather(2, index).view(images.shape)
    return taken.masked_fill(~inside[:, None], 0)


def cutout(images: Images, row: Values, column: Values) -> Images:
    """Zeros a square of half the image's size, around a centre."""
    erased = []
    for centre, size in zip((row, column), images.shape[-2:], strict=True):
        side = cutout_side(size)
        index = _positions(side // 2 - centre, size, images)
        # For a centre on the image, the published clamping of the square's indices is
        # the same as cutting the square off at the border.
        erased.append((index >= 0) & (index < side))
    rows, columns = erased
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)


def color(
    images: Images, brightness: Values, saturation: Values, contrast: Values
) -> Images:
    """Changes brightness, then saturation, then contrast; values from 0 to 1."""
    images = images + (_column(brightness, images) - 0.5) * BRIGHTNESS
    gray = images.mean(1, keepdim=True)
    images = torch.lerp(gray, images, _column(saturation, images) * SATURATION)
    mean = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, _column(contrast, images) + CONTRAST)


def _column(values: Values, images: Images) -> Float[Tensor, "n 1 1 1"]:
    moved = values.to(images.device, images.dtype, non_blocking=True)
    return moved[:, None, None, None]


def _positions(shift: Values, size: int, images: Images) -> Shaped[Tensor, "n size"]:
    """The index of each pixel along an axis, moved by each image's shift."""
    moved = shift.to(images.device, torch.int64, non_blocking=True)
    return torch.arange(size, device=images.device) + moved[:, None]


def cutout_side(size: int) -> int:
    """Return the side of the square that cutout removes, in pixels."""
    return int(CUTOUT_RATIO * size + 0.5)
