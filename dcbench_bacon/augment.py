"""Differentiable siamese augmentation (DSA) for many classes at once, over Kornia.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation",
ICML 2021, https://arxiv.org/abs/2102.08259. One of up to six operations is drawn for a
group of images; *siamese* means that real and synthetic images of a group share the
operation and its parameters, so that the matching loss compares like with like.

The six batched functions hold the arithmetic. ``Augmentation`` runs them over groups,
one call an operation; the ``DSA*`` classes offer the same operations to Kornia.

Images are normalized, so that the zeros that fill borders are the mean color.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import pi
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Float32, Int64, Shaped
from kornia.augmentation import GeometricAugmentationBase2D, IntensityAugmentationBase2D
from kornia.constants import Resample
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.errors import UsageError

Images = Float[Tensor, "n c h w"]
Groups = Float[Tensor, "g n c h w"]
Values = Shaped[Tensor, "n"]
"""One parameter, a value for each image; copied to the images' device when needed."""

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


def scale(
    images: Images,
    x: Values,
    y: Values,
    align_corners: bool = False,
    mode: str = "bilinear",
) -> Images:
    """Shrinks the content ``x`` times in width and ``y`` times in height."""
    return affine(images, scale_theta(x, y), align_corners, mode)


def rotate(
    images: Images,
    degrees: Values,
    align_corners: bool = False,
    mode: str = "bilinear",
) -> Images:
    """Turns the content counter-clockwise as displayed."""
    return affine(images, rotate_theta(degrees), align_corners, mode)


def scale_theta(x: Values, y: Values) -> Float[Tensor, "n 2 3"]:
    """Where an output point lies in the input: above 1 is outside, so zooms out."""
    zero = torch.zeros_like(x)
    return torch.stack([x, zero, zero, zero, y, zero], -1).unflatten(-1, (2, 3))


def rotate_theta(degrees: Values) -> Float[Tensor, "n 2 3"]:
    """Where an output point lies in the input, in coordinates from -1 to 1."""
    angle = degrees * (pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero], -1).unflatten(-1, (2, 3))


def affine(
    images: Images,
    theta: Float[Tensor, "m 2 3"],
    align_corners: bool = False,
    mode: str = "bilinear",
) -> Images:
    """Resamples images, zeros beyond the border.

    Args:
        images: gradients flow through.
        theta: as ``F.affine_grid`` takes it. With fewer matrices than images, each
            serves a run of ``n / m`` images.
        align_corners: False in DSA's code, True in MTT's and DD-Ranking's.
        mode: the interpolation, ``bilinear`` or ``nearest``.
    """
    count, channels, height, width = images.shape
    run = count // max(len(theta), 1)
    inputs = images
    if run > 1 and images.device.type == "cpu":
        # Images of a run share their grid as channels do: its weights are computed
        # once. A GPU would lose the threads that many images keep busy.
        inputs = images.reshape(len(theta), run * channels, height, width)
    elif run > 1:
        theta = theta.repeat_interleave(run, 0)
    theta = theta.to(images.device, images.dtype, non_blocking=True)
    grid = F.affine_grid(theta, list(inputs.shape), align_corners=align_corners)
    outputs = F.grid_sample(inputs, grid, mode, "zeros", align_corners=align_corners)
    return _formatted(outputs.reshape(images.shape), images)


def crop(images: Images, rows: Values, columns: Values) -> Images:
    """Moves the content up by ``rows`` and left by ``columns`` whole pixels."""
    height, width = images.shape[-2:]
    row, row_inside = _shifted(rows, height, images.device)
    column, column_inside = _shifted(columns, width, images.device)
    index = (row[:, :, None] * width + column[:, None, :]).flatten(1)
    taken = images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1))
    outside = ~(row_inside[:, :, None] & column_inside[:, None, :])
    moved = taken.view(images.shape).masked_fill(outside[:, None], 0)
    return _formatted(moved, images)


def cutout(images: Images, row: Values, column: Values) -> Images:
    """Zeros a square of half the image's size.

    Args:
        images: gradients flow through what is left.
        row: of the centre, from 0; the side of an even square may lie at ``h``.
        column: of the centre.
    """
    rows = _erased(row, images.shape[-2], images.device)
    columns = _erased(column, images.shape[-1], images.device)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


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
    """One parameter in the images' type, ready to broadcast."""
    moved = values.to(images.device, images.dtype, non_blocking=True)
    return moved[:, None, None, None]


