"""Differentiable siamese augmentation (DSA) for many classes at once, over Kornia.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation",
ICML 2021, https://arxiv.org/abs/2102.08259. One of up to six operations is drawn for a
group of images; *siamese* means that real and synthetic images of a group share the
operation and its parameters, so that the matching loss compares like with like.

The batched functions hold the arithmetic, the ``DSA*`` classes offer them to Kornia,
and ``Augmentation`` runs them over groups, one call an operation. Images are
normalized, so that the zeros that fill borders are the mean color.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
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

from dcbench_bacon.errors import UsageError

Images = Float[Tensor, "n c h w"]
Groups = Float[Tensor, "g n c h w"]
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


class _Sampled(RigidAffineAugmentationBase2D):
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


class _Geometric(_Sampled, GeometricAugmentationBase2D):
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
    def __init__(self, align_corners: bool = False, **options: Any) -> None:
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


class DSACrop(_Sampled, GeometricAugmentationBase2D):
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


class DSACutout(_Sampled, IntensityAugmentationBase2D):
    """Zeros a square of half the size, cut off at the border."""

    names = ("row", "column")
    whole = True
    run = staticmethod(cutout)

    @staticmethod
    def limits(length: int) -> tuple[float, float]:
        """The centre; an even square's lies between pixels, so one more fits."""
        return 0.0, float(length - _cutout_side(length) % 2)


class DSAColor(_Sampled, IntensityAugmentationBase2D):
    """Changes brightness, saturation and contrast."""

    names = ("brightness", "saturation", "contrast")
    run = staticmethod(color)


def _matrix(
    linear: Float[Tensor, "n 2 2"], offset: Float[Tensor, "n 2"]
) -> Float[Tensor, "n 3 3"]:
    matrix = F.pad(torch.cat([linear, offset[:, :, None]], 2), (0, 0, 0, 1))
    matrix[:, 2, 2] = 1
    return matrix


OPERATIONS: dict[str, type[_Sampled]] = {
    "color": DSAColor,
    "crop": DSACrop,
    "cutout": DSACutout,
    "flip": DSAFlip,
    "scale": DSAScale,
    "rotate": DSARotate,
}
# Groups are sorted in this order, in which scale and rotate, one pass, are neighbours.
_RANK = {name: rank for rank, name in enumerate(OPERATIONS)}


def parse_strategy(strategy: str) -> tuple[str, ...]:
    """Splits a strategy like ``color_crop_flip``; ``none`` or nothing gives ``()``."""
    names = () if strategy in ("", "none") else tuple(strategy.split("_"))
    for name in names:
        if name not in OPERATIONS:
            raise UsageError(
                f"unknown augmentation {name!r} in {strategy!r}; "
                f"join some of {', '.join(OPERATIONS)} by '_', or say 'none'"
            )
    return names


@dataclass(frozen=True)
class Draw:
    """What was drawn for each group, to be applied to any number of batches.

    Attributes:
        operations: one name a group, on the host; empty for no augmentation.
        values: on the CPU, the parameters in the order of the operation's ``names``,
            then zeros; one row a group, or one row for each sample of a group.
    """

    operations: tuple[str, ...]
    values: Float32[Tensor, "g *n 3"]

    def __getitem__(self, groups: slice) -> "Draw":
        """The draws of some of the groups."""
        return Draw(self.operations[groups], self.values[groups])


