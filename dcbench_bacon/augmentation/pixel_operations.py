"""The operations of augmentation policies on pixels: batched, a magnitude an image.

They are those of AutoAugment (Cubuk et al., arXiv:1805.09501) and RandAugment
(arXiv:1909.13719) with PIL's semantics, made of Kornia's and torchvision's functions
where these are batched. Images are in [0, 1]; a magnitude of 0 leaves them as they are.
What moves into an image from outside is black.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float32, Int64
from kornia import enhance
from torch import Tensor
from torchvision.transforms.v2 import functional as pixelwise

from dcbench_bacon.augmentation import dsa
from dcbench_bacon.runtime.memory import send

Images = Float32[Tensor, "n c h w"]
Values = Float32[Tensor, "n"]
NOTHING = -1  # the code of no operation


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
class PixelOperation:
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
    "ShearX": PixelOperation(shear_x, 0.3, signed=True),
    "ShearY": PixelOperation(shear_y, 0.3, signed=True),
    "TranslateX": PixelOperation(translate_x, _MOVED, signed=True),
    "TranslateY": PixelOperation(translate_y, _MOVED, signed=True),
    "Rotate": PixelOperation(rotate, 30.0, signed=True),
    "Brightness": PixelOperation(brightness, 0.9, signed=True),
    "Color": PixelOperation(color, 0.9, signed=True),
    "Contrast": PixelOperation(contrast, 0.9, signed=True),
    "Sharpness": PixelOperation(sharpness, 0.9, signed=True),
    "Posterize": PixelOperation(posterize, 4.0, whole=True),
    "Solarize": PixelOperation(solarize, 1.0),
    "AutoContrast": PixelOperation(autocontrast),
    "Equalize": PixelOperation(equalize),
    "Invert": PixelOperation(invert),
    "Hue": PixelOperation(hue),
}
CODES = {name: code for code, name in enumerate(OPERATIONS)}


def operate(images: Images, codes: Int64[Tensor, "n"], magnitudes: Values) -> Images:
    """Runs each operation once, on the images that drew it.

    Args:
        images: in [0, 1].
        codes: positions in ``OPERATIONS``, or -1 for nothing; on the CPU.
        magnitudes: one an image; on the CPU.
    """
    output = images.clone()
    for code in sorted(set(codes.tolist())):
        if code == NOTHING:
            continue
        members = (codes == code).nonzero()[:, 0]
        index = send(members, images.device)
        levels = send(magnitudes[members], images.device)
        operation = list(OPERATIONS.values())[code]
        output.index_copy_(0, index, operation.run(images[index], levels))
    return output