def _shifted(
    shift: Values, size: int, device: torch.device
) -> tuple[Int64[Tensor, "n size"], Shaped[Tensor, "n size"]]:
    """The source of each position along an axis, and whether it is in the image."""
    moved = shift.to(device, torch.int64, non_blocking=True)
    index = torch.arange(size, device=device) + moved[:, None]
    # Outside, any valid index does: the value read there is overwritten by zero.
    return index.clamp(0, size - 1), (index >= 0) & (index < size)


def _erased(
    centre: Values, size: int, device: torch.device
) -> Shaped[Tensor, "n size"]:
    """Which positions along an axis cutout zeros."""
    side = _cutout_side(size)
    first = centre.to(device, torch.int64, non_blocking=True)[:, None] - side // 2
    index = torch.arange(size, device=device)
    # The published code clamps the square's indices, so a border pixel is zeroed even
    # by a square that lies past it.
    last = (first + side - 1).clamp(0, size - 1)
    return (index >= first.clamp(0, size - 1)) & (index <= last)


def _formatted(outputs: Tensor, images: Tensor) -> Tensor:
    """The outputs in the images' memory format; no copy where they agree."""
    if _channels_last(images):
        return outputs.contiguous(memory_format=torch.channels_last)
    return outputs


def _channels_last(images: Tensor) -> bool:
    return not images.is_contiguous() and images.is_contiguous(
        memory_format=torch.channels_last
    )


Uniforms = Float32[Tensor, "*b 3"]
Size = tuple[int, int]


def _crop_shift(size: int) -> int:
    return int(CROP_RATIO * size + 0.5)


def _cutout_side(size: int) -> int:
    return int(CUTOUT_RATIO * size + 0.5)


def _integers(uniform: Tensor, count: int) -> Tensor:
    # The product may round up to `count` itself.
    return (uniform * count).floor().clamp(max=count - 1)


def _sample_flip(uniforms: Uniforms, size: Size) -> tuple[Tensor, ...]:
    return ((uniforms[..., 0] < FLIP_PROBABILITY).to(uniforms.dtype),)


def _sample_scale(uniforms: Uniforms, size: Size) -> tuple[Tensor, ...]:
    low = 1 / SCALE_RATIO
    return (uniforms[..., :2] * (SCALE_RATIO - low) + low).unbind(-1)


def _sample_rotate(uniforms: Uniforms, size: Size) -> tuple[Tensor, ...]:
    return ((uniforms[..., 0] - 0.5) * (2 * ROTATE_DEGREES),)


def _sample_crop(uniforms: Uniforms, size: Size) -> tuple[Tensor, ...]:
    shifts = [_crop_shift(length) for length in size]
    return tuple(
        _integers(uniforms[..., axis], 2 * shift + 1) - shift
        for axis, shift in enumerate(shifts)
    )


def _sample_cutout(uniforms: Uniforms, size: Size) -> tuple[Tensor, ...]:
    # An even square has its centre between pixels: one position more than pixels.
    return tuple(
        _integers(uniforms[..., axis], length + 1 - _cutout_side(length) % 2)
        for axis, length in enumerate(size)
    )


def _sample_color(uniforms: Uniforms, size: Size) -> tuple[Tensor, ...]:
    return uniforms.unbind(-1)


class Operation(NamedTuple):
    """One of the six: its parameters' names, their law, and what it does."""

    parameters: tuple[str, ...]
    sample: Callable[[Tensor, Size], tuple[Tensor, ...]]
    run: Callable[..., Tensor]


OPERATIONS = {
    "color": Operation(("brightness", "saturation", "contrast"), _sample_color, color),
    "crop": Operation(("rows", "columns"), _sample_crop, crop),
    "cutout": Operation(("row", "column"), _sample_cutout, cutout),
    "flip": Operation(("flags",), _sample_flip, flip),
    "scale": Operation(("x", "y"), _sample_scale, scale),
    "rotate": Operation(("degrees",), _sample_rotate, rotate),
}
# In this order groups are sorted: what shares a pass (scale and rotate) is adjacent.
_RANK = {name: rank for rank, name in enumerate(OPERATIONS)}
_THETA: dict[str, Callable[..., Tensor]] = {
    "scale": scale_theta,
    "rotate": rotate_theta,
}


