"""DSA's operations as Kornia modules."""

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


class _Geometric(DSAOperation, GeometricAugmentationBase2D):
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


class DSACrop(DSAOperation, GeometricAugmentationBase2D):
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


class DSACutout(DSAOperation, IntensityAugmentationBase2D):
    """Zeros a square of half the size, cut off at the border."""

    names = ("row", "column")
    whole = True
    run = staticmethod(cutout)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """The centre; an even square's lies between pixels, so one more fits."""
        return 0.0, float(length - cutout_side(length) % 2)


class DSAColor(DSAOperation, IntensityAugmentationBase2D):
    """Changes brightness, saturation and contrast."""

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
