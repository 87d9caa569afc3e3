"""The steps that augmentation policies are made of."""

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
from dcbench_bacon.runtime.memory import send

Uniform = Float32[Tensor, "n u"]


@runtime_checkable
class Augmenter(Protocol):
    """What augments batches: it draws first, so that draws can be joined."""

    def draw(self, groups: int, generator: torch.Generator, samples: int) -> Any:
        """Draws for each image of each group; the draws' ``cat`` joins groups."""
        ...

    def apply(self, images: Groups, draw: Any) -> Groups:
        """Augments normalised images by a draw for as many."""
        ...


@dataclass(frozen=True)
class Uniforms:
    """Numbers in [0, 1) that decide what becomes of each image, on the CPU."""

    values: Float32[Tensor, "g n u"]

    @staticmethod
    def cat(draws: "Sequence[Uniforms]") -> "Uniforms":
        """The draws one after another."""
        return Uniforms(torch.cat([draw.values for draw in draws]))


def magnitude(name: str, share: float) -> float:
    """The magnitude of an operation at a share of its scale, in [0, 1]."""
    operation = OPERATIONS[name]
    level = operation.strongest * share
    return float(round(level)) if operation.whole else level


def _signs(names: Sequence[str]) -> Float32[Tensor, "m"]:
    """1 for operations whose magnitudes have a sign, 0 for the others."""
    return torch.tensor([float(OPERATIONS[name].signed) for name in names])


@runtime_checkable
class Step(Protocol):
    """A part of a policy.

    Attributes:
        columns: uniform numbers it takes an image.
    """

    columns: int

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Augments images in [0, 1] by draws on the CPU."""
        ...


class SubPolicies:
    """AutoAugment: a pair of operations, each with a probability, an image.

    Args:
        policy: whose pairs; the tables are torchvision's, which are the paper's.
    """

    columns = 5
    _BINS = 10  # levels of the paper's scale

    def __init__(self, policy: AutoAugmentPolicy) -> None:
        """Makes tensors of the table."""
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
        """Runs the first operations of all images, then the second ones."""
        chosen = column(uniforms[:, 0], len(self.codes))
        for slot in range(2):
            happens = uniforms[:, 1 + slot] < self.chances[chosen, slot]
            codes = torch.where(happens, self.codes[chosen, slot], NOTHING)
            levels = self.magnitudes[chosen, slot]
            flipped = (uniforms[:, 3 + slot] < 0.5) & self.signed[chosen, slot].bool()
            images = operate(images, codes, torch.where(flipped, -levels, levels))
        return images


class RandAugment:
    """So many operations an image, all at one level.

    Args:
        count: of operations, drawn with replacement; doing nothing is one of them.
    """

    _SHARE = 9 / 30  # level 9 of 31, torchvision's default

    def __init__(self, count: int) -> None:
        """Makes tensors of the operations."""
        self.columns = 2 * count
        names = list(OPERATIONS)[: CODES["Invert"]]
        self.magnitudes = torch.tensor([magnitude(name, self._SHARE) for name in names])
        self.signed = _signs(names).bool()

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Runs one operation after another."""
        for start in range(0, self.columns, 2):
            choices = len(self.magnitudes) + 1
            codes = column(uniforms[:, start], choices) - 1  # -1 does nothing
            levels = self.magnitudes[codes]
            flipped = (uniforms[:, start + 1] < 0.5) & self.signed[codes]
            images = operate(images, codes, torch.where(flipped, -levels, levels))
        return images


class ColorJitter:
    """Brightness, contrast, saturation and hue, in an order of each image's own.

    Args:
        strengths: the largest change of each; hue is a share of the circle.
    """

    columns = 8

    def __init__(self, strengths: tuple[float, float, float, float]) -> None:
        """Makes tensors of the operations."""
        self.strengths = torch.tensor(strengths)
        names = ("Brightness", "Contrast", "Color", "Hue")
        self.codes = torch.tensor([CODES[name] for name in names])

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Runs the first operations of all images, then the second ones, and so on."""
        orders = uniforms[:, :4].argsort(1)
        changes = (2 * uniforms[:, 4:] - 1) * self.strengths
        for slot in range(4):
            chosen = orders[:, slot]
            levels = changes.gather(1, chosen[:, None])[:, 0]
            images = operate(images, self.codes[chosen], levels)
        return images


class Mirror:
    """Mirrors half of the images left and right."""

    columns = 1

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Mirrors those below a half."""
        return dsa.flip(images, (uniforms[:, 0] < 0.5).float())


class PaddedCrop:
    """Moves images by whole pixels: a crop of an image with a black frame.

    Args:
        frame: its width, the most that an image moves.
    """

    columns = 2

    def __init__(self, frame: int) -> None:
        """Keeps the width."""
        self.frame = frame

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Moves each image."""
        shifts = column(uniforms, 2 * self.frame + 1) - self.frame
        return dsa.crop(images, shifts[:, 0], shifts[:, 1])


class ResizedCrop:
    """Enlarges a part of each image to the whole, bilinearly.

    Area and aspect ratio are drawn until the part fits, ten times at most, as
    torchvision does; then the whole image is left.

    Args:
        least: the smallest share of the area; the largest is 1.
    """

    _TRIES = 10
    _RATIO = log(4 / 3)  # the aspect ratio is log-uniform from 3/4 to 4/3
    columns = 2 * _TRIES + 2

    def __init__(self, least: float) -> None:
        """Keeps the law."""
        self.least = least

    def __call__(self, images: Images, uniforms: Uniform) -> Images:
        """Crops each image."""
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
        """Height and width of each part, and its first row and column."""
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
    """Integers from 0 to ``count - 1``; a product may round up to the next one."""
    return (uniforms * count).long().clamp(max=count - 1)