def parse_strategy(strategy: str) -> tuple[str, ...]:
    """Splits a strategy like ``color_crop_flip``; ``none`` or nothing gives ``()``."""
    if strategy in ("", "none"):
        return ()
    names = tuple(strategy.split("_"))
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
        values: on the CPU, the parameters in the order of ``Operation.parameters``,
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
            align_corners: of scale and rotate.
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
        rows = 1 if samples is None else samples
        uniforms = torch.rand(groups, 1 + rows * PARAMETERS, generator=generator)
        chosen = _integers(uniforms[:, 0], len(self.operations)).long().tolist()
        operations = tuple(self.operations[index] for index in chosen)
        law = uniforms[:, 1:].unflatten(1, (rows, PARAMETERS))
        values = torch.zeros_like(law)
        for name in sorted(set(operations)):
            members = [i for i, drawn in enumerate(operations) if drawn == name]
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
        self._check(images, draw)
        order = sorted(range(len(images)), key=lambda i: _RANK[draw.operations[i]])
        names = [draw.operations[i] for i in order]
        if order == list(range(len(images))):
            pieces = self._run(images, draw.values, names)
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        index = torch.tensor(order)
        values, index = draw.values[index], index.to(images.device, non_blocking=True)
        return _restore(self._run(_take(images, index), values, names), index, images)

    def _check(self, images: Groups, draw: Draw) -> None:
        groups, samples, _, *size = images.shape
        if tuple(size) != tuple(self.size):
            raise ValueError(f"images are {tuple(size)}, the draws for {self.size}")
        expected = (groups,) if draw.values.ndim == 2 else (groups, samples)
        if draw.values.shape[:-1] != expected:
            raise ValueError(
                f"a draw of shape {tuple(draw.values.shape[:-1])} "
                f"does not fit {groups} groups of {samples} images"
            )

    def _run(
        self, images: Groups, values: Tensor, names: Sequence[str]
    ) -> list[Tensor]:
        """One result a pass over neighbours of the same operation."""
        samples, start, pieces = images.shape[1], 0, []
        values = values.to(images.device, non_blocking=True)
        for _, run in groupby(names, key=lambda name: name in _THETA or name):
            members = list(run)
            stop = start + len(members)
            flat, rows = images[start:stop].flatten(0, 1), values[start:stop]
            if members[0] in _THETA:
                piece = affine(flat, _thetas(rows, members), self.align_corners)
            else:
                if rows.ndim == 2:
                    rows = rows[:, None].expand(-1, samples, -1)
                operation = OPERATIONS[members[0]]
                columns = rows.flatten(0, 1).unbind(-1)
                piece = operation.run(flat, *columns[: len(operation.parameters)])
            pieces.append(piece.unflatten(0, (len(members), samples)))
            start = stop
        return pieces


def _thetas(rows: Tensor, names: Sequence[str]) -> Float[Tensor, "m 2 3"]:
    """The matrices of neighbouring groups that scale and rotate."""
    thetas, start = [], 0
    for name, run in groupby(names):
        stop = start + len(list(run))
        columns = rows[start:stop].flatten(0, -2).unbind(-1)
        thetas.append(_THETA[name](*columns[: len(OPERATIONS[name].parameters)]))
        start = stop
    return torch.cat(thetas)


def _take(images: Groups, index: Int64[Tensor, "g"]) -> Groups:
    """Groups in another order; alone, ``index_select`` would lose channels_last."""
    if _channels_last(images.flatten(0, 1)):
        return images.movedim(2, -1).index_select(0, index).movedim(-1, 2)
    return images.index_select(0, index)


def _restore(pieces: list[Tensor], index: Int64[Tensor, "g"], images: Groups) -> Groups:
    """Puts results in the order of the groups."""
    if torch.is_grad_enabled() and images.requires_grad:
        return _take(torch.cat(pieces), index.argsort())
    # Without a graph each piece goes to its place at once: a copy less.
    output, start = torch.empty_like(images), 0
    for piece in pieces:
        output.index_copy_(0, index[start : start + len(piece)], piece)
        start += len(piece)
    return output


class _Sampled:
    """What the Kornia classes share: drawing, and running the batched function.

    ``same_on_batch=True`` is siamese. ``aug(images, params=aug._params)`` repeats a
    draw; on a batch of another size, expand one row of each parameter. Every image is
    augmented: at ``p = 1`` Kornia draws nothing itself, so all randomness comes from
    ``generator`` (on the CPU), or from torch's own if there is none.
    """

    operation: ClassVar[str]
    flags: dict[str, Any]
    same_on_batch: bool

    def __init__(
        self,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=1.0, same_on_batch=same_on_batch, keepdim=keepdim)  # type: ignore[call-arg]
        self.generator = generator

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draws one row for each image, or one for all."""
        operation, count = OPERATIONS[self.operation], batch_shape[0]
        rows = 1 if self.same_on_batch else count
        uniforms = torch.rand(rows, PARAMETERS, generator=self.generator, device="cpu")
        values = operation.sample(uniforms, (batch_shape[-2], batch_shape[-1]))
        return {
            name: value.expand(count)
            for name, value in zip(operation.parameters, values, strict=True)
        }
