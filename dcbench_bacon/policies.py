"""Augmentation policies of evaluation by name: for each image, on the device.

``build`` takes what ``protocol.augmentation`` may be: a DSA strategy (``augment``), or
one of ``POLICIES``, among them those that DC-BENCH compares (Cui et al.,
arXiv:2207.09639; ``evaluator_utils.py`` of justincui03/dc_benchmark).

A policy works on pixels: images are de-normalised, clamped to [0, 1], augmented, and
normalised again. What moves into the image from outside is black. Every image has draws
of its own, which come from an explicit generator alone; each operation runs once for
all images that drew it. The operations are those of Kornia and of torchvision on
floats; DC-BENCH rounds images to bytes first, and draws one policy for a whole batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log, pi
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32, Int64
from kornia import enhance
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugment as PublishedPolicies
from torchvision.transforms import AutoAugmentPolicy
from torchvision.transforms.v2 import functional as pixelwise

from dcbench_bacon import dsa
from dcbench_bacon.augment import Augmentation, Groups, parse_strategy
from dcbench_bacon.data import denormalize, standardize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.schema import DatasetInfo

Images = Float32[Tensor, "n c h w"]
Values = Float32[Tensor, "n"]
Uniform = Float32[Tensor, "n u"]


@dataclass(frozen=True)
class Uniforms:
    """Numbers in [0, 1) that decide what becomes of each image, on the CPU."""

    values: Float32[Tensor, "g n u"]

    @staticmethod
    def cat(draws: "Sequence[Uniforms]") -> "Uniforms":
        """The draws one after another."""
        return Uniforms(torch.cat([draw.values for draw in draws]))


# Operations: images in [0, 1] and a magnitude each, in the order of their codes. They
# are those of AutoAugment (arXiv:1805.09501) and RandAugment (arXiv:1909.13719) with
# PIL's semantics; 0 leaves an image as it is wherever there is a magnitude.


def shear_x(images: Images, levels: Values) -> Images:
    """Moves each row right or left in proportion to its distance from the top."""
    return _affine(images, [[1.0, levels, levels], [0.0, 1.0, 0.0]])


def shear_y(images: Images, levels: Values) -> Images:
    """Moves each column down or up in proportion to its distance from the left."""
    return _affine(images, [[1.0, 0.0, 0.0], [levels, 1.0, levels]])


def translate_x(images: Images, shares: Values) -> Images:
    """Moves images right by a share of their width, in whole pixels."""
    shift = (shares * images.shape[-1]).trunc() * (2 / images.shape[-1])
    return _affine(images, [[1.0, 0.0, -shift], [0.0, 1.0, 0.0]])


def translate_y(images: Images, shares: Values) -> Images:
    """Moves images down by a share of their height, in whole pixels."""
    shift = (shares * images.shape[-2]).trunc() * (2 / images.shape[-2])
    return _affine(images, [[1.0, 0.0, 0.0], [0.0, 1.0, -shift]])


def rotate(images: Images, degrees: Values) -> Images:
    """Turns images counter-clockwise."""
    return dsa.affine(images, dsa.rotate_theta(degrees), mode="nearest")


def brightness(images: Images, changes: Values) -> Images:
    """Multiplies by ``1 + change``."""
    return enhance.adjust_brightness_accumulative(images, 1 + changes)


def color(images: Images, changes: Values) -> Images:
    """Multiplies the distance from grey by ``1 + change``."""
    if images.shape[1] == 1:
        return images
    return enhance.adjust_saturation_with_gray_subtraction(images, 1 + changes)


def contrast(images: Images, changes: Values) -> Images:
    """Multiplies the distance from the mean grey by ``1 + change``."""
    return enhance.adjust_contrast_with_mean_subtraction(images, 1 + changes)


def sharpness(images: Images, changes: Values) -> Images:
    """Multiplies the distance from a blurred image by ``1 + change``."""
    blurred = enhance.sharpness(images, 0.0)
    weights = (1 + changes)[:, None, None, None]
    return (blurred + (images - blurred) * weights).clamp(0, 1)


def hue(images: Images, turns: Values) -> Images:
    """Turns the hue."""
    if images.shape[1] == 1:
        return images
    return enhance.adjust_hue(images, 2 * pi * turns)


def posterize(images: Images, dropped: Values) -> Images:
    """Clears so many of the eight bits, the lowest first."""
    step = (2**dropped)[:, None, None, None]
    return (images.mul(255).round() / step).floor() * step / 255


def solarize(images: Images, shares: Values) -> Images:
    """Inverts the pixels that are brighter than ``1 - share``."""
    bright = images >= (1 - shares)[:, None, None, None]
    return torch.where(bright, 1 - images, images)


def autocontrast(images: Images, _: Values) -> Images:
    """Stretches each channel to [0, 1]."""
    stretched: Tensor = pixelwise.autocontrast(images)
    return stretched


def equalize(images: Images, _: Values) -> Images:
    """Makes the histogram of each channel flat."""
    flat: Tensor = pixelwise.equalize(images)
    return flat


def invert(images: Images, _: Values) -> Images:
    """Turns black to white."""
    return 1 - images


def _affine(images: Images, rows: Sequence[Sequence[float | Tensor]]) -> Images:
    """Samples output points, in coordinates from -1 to 1, from where a map sends them.

    Args:
        images: what is sampled.
        rows: of the map, entries the same for all images or one for each.
    """
    theta = images.new_empty(len(images), 2, 3)
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            theta[:, i, j] = entry
    return dsa.affine(images, theta, mode="nearest")


@dataclass(frozen=True)
class Operation:
    """What a policy may do to an image.

    Attributes:
        run: takes images and magnitudes.
        strongest: the magnitude at the end of AutoAugment's scale.
        signed: whether half of the images get the opposite.
        whole: whether the magnitude is an integer.
    """

    run: Callable[[Tensor, Tensor], Tensor]
    strongest: float = 0.0
    signed: bool = False
    whole: bool = False


_MOVED = 150 / 331  # AutoAugment's translation by 150 pixels of ImageNet's 331
# Names are torchvision's; all but the last enter RandAugment in this order.
OPERATIONS = {
    "ShearX": Operation(shear_x, 0.3, signed=True),
    "ShearY": Operation(shear_y, 0.3, signed=True),
    "TranslateX": Operation(translate_x, _MOVED, signed=True),
    "TranslateY": Operation(translate_y, _MOVED, signed=True),
    "Rotate": Operation(rotate, 30.0, signed=True),
    "Brightness": Operation(brightness, 0.9, signed=True),
    "Color": Operation(color, 0.9, signed=True),
    "Contrast": Operation(contrast, 0.9, signed=True),
    "Sharpness": Operation(sharpness, 0.9, signed=True),
    "Posterize": Operation(posterize, 4.0, whole=True),
    "Solarize": Operation(solarize, 1.0),
    "AutoContrast": Operation(autocontrast),
    "Equalize": Operation(equalize),
    "Invert": Operation(invert),
    "Hue": Operation(hue),
}
_CODES = {name: code for code, name in enumerate(OPERATIONS)}
_NOTHING = -1


def operate(images: Images, codes: Int64[Tensor, "n"], magnitudes: Values) -> Images:
    """Runs each operation once, on the images that drew it.

    Args:
        images: in [0, 1].
        codes: positions in ``OPERATIONS``, or -1 for nothing; on the CPU.
        magnitudes: one an image; on the CPU.
    """
    output = images.clone()
    for code in codes.unique().tolist():
        if code == _NOTHING:
            continue
        members = (codes == code).nonzero()[:, 0]
        index = members.to(images.device, non_blocking=True)
        levels = magnitudes[members].to(images.device, non_blocking=True)
        operation = list(OPERATIONS.values())[code]
        output.index_copy_(0, index, operation.run(images[index], levels))
    return output


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
        self.codes = torch.tensor([[_CODES[name] for name, *_ in p] for p in pairs])
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
            codes = torch.where(happens, self.codes[chosen, slot], _NOTHING)
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
        names = list(OPERATIONS)[: _CODES["Invert"]]
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
        self.codes = torch.tensor([_CODES[name] for name in names])

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
        sides, starts = self.boxes(uniforms, images.shape[-1])
        grids = []
        for axis in (1, 0):  # columns come first in a grid
            start, side = starts[:, axis, None], sides[:, axis, None]
            size = images.shape[-1]
            centres = (torch.arange(size) + 0.5) * side / size - 0.5
            pixels = start + centres.clamp(min=0).minimum(side - 1)  # none from outside
            grids.append((2 * pixels + 1) / size - 1)
        columns, rows = grids
        shape = (len(images), images.shape[-1], images.shape[-1])
        grid = torch.stack(
            [columns[:, None].expand(shape), rows[:, :, None].expand(shape)], -1
        ).to(images.device, non_blocking=True)
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

    def draw(
        self, groups: int, generator: torch.Generator, samples: int | None = None
    ) -> Uniforms:
        """Draws for each image of each group.

        Args:
            groups: how many.
            generator: on the CPU; it moves on by the same amount whatever is drawn.
            samples: images of a group.
        """
        columns = sum(step.columns for step in self.steps) + 2 * self.erased
        shape = (groups, samples or 1, columns)
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


def _resized(least: float, operations: int, info: DatasetInfo) -> Policy:
    before = [RandAugment(operations)] if operations else []
    return Policy([*before, ResizedCrop(least), Mirror()], info)


def _cifar(info: DatasetInfo) -> Policy:
    return Policy([PaddedCrop(4), Mirror()], info)


def _cifar_aug(info: DatasetInfo) -> Policy:
    return Policy([PaddedCrop(4), Mirror()], info, erased=True)


def _imagenet_aug(info: DatasetInfo) -> Policy:
    return Policy([PaddedCrop(4), Mirror(), ColorJitter((0.4, 0.4, 0.4, 0.2))], info)


POLICIES: dict[str, Callable[[DatasetInfo], Policy]] = {
    # DC-BENCH's autoaug and randaug; the second policy is its choice for 64 pixels.
    "autoaugment": partial(_autoaugment, AutoAugmentPolicy.CIFAR10),
    "autoaugment_imagenet": partial(_autoaugment, AutoAugmentPolicy.IMAGENET),
    "randaugment": _randaugment,
    # What everyone does to train on CIFAR and on ImageNet.
    "cifar": _cifar,
    "imagenet": partial(_resized, 0.08, 0),
    # What DC-BENCH calls by these names.
    "cifar_aug": _cifar_aug,
    "imagenet_aug": _imagenet_aug,
    # EDC's stage 4, on CIFAR-10 and elsewhere (direct_train.py).
    "edc_cifar10": partial(_resized, 0.08, 2),
    "edc": partial(_resized, 0.5, 2),
}


def build(augmentation: str, info: DatasetInfo) -> Augmentation | Policy:
    """What ``protocol.augmentation`` names, for images of a data set.

    Raises:
        UsageError: it is neither a policy nor a DSA strategy.
    """
    check(augmentation)
    if augmentation in POLICIES:
        return POLICIES[augmentation](info)
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


def _index(uniforms: Tensor, count: int) -> Tensor:
    """Integers from 0 to ``count - 1``; a product may round up to the next one."""
    return (uniforms * count).long().clamp(max=count - 1)
