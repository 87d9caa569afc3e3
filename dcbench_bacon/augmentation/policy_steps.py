"""The steps of augmentation policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugment as PublishedPolicies
from torchvision.transforms import AutoAugmentPolicy

from dcbench_bacon.augmentation import dsa
from dcbench_bacon.augmentation.pixel_operations import (
    CODES,
    NOTHING,
    OPERATIONS,
    Images,
    operate,
)
from dcbench_bacon.augmentation.siamese import Groups
from dcbench_bacon.runtime.compute.memory import send

Uniform = Float32[Tensor, "n u"]


@runtime_checkable
class Augmenter(Protocol):
    """An augmentation of batches that draws first, so that draws can be joined."""

    def draw(self, groups: int, generator: torch.Generator, samples: int) -> Any:
        """Return draws for each image of each group; their ``cat`` joins groups."""
        ...

    def apply(self, images: Groups, draw: Any) -> Groups:
        """Return augmented normalised images, by a draw for as many images."""
        ...


@dataclass(frozen=True)
class Uniforms:
    """The numbers in [0, 1) that decide the change of each image, on the CPU."""

    values: Float32[Tensor, "g n u"]

    @staticmethod
    def cat(draws: "Sequence[Uniforms]") -> "Uniforms":
        """Return the draws joined along the groups."""
        return Uniforms(torch.cat([draw.values for draw in draws]))


def magnitude(name: str, share: float) -> float:
    """Return the magnitude of an operation at a share, in [0, 1], of its scale."""
    operation = OPERATIONS[name]
    level = operation.strongest * share
    return float(round(level)) if operation.whole else level


def _signs(names: Sequence[str]) -> Float32[Tensor, "m"]:
    """Return 1 for operations whose magnitudes have a sign, 0 for the others."""
    return torch.tensor([float(OPERATIONS[name].signed) for name in names])


@runtime_checkable
class Step(Protocol):
    """A step of a policy.

    Attributes:
        columns: the number of uniform numbers that it needs per image.
    """

    columns: int

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Return augmented images in [0, 1], by draws on the CPU."""
        ...


class SubPolicies:
    """AutoAugment: one pair of operations per image, each run with a probability.

    Args:
        policy: the data set whose pairs are used. The tables are torchvision's, which
            are those of the paper.
    """

    columns = 5
    _BINS = 10  # levels of the paper's scale

    def __init__(self, policy: AutoAugmentPolicy) -> None:
        """Make tensors of the table of pairs."""
        pairs = PublishedPolicies(policy).policies
        last = self._BINS - 1
        self.codes = torch.tensor([[CODES[name] for name, *_ in p] for p in pairs])
        self.chances = torch.tensor([[chance for _, chance, _ in p] for p in pairs])
        self.magnitudes = torch.tensor(
            [
                [magnitude(name, (bin_ or 0) / last) for name, _, bin_ in p]
                for p in pairs
            ]
        )
        self.signed = torch.stack([_signs([name for name, *_ in p]) for p in pairs])

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Return the images after the first and then the second operation of a pair."""
        chosen = column(uniforms[:, 0], len(self.codes))
        for slot in range(2):
            happens = uniforms[:, 1 + slot] < self.chances[chosen, slot]
            codes = torch.where(happens, self.codes[chosen, slot], NOTHING)
            levels = self.magnitudes[chosen, slot]
            flipped = (uniforms[:, 3 + slot] < 0.5) & self.signed[chosen, slot].bool()
            images = operate(images, codes, torch.where(flipped, -levels, levels))
        return images


class RandAugment:
    """RandAugment: a number of operations per image, all at one level.

    Args:
        count: the number of operations per image, drawn with replacement from 14, of
            which one does nothing.
    """

    _SHARE = 9 / 30  # level 9 of 31, torchvision's default

    def __init__(self, count: int) -> None:
        """Make tensors of the operations."""
        self.columns = 2 * count
        names = list(OPERATIONS)[: CODES["Invert"]]
        self.magnitudes = torch.tensor([magnitude(name, self._SHARE) for name in names])
        self.signed = _signs(names).bool()

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Return the images after one operation after another."""
        for start in range(0, self.columns, 2):
            choices = len(self.magnitudes) + 1
            codes = column(uniforms[:, start], choices) - 1  # -1 does nothing
            levels = self.magnitudes[codes]
            flipped = (uniforms[:, start + 1] < 0.5) & self.signed[codes]
            images = operate(images, codes, torch.where(flipped, -levels, levels))
        return images


