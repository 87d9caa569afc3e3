"""Differentiable siamese augmentation (DSA) for many classes at once.

One of up to six operations is drawn for a group of images; *siamese* means that real
and synthetic images of a group share the operation and its parameters, so that the
matching loss compares like with like. ``Augmentation`` draws, and runs the operations
of ``dsa`` over the groups, one call an operation.
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
from dcbench_bacon.runtime.memory import send

Groups = Float[Tensor, "g n c h w"]

_NAMES = tuple(OPERATIONS)
_CODES = {name: code for code, name in enumerate(_NAMES)}
_FUSED = ("scale", "rotate")  # both resample, in one pass; their codes are neighbours


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
        codes: the operation of each group, as its place in ``dsa.OPERATIONS``; empty
            for no augmentation.
        values: the parameters in the order of the operation's ``names``, then zeros;
            one row a group, or one row for each sample of a group.
    """

    codes: Int64[Tensor, "k"]
    values: Float32[Tensor, "g *n 3"]

    @staticmethod
    def of(operations: Sequence[str], values: Float32[Tensor, "g *n 3"]) -> "Draw":
        """A draw of operations by name."""
        codes = torch.tensor([_CODES[name] for name in operations], dtype=torch.int64)
        return Draw(codes, values)

    @property
    def operations(self) -> list[str]:
        """The names; for draws on the CPU, since they are read from memory."""
        return [_NAMES[code] for code in self.codes.tolist()]

    def __getitem__(self, groups: slice) -> "Draw":
        """The draws of some of the groups."""
        return Draw(self.codes[groups], self.values[groups])

    def to(self, device: torch.device) -> "Draw":
        """The same draws beside the images, without waiting for the device."""
        return Draw(send(self.codes, device), send(self.values, device))

    @staticmethod
    def cat(draws: "Sequence[Draw]") -> "Draw":
        """The draws one after another."""
        codes = torch.cat([draw.codes for draw in draws])
        return Draw(codes, torch.cat([draw.values for draw in draws]))


class Augmentation:
    """Draws and applies one DSA operation for each group of images.

    On a CPU each operation runs for the groups that drew it. On a GPU every operation
    runs for all groups, and stays where it was drawn: images are small, and neither the
    host nor the shape of any tensor depends on the draw.
    """

    def __init__(self, strategy: str, size: Size, align_corners: bool = False) -> None:
        """Parses the strategy.

        Args:
            strategy: operations joined by ``_``, or ``none``.
            size: height and width of the images to come.
            align_corners: of scale and rotate; see ``dsa.affine``.
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
            return Draw.of((), torch.zeros(groups, PARAMETERS))
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
        return Draw.of(operations, values[:, 0] if samples is None else values)

    def apply(self, images: Groups, draw: Draw) -> Groups:
        """Augments group ``i`` by draw ``i``.

        Args:
            images: normalized, of the size given at the start; gradients flow through.
            draw: of as many groups, and of as many samples unless it is siamese.
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
        """The same by tensors alone: every operation on all groups."""
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
        """The same on a CPU, each operation once for all its groups."""
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
    """Values, and matrices of them, as precise as the images; at least float32."""
    return values.to(torch.promote_types(values.dtype, images.dtype))


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
