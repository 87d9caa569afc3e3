"""The operations of augmentation policies on pixels, with one magnitude per image.

They are those of AutoAugment (Cubuk et al., arXiv:1805.09501) and RandAugment
(arXiv:1909.13719) as PIL defines them, made of Kornia's and torchvision's functions
where these are batched. Images are in [0, 1]. A magnitude of 0 does not change an
image. Areas that move into an image from outside are black.
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
from dcbench_bacon.runtime.compute.memory import send

Images = Float32[Tensor, "n c h w"]
Values = Float32[Tensor, "n"]
NOTHING = -1  # the code of no operation


def shear_x(images: Images, levels: Values) -> Images:
    """Return images with rows moved in proportion to their distance from the top."""
    return _affine(images, [[1.0, levels, levels], [0.0, 1.0, 0.0]])


def shear_y(images: Images, levels: Values) -> Images:
    """Return images with columns moved in proportion to the distance from the left."""
    return _affine(images, [[1.0, 0.0, 0.0], [levels, 1.0, levels]])


def translate_x(images: Images, shares: Values) -> Images:
    """Return images moved right by a share of their width, in whole pixels."""
    shift = (shares * images.shape[-1]).trunc() * (2 / images.shape[-1])
    return _affine(images, [[1.0, 0.0, -shift], [0.0, 1.0, 0.0]])


def translate_y(images: Images, shares: Values) -> Images:
    """Return images moved down by a share of their height, in whole pixels."""
    shift = (shares * images.shape[-2]).trunc() * (2 / images.shape[-2])
    return _affine(images, [[1.0, 0.0, 0.0], [0.0, 1.0, -shift]])


def rotate(images: Images, degrees: Values) -> Images:
    """Return images turned counter-clockwise."""
    return dsa.affine(images, dsa.rotate_theta(degrees), mode="nearest")


def brightness(images: Images, changes: Values) -> Images:
    """Return images times ``1 + change``."""
    return enhance.adjust_brightness_accumulative(images, 1 + changes)


def color(images: Images, changes: Values) -> Images:
    """Return images with their distance from grey times ``1 + change``."""
    if images.shape[1] == 1:
        return images
    return enhance.adjust_saturation_with_gray_subtraction(images, 1 + changes)


def contrast(images: Images, changes: Values) -> Images:
    """Return images with their distance from the mean grey times ``1 + change``."""
    return enhance.adjust_contrast_with_mean_subtraction(images, 1 + changes)


def sharpness(images: Images, changes: Values) -> Images:
    """Return images with their distance from a blurred copy times ``1 + change``."""
    blurred = enhance.sharpness(images, 0.0)
    weights = (1 + changes)[:, None, None, None]
    return (blurred + (images - blurred) * weights).clamp(0, 1)


def hue(images: Images, turns: Values) -> Images:
    """Return images whose hue is moved by a share of the colour circle."""
    if images.shape[1] == 1:
        return images
    return enhance.adjust_hue(images, 2 * pi * turns)


def posterize(images: Images, dropped: Values) -> Images:
    """Return images in which so many of the lowest of eight bits are zero."""
    step = (2**dropped)[:, None, None, None]
    return (images.mul(255).round() / step).floor() * step / 255


def solarize(images: Images, shares: Values) -> Images:
    """Return images whose values of ``1 - share`` or more are inverted."""
    bright = images >= (1 - shares)[:, None, None, None]
    return torch.where(bright, 1 - images, images)


def autocontrast(images: Images, _: Values) -> Images:
    """Return images whose channels are each stretched to [0, 1]."""
    stretched: Tensor = pixelwise.autocontrast(images)
    return stretched


def equalize(images: Images, _: Values) -> Images:
    """Return images whose channels each have a flat histogram."""
    flat: Tensor = pixelwise.equalize(images)
    return flat


def invert(images: Images, _: Values) -> Images:
    """Return images with inverted values, black as white."""
    return 1 - images


def _affine(images: Images, rows: Sequence[Sequence[float | Tensor]]) -> Images:
    """Return images sampled at the points to which a map sends the output points.

    Args:
        images: the images.
        rows: the two rows of the map in coordinates from -1 to 1; an entry is one
            number for all images or one number per image.
    """
    theta = images.new_empty(len(images), 2, 3)
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            theta[:, i, j] = entry
    return dsa.affine(images, theta, mode="nearest")


@dataclass(frozen=True)
class PixelOperation:
    """An operation of a policy.

    Attributes:
        run: returns changed images for images and magnitudes.
        strongest: the magnitude at the end of AutoAugment's scale.
        signed: whether half of the images get the opposite of the magnitude.
        whole: whether the magnitude is an integer.
    """

    run: Callable[[Tensor, Tensor], Tensor]
    strongest: float = 0.0
    signed: bool = False
    whole: bool = False


_MOVED = 150 / 331  # AutoAugment's translation by 150 pixels of ImageNet's 331
# The names are torchvision's. RandAugment uses those before "Invert", in this order.
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
    """Return the images after each operation has run once, on those that drew it.

    Args:
        images: images in [0, 1].
        codes: the position in ``OPERATIONS`` per image, or -1 for no operation; on the
            CPU.
        magnitudes: one magnitude per image, on the CPU.
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
