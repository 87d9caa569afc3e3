"""Differentiable siamese augmentation (DSA) for many groups of images at once.

One of up to six operations is drawn per group of images, for example per class.
*Siamese* means that the real and the synthetic images of a group share the operation
and its parameters, so that the matching loss compares images that were changed in the
same way. ``Augmentation`` draws, and runs the operations of ``dsa`` on the groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from dcbench_bacon.augmentation.dsa import (
    PARAMETERS,
    Size,
    Thetas,
    affine,
    rotate_theta,
    scale_theta,
)
from dcbench_bacon.augmentation.kornia_modules import OPERATIONS
from dcbench_bacon.errors import UsageError
from dcbench_bacon.runtime.compute.memory import send

Groups = Float[Tensor, "g n c h w"]

_NAMES = tuple(OPERATIONS)
_CODES = {name: code for code, name in enumerate(_NAMES)}
_FUSED = ("scale", "rotate")  # both resample in one call; their codes are neighbours


def parse_strategy(strategy: str) -> tuple[str, ...]:
    """Return the operations of a strategy such as ``color_crop_flip``.

    Args:
        strategy: names of operations joined by ``_``; ``none`` or an empty text for no
            operation.

    Raises:
        UsageError: there is no such operation; the message lists them.
    """
    names = () if strategy in ("", "none") else tuple(strategy.split("_"))
    for name in names:
        if name not in OPERATIONS:
            raise UsageError(
                f"unknown augmentation {name!r} in {strategy!r}; "
                f"join some of {', '.join(OPERATIONS)} by '_', or write 'none'"
            )
    return names


@dataclass(frozen=True)
class Draw:
    """The operation and parameters drawn for each group, for any number of batches.

    Attributes:
        codes: the operation per group, as its position in
            ``kornia_modules.OPERATIONS``; empty for no augmentation.
        values: the parameters in the order of the operation's ``names``, followed by
            zeros; one row per group, or one row per sample of each group.
    """

    codes: Int64[Tensor, "k"]
    values: Float32[Tensor, "g *n 3"]

    @staticmethod
    def of(operations: Sequence[str], values: Float32[Tensor, "g *n 3"]) -> "Draw":
        """Return a draw of the operations of given names."""
        codes = torch.tensor([_CODES[name] for name in operations], dtype=torch.int64)
        return Draw(codes, values)

    @property
    def operations(self) -> list[str]:
        """The names of the operations; a draw on a GPU would wait for the device."""
        return [_NAMES[code] for code in self.codes.tolist()]

    def __getitem__(self, groups: slice) -> "Draw":
        """Return the draws of some of the groups."""
        return Draw(self.codes[groups], self.values[groups])

    def to(self, device: torch.device) -> "Draw":
        """Return the draws on another device, without waiting for it."""
        return Draw(send(self.codes, device), send(self.values, device))

    @staticmethod
    def cat(draws: "Sequence[Draw]") -> "Draw":
        """Return the draws joined along the groups."""
        codes = torch.cat([draw.codes for draw in draws])
        return Draw(codes, torch.cat([draw.values for draw in draws]))


class Augmentation:
    """An augmentation by one DSA operation per group of images.

    On a CPU, each operation runs on the groups that drew it. On a GPU, every operation
    runs on all groups, and each group keeps the result of the operation that it drew.
    Images are small, and in this way neither the host nor the shape of a tensor depends
    on the draw.
    """

    def __init__(self, strategy: str, size: Size, align_corners: bool = False) -> None:
        """Parse the strategy.

        Args:
            strategy: names of operations joined by ``_``, or ``none``.
            size: the height and width of the images in pixels.
            align_corners: the option of ``dsa.affine`` for scale and rotate.
        """
        self.operations = parse_strategy(strategy)
        self.size = size
        self.align_corners = align_corners

    def draw(
        self, groups: int, generator: torch.Generator, samples: int | None = None
    ) -> Draw:
        """Return an operation and parameters drawn per group.

        Args:
            groups: the number of groups.
            generator: a generator on the CPU, so that no device has to be waited for.
                It advances by the same amount for every outcome.
            samples: the number of samples per group, to draw parameters per sample; by
                default parameters are drawn per group, which is siamese.
        """
        if not self.operations:
            return Draw.of((), torch.zeros(groups, PARAMETERS))
        shape = (1 if samples is None else samples, PARAMETERS)
        columns = 1 + shape[0] * shape[1]
        uniforms = torch.rand(
            groups, columns, generator=generator, device="cpu"
        ).float()
        last = len(self.operations) - 1  # the product may round up to the next integer
        chosen = (uniforms[:, 0] * (last + 1)).int().clamp(max=last).tolist()
        operations = tuple(self.operations[index] for index in chosen)
        law = uniforms[:, 1:].reshape(groups, *shape)
        values = torch.zeros_like(law)
        for name in set(operations):
            members = [i for i, other in enumerate(operations) if other == name]
            drawn = OPERATIONS[name].sample(law[members], self.size)
            values[members, :, : len(drawn)] = torch.stack(drawn, -1)
        return Draw.of(operations, values[:, 0] if samples is None else values)

    def apply(self, images: Groups, draw: Draw) -> Groups:
        """Return the images with group ``i`` augmented by draw ``i``.

        Args:
            images: normalised images of the size given to the constructor; gradients
                flow through.
            draw: a draw for as many groups, and for as many samples unless it is
                siamese.

        Raises:
            ValueError: the sizes of images and draw do not agree.
        """
        if not len(draw.codes):
            return images
        if tuple(images.shape[-2:]) != tuple(self.size):
            raise ValueError(f"images of {tuple(images.shape)}, draws for {self.size}")
        rows = draw.values.shape[:-1]
        if images.shape[: len(rows)] != rows:
            raise ValueError(f"a draw of {tuple(rows)} for {tuple(images.shape)}")
        if images.device.type == "cpu":
            return self._by_operation(images, draw)
        return self.everywhere(images, draw.to(images.device))

    def everywhere(self, images: Groups, draw: Draw) -> Groups:
        """Return the augmented images by running every operation on all groups."""
        shape, flat = images.shape, images.flatten(0, 1)
        values = draw.values if draw.values.ndim == 3 else draw.values[:, None]
        values = _precise(values.expand(*shape[:2], -1).flatten(0, 1), images)
        codes = draw.codes[:, None].expand(*shape[:2]).flatten()
        for name in self.operations:
            if name not in _FUSED:
                mine = codes == _CODES[name]
                changed = OPERATIONS[name].run(flat, *_columns(values, name))
                flat = torch.where(mine[:, None, None, None], changed, flat)
        if set(_FUSED) & set(self.operations):
            scaled, turned = (codes == _CODES[name] for name in _FUSED)
            zooms = scale_theta(*_columns(values, "scale"))
            turns = rotate_theta(*_columns(values, "rotate"))
            theta = torch.where(scaled[:, None, None], zooms, turns)
            changed = affine(flat, theta, self.align_corners)
            flat = torch.where((scaled | turned)[:, None, None, None], changed, flat)
        return torch.unflatten(flat, 0, shape[:2])

    def _by_operation(self, images: Groups, draw: Draw) -> Groups:
        """Return the augmented images by running each operation on its groups."""
        drawn = draw.operations
        order = sorted(range(len(images)), key=lambda i: _CODES[drawn[i]])
        names = [drawn[i] for i in order]
        index, values, inputs = torch.tensor(order), draw.values, images
        ordered = order == sorted(order)
        if not ordered:
            values, inputs = values[index], images.index_select(0, index)
        pieces = self._run(inputs, values, names)
        if len(pieces) == 1 and ordered:
            return pieces[0]
        if images.requires_grad and torch.is_grad_enabled():
            return torch.cat(pieces).index_select(0, index.argsort())
        # Without an autograd graph, each piece is copied to its place directly.
        output = torch.empty_like(images)
        start = 0
        for piece in pieces:
            output.index_copy_(0, index[start : start + len(piece)], piece)
            start += len(piece)
        return output

    def _run(self, images: Groups, values: Tensor, names: list[str]) -> list[Tensor]:
        """Return one result per run of equal operations; scale and rotate are equal."""
        samples, pieces, start = images.shape[1], [], 0
        values = _precise(values, images)
        for _, run in groupby(names, key=lambda name: name in _FUSED or name):
            stop = start + len(list(run))
            name, rows = names[start], values[start:stop]
            flat = images[start:stop].flatten(0, 1)
            if name in _FUSED:
                theta = _thetas(rows, names[start:stop])
                piece = affine(flat, theta, self.align_corners)
            else:
                if rows.ndim == 2:
                    rows = rows[:, None].expand(-1, samples, -1)
                piece = OPERATIONS[name].run(flat, *_columns(rows, name))
            pieces.append(piece.reshape(images[start:stop].shape))
            start = stop
        return pieces


def _precise(values: Tensor, images: Tensor) -> Tensor:
    """Return values as precise as the images, and at least float32."""
    return values.to(torch.promote_types(values.dtype, images.dtype))


def _thetas(rows: Tensor, names: list[str]) -> Thetas:
    """Return the matrices of groups that scale, followed by groups that rotate."""
    scaled = names.count("scale")
    return torch.cat(
        [
            scale_theta(*_columns(rows[:scaled], "scale")),
            rotate_theta(*_columns(rows[scaled:], "rotate")),
        ]
    )


def _columns(rows: Tensor, name: str) -> tuple[Tensor, ...]:
    """Return the parameters of an operation, one vector per parameter."""
    return rows.flatten(0, -2).unbind(-1)[: len(OPERATIONS[name].names)]
