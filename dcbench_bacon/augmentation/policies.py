"""Augmentation policies of evaluation by name: for each image, on the device.

``build`` takes what ``protocol.augmentation`` may be: a DSA strategy (``augment``), or
one of ``POLICIES``, among them those that DC-BENCH compares (Cui et al.,
arXiv:2207.09639; ``evaluator_utils.py`` of justincui03/dc_benchmark), and those of DC's
evaluation, which work on normalised images (``dc_augment``).

The other policies work on pixels: images are de-normalised, clamped to [0, 1],
augmented, and normalised again. What moves into the image from outside is black. Every
image has draws of its own, which come from an explicit generator alone; each operation
runs once for all images that drew it. The operations are those of Kornia and of
torchvision on floats; DC-BENCH rounds images to bytes first, and draws one policy for a
whole batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugment as PublishedPolicies
from torchvision.transforms import AutoAugmentPolicy

from dcbench_bacon import dsa
from dcbench_bacon.augment import Augmentation, Groups, parse_strategy
from dcbench_bacon.data import denormalize, standardize
from dcbench_bacon.dc_augment import DCAugmentation
from dcbench_bacon.errors import UsageError
from dcbench_bacon.memory import send
from dcbench_bacon.operations import CODES, NOTHING, OPERATIONS, Images, operate
from dcbench_bacon.schema import DatasetInfo

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


class Published:
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
        chosen = _index(uniforms[:, 0], len(self.codes))
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
            codes = _index(uniforms[:, start], choices) - 1  # -1 does nothing
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
        shifts = _index(uniforms, 2 * self.frame + 1) - self.frame
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


class Policy:
    """Steps on pixels, one after another.

    Args:
        steps: what is done.
        info: facts of the images, for the way to pixels and back.
        erased: whether a square of half the size is set to the mean color at the end.
    """

    def __init__(
        self, steps: Sequence[Step], info: DatasetInfo, *, erased: bool = False
    ) -> None:
        """Keeps the steps."""
        self.steps = tuple(steps)
        self.info = info
        self.erased = erased

    def draw(self, groups: int, generator: torch.Generator, samples: int) -> Uniforms:
        """Draws for each image of each group.

        Args:
            groups: how many.
            generator: on the CPU; it moves on by the same amount whatever is drawn.
            samples: images of a group.
        """
        columns = sum(step.columns for step in self.steps) + 2 * self.erased
        shape = (groups, samples, columns)
        return Uniforms(torch.rand(shape, generator=generator, device="cpu"))

    def apply(self, images: Groups, draw: Uniforms) -> Groups:
        """Augments normalised images by a draw for as many."""
        uniforms = draw.values.flatten(0, 1)
        pixels = denormalize(images.flatten(0, 1), self.info).clamp(0, 1)
        start = 0
        for step in self.steps:
            pixels = step(pixels, uniforms[:, start : start + step.columns])
            start += step.columns
        changed = standardize(pixels, self.info)
        if self.erased:
            centres = _index(uniforms[:, start:], self.info.size)
            changed = dsa.cutout(changed, centres[:, 0], centres[:, 1])
        return changed.view_as(images)


def _autoaugment(policy: AutoAugmentPolicy, info: DatasetInfo) -> Policy:
    return Policy([Published(policy)], info)


def _randaugment(info: DatasetInfo) -> Policy:
    return Policy([RandAugment(1)], info)


def _resized(
    least: float, operations: int, info: DatasetInfo, *, mirrored: bool = True
) -> Policy:
    before = [RandAugment(operations)] if operations else []
    return Policy([*before, ResizedCrop(least), *[Mirror()] * mirrored], info)


def _cifar(info: DatasetInfo, *, mirrored: bool = True) -> Policy:
    return Policy([PaddedCrop(4), *[Mirror()] * mirrored], info)


def _cifar_aug(info: DatasetInfo) -> Policy:
    return Policy([PaddedCrop(4), Mirror()], info, erased=True)


def _imagenet_aug(info: DatasetInfo) -> Policy:
    return Policy([PaddedCrop(4), Mirror(), ColorJitter((0.4, 0.4, 0.4, 0.2))], info)


def _dc(*strategy: str) -> Callable[[DatasetInfo], DCAugmentation]:
    return lambda info: DCAugmentation(strategy, (info.channels, info.size, info.size))


class Listed(NamedTuple):
    """A policy by name.

    Attributes:
        build: makes it for images of a data set.
        title: what it does to an image.
        source: who uses it.
        pixels: whether it works on pixels, which whitened images are not.
    """

    build: Callable[[DatasetInfo], Augmenter]
    title: str
    source: str
    pixels: bool = True


_DIGITS = "ours, for digits, instead of {}"
POLICIES: dict[str, Listed] = {
    "autoaugment": Listed(
        partial(_autoaugment, AutoAugmentPolicy.CIFAR10),
        "one of 25 pairs of operations, found on CIFAR-10",
        "DC-BENCH's autoaug",
    ),
    "autoaugment_imagenet": Listed(
        partial(_autoaugment, AutoAugmentPolicy.IMAGENET),
        "one of 25 pairs of operations, found on ImageNet",
        "DC-BENCH's autoaug at 64 pixels",
    ),
    "randaugment": Listed(
        _randaugment, "one of 14 operations, doing nothing among them", "DC-BENCH"
    ),
    "cifar": Listed(
        _cifar,
        "moved by up to 4 pixels, mirrored or not",
        "SRe2L on CIFAR-100, as most who train on CIFAR",
    ),
    "cifar_no_mirror": Listed(
        partial(_cifar, mirrored=False),
        "moved by up to 4 pixels",
        _DIGITS.format("cifar"),
    ),
    "imagenet": Listed(
        partial(_resized, 0.08, 0),
        "a part of 8 % or more of the area, enlarged, mirrored or not",
        "G-VBSM; SRe2L on Tiny ImageNet",
    ),
    "imagenet_no_mirror": Listed(
        partial(_resized, 0.08, 0, mirrored=False),
        "a part of 8 % or more of the area, enlarged",
        _DIGITS.format("imagenet"),
    ),
    "cifar_aug": Listed(
        _cifar_aug,
        "moved by up to 4 pixels, mirrored or not, a square of half the size erased",
        "DC-BENCH",
    ),
    "imagenet_aug": Listed(
        _imagenet_aug,
        "moved by up to 4 pixels, mirrored or not, colors changed",
        "DC-BENCH",
    ),
    "edc_cifar10": Listed(
        partial(_resized, 0.08, 2),
        "randaugment twice, then imagenet",
        "EDC on CIFAR-10",
    ),
    "edc_cifar10_no_mirror": Listed(
        partial(_resized, 0.08, 2, mirrored=False),
        "randaugment twice, then imagenet_no_mirror",
        _DIGITS.format("edc_cifar10"),
    ),
    "edc": Listed(
        partial(_resized, 0.5, 2),
        "randaugment twice, half or more of the area enlarged, mirrored or not",
        "EDC on CIFAR-100 and Tiny ImageNet",
    ),
    "dc_crop_scale_rotate": Listed(
        _dc("crop", "scale", "rotate"),
        "moved by up to 4 pixels, or resized by up to a fifth, or turned by up to 45°",
        "DC on MNIST",
        pixels=False,
    ),
    "dc_crop_noise": Listed(
        _dc("crop", "noise"),
        "moved by up to 4 pixels, or with a little noise",
        "DC for ConvNetBN",
        pixels=False,
    ),
}


def build(augmentation: str, info: DatasetInfo) -> Augmenter:
    """What ``protocol.augmentation`` names, for images of a data set.

    Raises:
        UsageError: it is neither a policy nor a DSA strategy.
    """
    check(augmentation)
    if augmentation in POLICIES:
        return POLICIES[augmentation].build(info)
    return Augmentation(augmentation, (info.size, info.size))


def check(augmentation: str) -> None:
    """Makes sure that there is such an augmentation.

    Raises:
        UsageError: there is not; lists what there is.
    """
    if augmentation in POLICIES:
        return
    try:
        parse_strategy(augmentation)
    except UsageError as error:
        policies = ", ".join(POLICIES)
        raise UsageError(f"{error}, or a policy: {policies}") from error


def check_whitened(augmentation: str, whitened: bool) -> None:
    """Makes sure that an augmentation can work on images that are no pixels.

    Raises:
        UsageError: the images are whitened, and it is a policy.
    """
    listed = POLICIES.get(augmentation)
    if whitened and listed is not None and listed.pixels:
        raise UsageError(
            f"{augmentation!r} works on pixels, and these images are ZCA-whitened: "
            "choose a DSA strategy with --set protocol.augmentation"
        )


def _index(uniforms: Tensor, count: int) -> Tensor:
    """Integers from 0 to ``count - 1``; a product may round up to the next one."""
    return (uniforms * count).long().clamp(max=count - 1)
