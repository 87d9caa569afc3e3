"""Draw the crop, the flip and the roll through which a step sees its images.

All images of a batch share the draws of a step, as torchvision's transforms on a batch
do in the published code.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.distillation.decoupled.crops import (
    draw_boxes,
    least_area,
    resized_crops,
)
from dcbench_bacon.distillation.decoupled.settings import RecoverySettings
from dcbench_bacon.runtime.compute.memory import send

PADDED = 8  # ``shift`` pads a size of 32 by 4 pixels, and 64 by 8


class View(NamedTuple):
    """The draws of one step, on the host.

    Attributes:
        box: top, left, height and width of the part that is enlarged; None for none.
        shift: how far the images move down and to the right.
        mirrored: whether left and right are exchanged.
        roll: how far the images are rolled down and to the right.
    """

    box: Tensor | None = None
    shift: tuple[int, int] = (0, 0)
    mirrored: bool = False
    roll: tuple[int, int] = (0, 0)

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return what a step sees of images; gradients flow through."""
        size = images.shape[-1]
        if self.box is not None:
            images = resized_crops(images, send(self.box, images.device), size)
        if any(self.shift):
            images = _shifted(images, *self.shift)
        if self.mirrored:
            images = images.flip(-1)
        return images.roll(self.roll, (-2, -1)) if any(self.roll) else images


def draw_view(
    settings: RecoverySettings, size: int, done: float, generator: torch.Generator
) -> View:
    """Return the view of a step.

    Args:
        settings: the kinds of views.
        size: the pixels along a side of an image.
        done: the share of the batch's steps that are done, in [0, 1).
        generator: a generator on the CPU.
    """
    box, shift, roll = None, (0, 0), (0, 0)
    if settings.view == "resized":
        box = draw_boxes(1, size, least_area(settings, done), generator)
    elif settings.view == "shift":
        shift = _offsets(-(size // PADDED), size // PADDED, generator)
    mirrored = settings.mirrored and bool(torch.rand((), generator=generator) < 0.5)
    if settings.jitter:
        least = -settings.jitter if settings.jitter_signed else 0
        roll = _offsets(least, settings.jitter, generator)
    return View(box, shift, mirrored, roll)


def _offsets(least: int, most: int, generator: torch.Generator) -> tuple[int, int]:
    """Return two numbers of pixels from ``least`` to ``most``."""
    down, right = torch.randint(least, most + 1, (2,), generator=generator).tolist()
    return down, right


def _shifted(
    images: Float[Tensor, "n c h w"], down: int, right: int
) -> Float[Tensor, "n c h w"]:
    """Return images moved by some pixels, with zeros where nothing was."""
    height, width = images.shape[-2:]
    top, left = max(down, 0), max(right, 0)
    padded = F.pad(images, (left, max(-right, 0), top, max(-down, 0)))
    return padded[..., top - down :, left - right :][..., :height, :width]
