"""The operations of DSA as modules of Kornia."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float32
from kornia.augmentation import (
    GeometricAugmentationBase2D,
    IntensityAugmentationBase2D,
    RigidAffineAugmentationBase2D,
)
from kornia.constants import Resample
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augmentation.dsa import (
    CROP_RATIO,
    FLIP_PROBABILITY,
    PARAMETERS,
    ROTATE_DEGREES,
    SCALE_RATIO,
    Size,
    Thetas,
    Values,
    affine,
    color,
    crop,
    cutout,
    cutout_side,
    flip,
    rotate_theta,
    scale_theta,
)


class DSAOperation(RigidAffineAugmentationBase2D):
    """The base class, which draws parameters and runs the batched function.

    ``same_on_batch=True`` is siamese. ``aug(images, params=aug._params)`` repeats a
    draw; for a batch of another size, expand one row of each parameter. Every image is
    augmented: with ``p = 1`` Kornia draws no random numbers itself, so that all of them
    come from ``generator``.

    Args:
        same_on_batch: whether all images of a batch have the same parameters.
        keepdim: whether the output keeps the number of dimensions of the input.
        generator: a generator on the CPU; by default torch's global generator.
    """

    names: ClassVar[tuple[str, ...]]
    whole: ClassVar[bool] = False  # whether values are integers, both limits included
    run: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        """Pass the options to Kornia and keep the generator."""
        super().__init__(p=1.0, same_on_batch=same_on_batch, keepdim=keepdim)
        self.generator = generator

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Return the limits of the values for an image of that height or width."""
        return 0.0, 1.0

    @classmethod
    def sample(
        cls, uniforms: Float32[Tensor, "*b 3"], size: Size
    ) -> tuple[Float32[Tensor, "*b"], ...]:
        """Return the parameters for uniform numbers, in the order of ``names``."""
        values = []
        columns = zip(uniforms.unbind(-1), (0, 1, 1), cls.names, strict=False)
        for uniform, axis, _ in columns:
            low, high = cls.limits(size[axis])
            # Clamped because the product may round up to the next integer.
            steps = (uniform * (high - low + 1)).floor().clamp(max=high - low)
            values.append(low + (steps if cls.whole else uniform * (high - low)))
        return tuple(values)

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return the parameters by name, one row per image or the same row for all."""
        count, *_, height, width = batch_shape
        shape = (1 if self.same_on_batch else count, PARAMETERS)
        uniforms = torch.rand(*shape, generator=self.generator, device="cpu")
        values = self.sample(uniforms.float(), (height, width))
        expanded = (value.expand(count) for value in values)
        return dict(zip(self.names, expanded, strict=True))

    def apply_transform(
        self, input: Tensor, params: Any, flags: Any, transform: Tensor | None = None
    ) -> Tensor:
        """Return the transformed images; Kornia calls this, ``transform`` is unused."""
        return self.run(input, *(params[name] for name in self.names))


class _Geometric(DSAOperation, GeometricAugmentationBase2D):
    """An operation that maps positions linearly around the centre of the image."""

    theta: ClassVar[Any]

    def compute_transformation(self, input: Tensor, params: Any, flags: Any) -> Tensor:
        """Return the matrices from input to output pixels, for boxes and keypoints."""
        theta = self.theta(*(params[name] for name in self.names)).to(input)
        size = torch.tensor([input.shape[-1], input.shape[-2]]).to(input)
        half = (size - int(flags.get("align_corners", False))) / 2
        linear = theta[:, :, :2].inverse() * (half[:, None] / half)
        centre = (size - 1) / 2
        return _matrix(linear, centre - linear @ centre)


class _Affine(_Geometric):
    """A geometric operation that resamples.

    Args:
        align_corners: the option of ``dsa.affine``.
        options: the options of ``DSAOperation``.
    """

    def __init__(self, align_corners: bool = False, **options: Any) -> None:
        super().__init__(**options)
        # Kornia changes `resample` to nearest when it transforms masks.
        self.flags = {"align_corners": align_corners, "resample": Resample.BILINEAR}

    def apply_transform(
        self, input: Tensor, params: Any, flags: Any, transform: Tensor | None = None
    ) -> Tensor:
        """Return the transformed images; Kornia calls this, ``transform`` is unused."""
        theta = self.theta(*(params[name] for name in self.names))
        mode = flags["resample"].name.lower()
        return affine(input, theta, flags["align_corners"], mode)


class DSAFlip(_Geometric):
    """The operation that mirrors half of the images left to right."""

    names = ("flags",)
    run = staticmethod(flip)

    @classmethod
    def sample(
        cls, uniforms: Float32[Tensor, "*b 3"], size: Size
    ) -> tuple[Float32[Tensor, "*b"], ...]:
        """Return flags of 0 or 1."""
        return ((uniforms[..., 0] < FLIP_PROBABILITY).float(),)

    @staticmethod
    def theta(flags: Values) -> Thetas:
        """Return the mirroring as matrices."""
        return scale_theta(1 - 2 * flags, torch.ones_like(flags))


class DSAScale(_Affine):
    """The operation that scales width and height independently, by 1/1.2 to 1.2."""

    names = ("x", "y")
    theta = staticmethod(scale_theta)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Return the limits of the factors; a factor above 1 shrinks the content."""
        return 1 / SCALE_RATIO, SCALE_RATIO


class DSARotate(_Affine):
    """The operation that turns images by -15 to 15 degrees."""

    names = ("degrees",)
    theta = staticmethod(rotate_theta)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Return the limits in degrees, counter-clockwise as displayed."""
        return -ROTATE_DEGREES, ROTATE_DEGREES


class DSACrop(DSAOperation, GeometricAugmentationBase2D):
    """The operation that moves images by whole pixels, up to an eighth of the size."""

    names = ("rows", "columns")
    whole = True
    run = staticmethod(crop)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Return the limits of the shift in pixels."""
        shift = int(CROP_RATIO * length + 0.5)
        return float(-shift), float(shift)

    def compute_transformation(self, input: Tensor, params: Any, flags: Any) -> Tensor:
        """Return the matrices from input to output pixels."""
        offset = -torch.stack([params["columns"], params["rows"]], -1).to(input)
        return _matrix(torch.eye(2).to(input).expand(len(offset), 2, 2), offset)


class DSACutout(DSAOperation, IntensityAugmentationBase2D):
    """The operation that sets a square of half the image's size to zero."""

    names = ("row", "column")
    whole = True
    run = staticmethod(cutout)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """Return the limits of the centre; for an even side, one more is possible."""
        return 0.0, float(length - cutout_side(length) % 2)


class DSAColor(DSAOperation, IntensityAugmentationBase2D):
    """The operation that changes brightness, saturation and contrast."""

    names = ("brightness", "saturation", "contrast")
    run = staticmethod(color)


def _matrix(
    linear: Float[Tensor, "n 2 2"], offset: Float[Tensor, "n 2"]
) -> Float[Tensor, "n 3 3"]:
    matrix = F.pad(torch.cat([linear, offset[:, :, None]], 2), (0, 0, 0, 1))
    matrix[:, 2, 2] = 1
    return matrix


OPERATIONS: dict[str, type[DSAOperation]] = {
    "color": DSAColor,
    "crop": DSACrop,
    "cutout": DSACutout,
    "flip": DSAFlip,
    "scale": DSAScale,
    "rotate": DSARotate,
}
