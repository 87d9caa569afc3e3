"""The operations of differentiable siamese augmentation (DSA), batched and for Kornia.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation",
ICML 2021, https://arxiv.org/abs/2102.08259. The batched functions hold the arithmetic,
the ``DSA*`` classes offer them to Kornia. Images are normalized, so that the zeros that
fill borders are the mean color.
"""

from collections.abc import Callable
from math import pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float32, Shaped
from kornia.augmentation import (
    GeometricAugmentationBase2D,
    IntensityAugmentationBase2D,
    RigidAffineAugmentationBase2D,
)
from kornia.constants import Resample
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
        side = _cutout_side(size)
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


def _cutout_side(size: int) -> int:
    return int(CUTOUT_RATIO * size + 0.5)


class Operation(RigidAffineAugmentationBase2D):
    """What the Kornia classes share: drawing, and running the batched function.

    ``same_on_batch=True`` is siamese. ``aug(images, params=aug._params)`` repeats a
    draw; on a batch of another size, expand one row of each parameter. Every image is
    augmented: at ``p = 1`` Kornia draws nothing itself, so all randomness comes from
    ``generator`` (on the CPU), or from torch's own if there is none.
    """

    names: ClassVar[tuple[str, ...]]
    whole: ClassVar[bool] = False  # Whether values are integers, both limits included.
    run: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        """Takes Kornia's two options and where random numbers come from."""
        super().__init__(p=1.0, same_on_batch=same_on_batch, keepdim=keepdim)
        self.generator = generator

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Of uniformly drawn values, for an image of that height or width."""
        return 0.0, 1.0

    @classmethod
    def sample(
        cls, uniforms: Float32[Tensor, "*b 3"], size: Size
    ) -> tuple[Float32[Tensor, "*b"], ...]:
        """Turns uniform numbers into the parameters, in the order of ``names``."""
        values = []
        columns = zip(uniforms.unbind(-1), (0, 1, 1), cls.names, strict=False)
        for uniform, axis, _ in columns:
            low, high = cls.limits(size[axis])
            # The clamp: a product may round up to the next integer.
            steps = (uniform * (high - low + 1)).floor().clamp(max=high - low)
            values.append(low + (steps if cls.whole else uniform * (high - low)))
        return tuple(values)

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draws one row for each image, or one for all."""
        count, *_, height, width = batch_shape
        shape = (1 if self.same_on_batch else count, PARAMETERS)
        uniforms = torch.rand(*shape, generator=self.generator, device="cpu")
        values = self.sample(uniforms.float(), (height, width))
        expanded = (value.expand(count) for value in values)
        return dict(zip(self.names, expanded, strict=True))

    def apply_transform(
        self, input: Tensor, params: Any, flags: Any, transform: Tensor | None = None
    ) -> Tensor:
        """Kornia's hook; ``transform`` is not needed."""
        return self.run(input, *(params[name] for name in self.names))


class _Geometric(Operation, GeometricAugmentationBase2D):
    """An operation that is linear around the centre of the image."""

    theta: ClassVar[Any]

    def compute_transformation(self, input: Tensor, params: Any, flags: Any) -> Tensor:
        """The matrices from input to output pixels, which move boxes and keypoints."""
        theta = self.theta(*(params[name] for name in self.names)).to(input)
        size = torch.tensor([input.shape[-1], input.shape[-2]]).to(input)
        half = (size - int(flags.get("align_corners", False))) / 2
        linear = theta[:, :, :2].inverse() * (half[:, None] / half)
        centre = (size - 1) / 2
        return _matrix(linear, centre - linear @ centre)


class _Affine(_Geometric):
    """A geometric operation that resamples."""

    def __init__(self, align_corners: bool = False, **options: Any) -> None:
        """Takes ``align_corners`` as in ``affine``; the rest as every operation."""
        super().__init__(**options)
        # Kornia changes `resample` to nearest when it transforms masks.
        self.flags = {"align_corners": align_corners, "resample": Resample.BILINEAR}

    def apply_transform(
        self, input: Tensor, params: Any, flags: Any, transform: Tensor | None = None
    ) -> Tensor:
        """Kornia's hook; ``transform`` is not needed."""
        theta = self.theta(*(params[name] for name in self.names))
        mode = flags["resample"].name.lower()
        return affine(input, theta, flags["align_corners"], mode)


class DSAFlip(_Geometric):
    """Mirrors left and right, half of the images."""

    names = ("flags",)
    run = staticmethod(flip)

    @classmethod
    def sample(
        cls, uniforms: Float32[Tensor, "*b 3"], size: Size
    ) -> tuple[Float32[Tensor, "*b"], ...]:
        """Flags, 0 or 1."""
        return ((uniforms[..., 0] < FLIP_PROBABILITY).float(),)

    @staticmethod
    def theta(flags: Values) -> Thetas:
        """The mirror as an affine map."""
        return scale_theta(1 - 2 * flags, torch.ones_like(flags))


class DSAScale(_Affine):
    """Zooms width and height independently, by 1/1.2 to 1.2."""

    names = ("x", "y")
    theta = staticmethod(scale_theta)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Above 1 zooms out."""
        return 1 / SCALE_RATIO, SCALE_RATIO


class DSARotate(_Affine):
    """Turns by -15 to 15 degrees."""

    names = ("degrees",)
    theta = staticmethod(rotate_theta)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Counter-clockwise as displayed."""
        return -ROTATE_DEGREES, ROTATE_DEGREES


class DSACrop(Operation, GeometricAugmentationBase2D):
    """Moves by whole pixels, up to an eighth of the size, and fills with zeros."""

    names = ("rows", "columns")
    whole = True
    run = staticmethod(crop)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Shifts of either sign."""
        shift = int(CROP_RATIO * length + 0.5)
        return float(-shift), float(shift)

    def compute_transformation(self, input: Tensor, params: Any, flags: Any) -> Tensor:
        """The matrices from input to output pixels."""
        offset = -torch.stack([params["columns"], params["rows"]], -1).to(input)
        return _matrix(torch.eye(2).to(input).expand(len(offset), 2, 2), offset)


class DSACutout(Operation, IntensityAugmentationBase2D):
    """Zeros a square of half the size, cut off at the border."""

    names = ("row", "column")
    whole = True
    run = staticmethod(cutout)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """The centre; an even square's lies between pixels, so one more fits."""
        return 0.0, float(length - _cutout_side(length) % 2)


class DSAColor(Operation, IntensityAugmentationBase2D):
    """Changes brightness, saturation and contrast."""

    names = ("brightness", "saturation", "contrast")
    run = staticmethod(color)


def _matrix(
    linear: Float[Tensor, "n 2 2"], offset: Float[Tensor, "n 2"]
) -> Float[Tensor, "n 3 3"]:
    matrix = F.pad(torch.cat([linear, offset[:, :, None]], 2), (0, 0, 0, 1))
    matrix[:, 2, 2] = 1
    return matrix


OPERATIONS: dict[str, type[Operation]] = {
    "color": DSAColor,
    "crop": DSACrop,
    "cutout": DSACutout,
    "flip": DSAFlip,
    "scale": DSAScale,
    "rotate": DSARotate,
}
