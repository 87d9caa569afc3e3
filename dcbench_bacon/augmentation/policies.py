"""The augmentation policies of evaluation by name.

``build`` takes any value of ``protocol.augmentation``: a DSA strategy (see
``siamese``), or one of ``POLICIES``. These include the policies that DC-BENCH compares
(Cui et al., arXiv:2207.09639; ``evaluator_utils.py`` of justincui03/dc_benchmark) and
those of DC's evaluation (see ``dc``), which work on normalised images.

The other policies work on pixels: images are de-normalised, clamped to [0, 1],
augmented and normalised again, on their device. Areas that move into an image from
outside are black. Random numbers are drawn per image, from an explicit generator alone.
Each operation runs once for all images that drew it. The operations are those of Kornia
and torchvision on floats. DC-BENCH instead rounds images to bytes first and draws one
policy per batch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torchvision.transforms import AutoAugmentPolicy

from dcbench_bacon.augmentation import dsa
from dcbench_bacon.augmentation.dc import DCAugmentation
from dcbench_bacon.augmentation.policy_steps import (
    Augmenter,
    ColorJitter,
    Mirror,
    PaddedCrop,
    RandAugment,
    ResizedCrop,
    Step,
    SubPolicies,
    Uniforms,
    column,
)
from dcbench_bacon.augmentation.siamese import Augmentation, Groups, parse_strategy
from dcbench_bacon.data.dataset import denormalize, standardize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.schema import DatasetInfo


class AugmentationPolicy:
    """An augmentation by a sequence of steps on pixels.

    Args:
        steps: the steps in their order.
        info: the facts of the data set, for the conversion to pixels and back.
        erased: whether a square of half the size is set to the mean colour at the end.
    """

    def __init__(
        self, steps: Sequence[Step], info: DatasetInfo, *, erased: bool = False
    ) -> None:
        """Keep the steps."""
        self.steps = tuple(steps)
        self.info = info
        self.erased = erased

    def draw(self, groups: int, generator: torch.Generator, samples: int) -> Uniforms:
        """Return draws for each image of each group.

        Args:
            groups: the number of groups.
            generator: a generator on the CPU. It advances by the same amount for every
                outcome.
            samples: the number of images per group.
        """
        columns = sum(step.columns for step in self.steps) + 2 * self.erased
        shape = (groups, samples, columns)
        return Uniforms(torch.rand(shape, generator=generator, device="cpu"))

    def apply(self, images: Groups, draw: Uniforms) -> Groups:
        """Return augmented normalised images, by a draw for as many images."""
        uniforms = draw.values.flatten(0, 1)
        pixels = denormalize(images.flatten(0, 1), self.info).clamp(0, 1)
        start = 0
        for step in self.steps:
            pixels = step(pixels, uniforms[:, start : start + step.columns])
            start += step.columns
        changed = standardize(pixels, self.info)
        if self.erased:
            centres = column(uniforms[:, start:], self.info.size)
            changed = dsa.cutout(changed, centres[:, 0], centres[:, 1])
        return changed.view_as(images)


def _autoaugment(policy: AutoAugmentPolicy, info: DatasetInfo) -> AugmentationPolicy:
    return AugmentationPolicy([SubPolicies(policy)], info)


def _randaugment(info: DatasetInfo) -> AugmentationPolicy:
    return AugmentationPolicy([RandAugment(1)], info)


def _resized(
    least: float, operations: int, info: DatasetInfo, *, mirrored: bool = True
) -> AugmentationPolicy:
    before = [RandAugment(operations)] if operations else []
    return AugmentationPolicy(
        [*before, ResizedCrop(least), *[Mirror()] * mirrored], info
    )


def _cifar(info: DatasetInfo, *, mirrored: bool = True) -> AugmentationPolicy:
    return AugmentationPolicy([PaddedCrop(4), *[Mirror()] * mirrored], info)


def _cifar_aug(info: DatasetInfo) -> AugmentationPolicy:
    return AugmentationPolicy([PaddedCrop(4), Mirror()], info, erased=True)


def _imagenet_aug(info: DatasetInfo) -> AugmentationPolicy:
    return AugmentationPolicy(
        [PaddedCrop(4), Mirror(), ColorJitter((0.4, 0.4, 0.4, 0.2))], info
    )


def _dc(*strategy: str) -> Callable[[DatasetInfo], DCAugmentation]:
    return lambda info: DCAugmentation(strategy, (info.channels, info.size, info.size))


class Listed(NamedTuple):
    """The entry of a policy in the list of policies.

    Attributes:
        build: returns the policy for the images of a data set.
        title: a description of what it does to an image.
        source: the benchmarks and methods that use it.
        pixels: whether it works on pixels, and so not on whitened images.
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
    """Return the augmentation of a name for the images of a data set.

    Args:
        augmentation: a value of ``protocol.augmentation``: the name of a policy, or a
            DSA strategy such as ``color_crop_flip``.
        info: the facts of the data set.

    Raises:
        UsageError: the name is neither a policy nor a DSA strategy.
    """
    check(augmentation)
    if augmentation in POLICIES:
        return POLICIES[augmentation].build(info)
    return Augmentation(augmentation, (info.size, info.size))


def check(augmentation: str) -> None:
    """Make sure that there is an augmentation of a name.

    Raises:
        UsageError: there is none; the message lists the operations and policies.
    """
    if augmentation in POLICIES:
        return
    try:
        parse_strategy(augmentation)
    except UsageError as error:
        policies = ", ".join(POLICIES)
        raise UsageError(f"{error}, or a policy: {policies}") from error


def check_whitened(augmentation: str, whitened: bool) -> None:
    """Make sure that an augmentation does not need pixels if images are whitened.

    Raises:
        UsageError: the images are whitened, and the augmentation works on pixels.
    """
    listed = POLICIES.get(augmentation)
    if whitened and listed is not None and listed.pixels:
        raise UsageError(
            f"{augmentation!r} works on pixels, and these images are ZCA-whitened: "
            "choose a DSA strategy with --set protocol.augmentation"
        )