class ColorJitter:
    """Changes of brightness, contrast, saturation and hue, in an order per image.

    Args:
        strengths: the largest changes of brightness, contrast, saturation and hue; that
            of hue is a share of the colour circle.
    """

    columns = 8

    def __init__(self, strengths: tuple[float, float, float, float]) -> None:
        """Make tensors of the operations."""
        self.strengths = torch.tensor(strengths)
        names = ("Brightness", "Contrast", "Color", "Hue")
        self.codes = torch.tensor([CODES[name] for name in names])

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Return the images after the first to the fourth change of each image."""
        orders = uniforms[:, :4].argsort(1)
        changes = (2 * uniforms[:, 4:] - 1) * self.strengths
        for slot in range(4):
            chosen = orders[:, slot]
            levels = changes.gather(1, chosen[:, None])[:, 0]
            images = operate(images, self.codes[chosen], levels)
        return images


class Mirror:
    """A mirroring of half of the images left to right."""

    columns = 1

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Return the images, mirrored where the number is below one half."""
        return dsa.flip(images, (uniforms[:, 0] < 0.5).float())


class PaddedCrop:
    """A movement by whole pixels, which is a crop of an image with a black frame.

    Args:
        frame: the width of the frame, which is the largest movement, in pixels.
    """

    columns = 2

    def __init__(self, frame: int) -> None:
        """Keep the width."""
        self.frame = frame

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Return the images, each moved."""
        shifts = column(uniforms, 2 * self.frame + 1) - self.frame
        return dsa.crop(images, shifts[:, 0], shifts[:, 1])


class ResizedCrop:
    """An enlargement of a part of each image to the full size, bilinearly.

    The area and the aspect ratio are drawn up to ten times until the part fits, as in
    torchvision. If no part fits, the whole image is kept.

    Args:
        least: the smallest share of the area, in (0, 1]; the largest share is 1.
    """

    _TRIES = 10
    _RATIO = log(4 / 3)  # the aspect ratio is log-uniform from 3/4 to 4/3
    columns = 2 * _TRIES + 2

    def __init__(self, least: float) -> None:
        """Keep the smallest share."""
        self.least = least

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Return the images, each cropped and enlarged."""
        size = images.shape[-1]
        sides, starts = self.boxes(uniforms, size)
        centres = (torch.arange(size)[:, None] + 0.5) * sides[:, None] / size - 0.5
        inside = centres.clamp(min=0).minimum(sides[:, None] - 1)
        points = (2 * (starts[:, None] + inside) + 1) / size - 1
        rows, columns = send(points, images.device).unbind(-1)
        shape = (len(images), size, size)
        grid = torch.stack(
            [columns[:, None].expand(shape), rows[:, :, None].expand(shape)], -1
        )
        return F.grid_sample(images, grid, "bilinear", "border", align_corners=False)

    def boxes(
        self, uniforms: Uniform, size: int
    ) -> tuple[Float32[Tensor, "n 2"], Float32[Tensor, "n 2"]]:
        """Return the height and width of each part, and its first row and column."""
        areas = self.least + (1 - self.least) * uniforms[:, : self._TRIES]
        exponents = (2 * uniforms[:, self._TRIES : -2] - 1) * self._RATIO
        ratios = exponents.exp()  # of width to height
        heights, widths = (areas / ratios).sqrt(), (areas * ratios).sqrt()
        sides = (torch.stack([heights, widths], -1) * size).round().clamp(min=1)
        fits = (sides <= size).all(-1)
        first = fits.int().argmax(1)[:, None, None].expand(-1, 1, 2)
        chosen = sides.gather(1, first)[:, 0]
        chosen = torch.where(fits.any(1, keepdim=True), chosen, float(size))
        starts = (uniforms[:, -2:] * (size - chosen + 1)).floor()
        return chosen, starts.minimum(size - chosen)


def column(uniforms: Tensor, count: int) -> Tensor:
    """Return integers from 0 to ``count - 1`` for numbers in [0, 1)."""
    # The product may round up to `count`.
    return (uniforms * count).long().clamp(max=count - 1)