class Augmentation:
    """Draws and applies one DSA operation for each group of images."""

    def __init__(self, strategy: str, size: Size, align_corners: bool = False) -> None:
        """Parses the strategy.

        Args:
            strategy: operations joined by ``_``, or ``none``.
            size: height and width of the images to come.
            align_corners: of scale and rotate; see ``affine``.
        """
        self.operations = parse_strategy(strategy)
        self.size = size
        self.align_corners = align_corners

    def draw(
        self, groups: int, generator: torch.Generator, samples: int | None = None
    ) -> Draw:
        """Draws an operation for each group, and its parameters.

        Args:
            groups: how many.
            generator: on the CPU, so that no device is waited for. It moves on by
                the same amount whatever is drawn.
            samples: parameters for each of so many samples of a group; by default
                siamese, one set a group.
        """
        if not self.operations:
            return Draw((), torch.zeros(groups, PARAMETERS))
        shape = (1 if samples is None else samples, PARAMETERS)
        columns = 1 + shape[0] * shape[1]
        uniforms = torch.rand(
            groups, columns, generator=generator, device="cpu"
        ).float()
        last = len(self.operations) - 1  # The product may round up to the next one.
        chosen = (uniforms[:, 0] * (last + 1)).int().clamp(max=last).tolist()
        operations = tuple(self.operations[index] for index in chosen)
        law = uniforms[:, 1:].reshape(groups, *shape)
        values = torch.zeros_like(law)
        for name in set(operations):
            members = [i for i, other in enumerate(operations) if other == name]
            drawn = OPERATIONS[name].sample(law[members], self.size)
            values[members, :, : len(drawn)] = torch.stack(drawn, -1)
        return Draw(operations, values[:, 0] if samples is None else values)

    def apply(self, images: Groups, draw: Draw) -> Groups:
        """Augments group ``i`` by draw ``i``, each operation once for all its groups.

        Args:
            images: normalized, of the size given at the start; gradients flow through.
            draw: of as many groups, and of as many samples unless it is siamese.
        """
        if not draw.operations:
            return images
        if tuple(images.shape[-2:]) != tuple(self.size):
            raise ValueError(f"images of {tuple(images.shape)}, draws for {self.size}")
        rows = draw.values.shape[:-1]
        if images.shape[: len(rows)] != rows:
            raise ValueError(f"a draw of {tuple(rows)} for {tuple(images.shape)}")
        order = sorted(range(len(images)), key=lambda i: _RANK[draw.operations[i]])
        names = [draw.operations[i] for i in order]
        index, values, inputs = torch.tensor(order), draw.values, images
        ordered = order == sorted(order)
        if not ordered:
            values = values[index]
            index = index.to(images.device, non_blocking=True)
            inputs = images.index_select(0, index)
        pieces = self._run(inputs, values, names)
        if len(pieces) == 1 and ordered:
            return pieces[0]
        if images.requires_grad and torch.is_grad_enabled():
            return torch.cat(pieces).index_select(0, index.argsort())
        # Without a graph each piece goes to its place at once: a copy less.
        output = torch.empty_like(images)
        start = 0
        for piece in pieces:
            output.index_copy_(0, index[start : start + len(piece)], piece)
            start += len(piece)
        return output

    def _run(self, images: Groups, values: Tensor, names: list[str]) -> list[Tensor]:
        """One result for each run of the same operation, scale and rotate together."""
        samples, pieces, start = images.shape[1], [], 0
        # Matrices are then as precise as the images, never less than in float32.
        dtype = torch.promote_types(values.dtype, images.dtype)
        values = values.to(images.device, dtype, non_blocking=True)
        fused = ("scale", "rotate")
        for _, run in groupby(names, key=lambda name: name in fused or name):
            stop = start + len(list(run))
            name, rows = names[start], values[start:stop]
            flat = images[start:stop].flatten(0, 1)
            if name in fused:
                theta = _thetas(rows, names[start:stop])
                piece = affine(flat, theta, self.align_corners)
            else:
                if rows.ndim == 2:
                    rows = rows[:, None].expand(-1, samples, -1)
                piece = OPERATIONS[name].run(flat, *_columns(rows, name))
            pieces.append(piece.reshape(images[start:stop].shape))
            start = stop
        return pieces


def _thetas(rows: Tensor, names: list[str]) -> Thetas:
    """The matrices of neighbouring groups that scale and rotate."""
    scaled = names.count("scale")
    return torch.cat(
        [
            scale_theta(*_columns(rows[:scaled], "scale")),
            rotate_theta(*_columns(rows[scaled:], "rotate")),
        ]
    )


def _columns(rows: Tensor, name: str) -> tuple[Tensor, ...]:
    """The parameters of an operation, one vector each."""
    return rows.flatten(0, -2).unbind(-1)[: len(OPERATIONS[name].names)]
