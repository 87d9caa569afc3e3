"""The augmentation of DC's evaluation, which is older than DSA, for whole batches.

One operation of a strategy is drawn per image: crop, scale, rotate or noise. The
operations are those of ``augment`` in ``utils.py`` of VICO-UoE/DatasetCondensation,
which processes one image at a time with numpy and scipy. Images are normalised. A crop
or a rotation fills what it leaves open with the mean of the batch before any change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from dcbench_bacon.runtime.compute.memory import send

Images = Float[Tensor, "n c h w"]
Groups = Float[Tensor, "g n c h w"]
Values = Float32[Tensor, "n 2"]
Fill = Float[Tensor, "n c"]

# The values of `get_daparam` in the same file.
FRAME = 4  # pixels around the image that is cropped
SCALE = 0.2  # the largest relative change of height and width
DEGREES = 45  # the largest angle
NOISE = 0.001  # the standard deviation
OPERATIONS = ("crop", "scale", "rotate", "noise")


def crop(images: Images, offsets: Values, fill: Fill) -> Images:
    """Return crops of the images, which have a frame of ``FRAME`` pixels.

    Args:
        images: normalised images.
        offsets: the row and column in the framed image at which the crop begins, whole
            numbers from 0 to 7.
        fill: the colour of the frame, per image.
    """
    moved = torch.arange(images.shape[-1]) - FRAME
    index = moved + offsets.long()[..., None]
    return _pick(images, index, (index >= 0) & (index < images.shape[-1]), fill)


def scale(images: Images, sides: Values) -> Images:
    """Return the images resized by nearest neighbours and padded with zeros or cut.

    Args:
        images: normalised, square images.
        sides: the new height and width in whole pixels.
    """
    size = images.shape[-1]
    largest = sides.amax(1, keepdim=True).clamp(min=size)
    # Both the resized and the returned image lie in the middle of the largest one.
    start = ((largest - size) / 2).floor() - ((largest - sides) / 2).floor()
    position = torch.arange(size) + start[..., None]
    inside = (position >= 0) & (position < sides[..., None])
    # The index of the source is rounded down in float32, as in F.interpolate.
    index = (position * (size / sides)[..., None]).floor().long().clamp(max=size - 1)
    return _pick(images, index, inside, torch.zeros(len(images), images.shape[1]))


def rotate(images: Images, degrees: Float32[Tensor, "n"], fill: Fill) -> Images:
    """Return the images rotated by cubic splines and cut to their middle.

    This computes what ``scipy.ndimage.rotate`` computes by default on its larger
    canvas: the splines are mirrored at the border, and points outside the image have
    the colour of the fill.

    Args:
        images: normalised, square images.
        degrees: whole numbers, positive from the axis of rows to that of columns.
        fill: the colour outside the image, per image.
    """
    size = images.shape[-1]
    points = send(rotated_points(degrees.double(), size), images.device)
    inside = ((points >= 0) & (points <= size - 1)).all(1)
    first = points.floor()
    rows, columns = _spline_weights(points - first).unbind(1)
    taps = _mirrored(
        first.long()[..., None] + torch.arange(-1, 3).to(first.device), size
    )
    inverse = send(spline_inverse(size), images.device)
    coefficients = (inverse @ images.double() @ inverse.T).flatten(2)
    total = torch.zeros_like(coefficients)
    for row in range(4):
        for column in range(4):
            index = taps[:, 0, :, row] * size + taps[:, 1, :, column]
            wide = index[:, None].expand_as(coefficients)
            weight = rows[..., row] * columns[..., column]
            total += coefficients.gather(2, wide) * weight[:, None]
    chosen = torch.where(inside[:, None], total.to(images.dtype), fill[:, :, None])
    return chosen.view_as(images)


def rotated_points(
    degrees: Float64[Tensor, "n"], size: int
) -> Float64[Tensor, "n 2 p"]:
    """Return the positions in the images of the pixels of the rotated, cut images.

    Args:
        degrees: the angles.
        size: the height and width of the images in pixels.

    Returns:
        The row and column of each pixel, row after row.
    """
    radians = degrees.deg2rad()
    cos, sin = radians.cos(), radians.sin()
    matrix = torch.stack([cos, sin, -sin, cos], -1).view(-1, 2, 2)
    # The canvas holds the corners of the rotated image.
    canvas = (size * (cos.abs() + sin.abs()) + 0.5).floor()
    cut = ((canvas - size) / 2).floor()
    grid = torch.arange(size, dtype=torch.float64)
    pixels = torch.cartesian_prod(grid, grid).T
    offset = (size - 1) / 2 - matrix.sum(2) * ((canvas - 1) / 2)[:, None]
    return matrix @ (pixels + cut[:, None, None]) + offset[..., None]


def spline_inverse(size: int) -> Float64[Tensor, "s s"]:
    """Return the matrix from values to the coefficients of a cubic B-spline.

    The spline is mirrored at its first and last point.

    Args:
        size: the number of values.
    """
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.diagonal().fill_(4 / 6)
    matrix.diagonal(1).fill_(1 / 6)
    matrix.diagonal(-1).fill_(1 / 6)
    matrix[0, 1] = matrix[-1, -2] = 2 / 6
    return matrix.inverse()


def _spline_weights(after: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b 4"]:
    """Return the weights of the points from one before to two after a position."""
    before = 1 - after
    near = (4 - 6 * after**2 + 3 * after**3) / 6
    far = (4 - 6 * before**2 + 3 * before**3) / 6
    return torch.stack([before**3 / 6, near, far, after**3 / 6], -1)


def _mirrored(index: Int64[Tensor, "*b"], size: int) -> Int64[Tensor, "*b"]:
    """Return indices from 0 to ``size - 1``: those outside are mirrored at the ends."""
    index = index.abs()
    return torch.where(index > size - 1, 2 * (size - 1) - index, index).clamp(
        0, size - 1
    )


def _pick(
    images: Images, index: Int64[Tensor, "n 2 s"], inside: Tensor, fill: Fill
) -> Images:
    """Return the pixels of given rows and columns, with the fill where outside."""
    size, device = images.shape[-1], images.device
    index = index.clamp(0, size - 1)
    flat = send(index[:, 0, :, None] * size + index[:, 1, None], device).flatten(1)
    kept = send(inside[:, 0, :, None] & inside[:, 1, None], device)
    wide = flat[:, None].expand(-1, images.shape[1], -1)
    taken = images.flatten(2).gather(2, wide).view_as(images)
    return torch.where(kept[:, None], taken, send(fill, device)[..., None, None])


@dataclass(frozen=True)
class Draws:
    """The numbers drawn for each image of each group, on the CPU.

    Attributes:
        uniforms: numbers in [0, 1) that decide the operation and its two parameters.
        noise: standard normal numbers in the shape of the images; empty if the strategy
            has no noise.
    """

    uniforms: Float32[Tensor, "g n 3"]
    noise: Float32[Tensor, "g n _ _ _"]

    @staticmethod
    def cat(draws: "Sequence[Draws]") -> "Draws":
        """Return the draws joined along the groups."""
        uniforms = torch.cat([draw.uniforms for draw in draws])
        return Draws(uniforms, torch.cat([draw.noise for draw in draws]))


class DCAugmentation:
    """An augmentation by one operation of a strategy per image.

    Args:
        strategy: names of ``OPERATIONS``.
        shape: the channels, height and width of the images, which are square.
    """

    def __init__(self, strategy: Sequence[str], shape: tuple[int, int, int]) -> None:
        """Keep the strategy and the shape."""
        self.strategy = tuple(strategy)
        self.shape = shape

    def draw(self, groups: int, generator: torch.Generator, samples: int) -> Draws:
        """Return draws for each image of each group.

        Args:
            groups: the number of groups.
            generator: a generator on the CPU. It advances by the same amount for every
                outcome.
            samples: the number of images per group.
        """
        shape = self.shape if "noise" in self.strategy else (0, 0, 0)
        uniforms = torch.rand(groups, samples, 3, generator=generator, device="cpu")
        noise = torch.randn(groups, samples, *shape, generator=generator, device="cpu")
        return Draws(uniforms.float(), noise.float())

    def apply(self, images: Groups, draw: Draws) -> Groups:
        """Return augmented normalised images; the images of a group are a batch."""
        means = images.mean((1, 3, 4))[:, None].expand(*images.shape[:3]).flatten(0, 1)
        flat, uniforms = images.flatten(0, 1), draw.uniforms.flatten(0, 1)
        chosen = _whole(uniforms[:, 0], len(self.strategy))
        output = flat.clone()
        for code, name in enumerate(self.strategy):
            members = (chosen == code).nonzero()[:, 0]
            if len(members):
                index = send(members, images.device)
                noise = draw.noise.flatten(0, 1)
                noise = noise[members] if name == "noise" else noise
                output[index] = self._run(
                    name, flat[index], uniforms[members, 1:], means[index], noise
                )
        return output.view_as(images)

    def _run(
        self, name: str, images: Images, uniforms: Values, means: Fill, noise: Tensor
    ) -> Images:
        """Return the images that drew an operation after this operation."""
        size = images.shape[-1]
        if name == "crop":
            return crop(images, _whole(uniforms, 2 * FRAME).float(), means)
        if name == "scale":
            factors = 1 - SCALE + 2 * SCALE * uniforms
            return scale(images, (factors * size).floor())
        if name == "rotate":
            degrees = _whole(uniforms[:, 0], 2 * DEGREES) - DEGREES
            fill = means.mean(1, keepdim=True).expand_as(means)
            return rotate(images, degrees.float(), fill)
        return images + NOISE * send(noise, images.device).to(images.dtype)


def _whole(uniforms: Tensor, count: int) -> Tensor:
    """Return integers from 0 to ``count - 1`` for numbers in [0, 1)."""
    # The product may round up to `count`.
    return (uniforms * count).long().clamp(max=count - 1)
