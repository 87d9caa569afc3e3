"""The operations of differentiable siamese augmentation (DSA) as batched functions.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation",
ICML 2021, https://arxiv.org/abs/2102.08259. Images are normalised, so that the zeros
that fill borders are the mean colour. ``kornia_modules`` offers the operations as
modules of Kornia.
"""

from math import pi

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "n c h w"]
Values = Shaped[Tensor, "n"]  # one parameter per image, on the CPU or beside the images
Thetas = Float[Tensor, "m 2 3"]
Size = tuple[int, int]

# The values of ParamDiffAug in utils.py of github.com/VICO-UoE/DatasetCondensation.
FLIP_PROBABILITY = 0.5
SCALE_RATIO = 1.2
ROTATE_DEGREES = 15.0
CROP_RATIO = 0.125
CUTOUT_RATIO = 0.5
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
PARAMETERS = 3  # the most that an operation needs; as many are drawn for each one


def flip(images: Images, flags: Values) -> Images:
    """Return the images mirrored left to right where the flag is not zero."""
    return torch.where(_column(flags, images).bool(), images.flip(-1), images)


def scale(images: Images, x: Values, y: Values, align_corners: bool = False) -> Images:
    """Return the images with content ``x`` times narrower and ``y`` times lower."""
    return affine(images, scale_theta(x, y), align_corners)


def rotate(images: Images, degrees: Values, align_corners: bool = False) -> Images:
    """Return the images with their content turned counter-clockwise, as displayed."""
    return affine(images, rotate_theta(degrees), align_corners)


def scale_theta(x: Values, y: Values) -> Float[Tensor, "n 2 3"]:
    """Return the matrices from output to input points of a scaling.

    Args:
        x: the factors of the width; values above 1 shrink the content.
        y: the factors of the height.
    """
    zero = torch.zeros_like(x)
    return torch.stack([x, zero, zero, zero, y, zero], -1).view(-1, 2, 3)


def rotate_theta(degrees: Values) -> Float[Tensor, "n 2 3"]:
    """Return the matrices from output to input points of a rotation.

    Args:
        degrees: the angles, positive counter-clockwise as displayed.
    """
    angle = degrees * (pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero], -1).view(-1, 2, 3)


def affine(
    images: Images, theta: Thetas, align_corners: bool = False, mode: str = "bilinear"
) -> Images:
    """Return the images resampled by affine maps, with zeros beyond the border.

    Args:
        images: the images; gradients flow through.
        theta: matrices as ``F.affine_grid`` takes them, in coordinates from -1 to 1. If
            there are fewer matrices than images, each serves ``n / m`` images in a row.
        align_corners: False in DSA's code, True in MTT's and DD-Ranking's. It has an
            effect on rotations of images that are not square only.
        mode: the interpolation, ``bilinear`` or ``nearest``.
    """
    count, channels, height, width = images.shape
    run, inputs = count // max(len(theta), 1), images
    theta = theta.to(images.device, images.dtype, non_blocking=True)
    if run > 1 and images.device.type == "cpu":
        # The images of a run become channels of one image, so that the weights of their
        # grid are computed once. A GPU is slower with so few images.
        inputs = images.reshape(len(theta), run * channels, height, width)
    elif run > 1:
        theta = theta.repeat_interleave(run, 0)
    grid = F.affine_grid(theta, list(inputs.shape), align_corners=align_corners)
    outputs = F.grid_sample(inputs, grid, mode, "zeros", align_corners=align_corners)
    return outputs.reshape(images.shape)


def crop(images: Images, rows: Values, columns: Values) -> Images:
    """Return the images moved up by ``rows`` and left by ``columns`` whole pixels."""
    _, channels, height, width = images.shape
    y, x = _positions(rows, height, images), _positions(columns, width, images)
    index = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    # Outside, any valid index will do, because zeros replace what is read there.
    index = index.flatten(1)[:, None].expand(-1, channels, -1)
    taken = images.flatten(2).gather(2, index).view(images.shape)
    return taken.masked_fill(~inside[:, None], 0)


def cutout(images: Images, row: Values, column: Values) -> Images:
    """Return the images with zeros in a square of half their size around a centre."""
    erased = []
    for centre, size in zip((row, column), images.shape[-2:], strict=True):
        side = cutout_side(size)
        index = _positions(side // 2 - centre, size, images)
        # For a centre inside the image, the published clamping of the square's indices
        # is the same as cutting the square off at the border.
        erased.append((index >= 0) & (index < side))
    rows, columns = erased
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)


def color(
    images: Images, brightness: Values, saturation: Values, contrast: Values
) -> Images:
    """Return the images with changed brightness, then saturation, then contrast.

    Args:
        images: the images.
        brightness: one number in [0, 1] per image; 0.5 changes nothing.
        saturation: one number in [0, 1] per image; 0.5 changes nothing.
        contrast: one number in [0, 1] per image; 0.5 changes nothing.
    """
    images = images + (_column(brightness, images) - 0.5) * BRIGHTNESS
    gray = images.mean(1, keepdim=True)
    images = torch.lerp(gray, images, _column(saturation, images) * SATURATION)
    mean = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, _column(contrast, images) + CONTRAST)


def _column(values: Values, images: Images) -> Float[Tensor, "n 1 1 1"]:
    moved = values.to(images.device, images.dtype, non_blocking=True)
    return moved[:, None, None, None]


def _positions(shift: Values, size: int, images: Images) -> Shaped[Tensor, "n size"]:
    """Return the index of each pixel along an axis plus the shift of its image."""
    moved = shift.to(images.device, torch.int64, non_blocking=True)
    return torch.arange(size, device=images.device) + moved[:, None]


def cutout_side(size: int) -> int:
    """Return the side in pixels of the square that cutout sets to zero."""
    return int(CUTOUT_RATIO * size + 0.5)
