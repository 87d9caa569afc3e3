"""Pixels of image files: decoded to three channels and one size.

A photograph is turned as its EXIF orientation says, which is how viewers show it.
"""

import logging
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from dcbench_bacon.data.files.source_files import damaged
from dcbench_bacon.data.files.transparency import opaque
from dcbench_bacon.errors import UnsuitableImageError

logger = logging.getLogger(__name__)
_DAMAGED_EXIF = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV")


class Square(NamedTuple):
    """How an image of any shape becomes a square.

    Attributes:
        size: the height and width of the square in pixels.
        shorter: the length in pixels to which the shorter side is resized before the
            middle is cut out, at least ``size``; 0 stretches the whole image.
        channels: 1 for greyscale, 3 for colour.
    """

    size: int
    shorter: int = 0
    channels: int = 3


def decode_images(
    names: Sequence[str],
    read_bytes: Callable[[str], bytes],
    where: str,
    size: int,
    square: Square | None = None,
) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return the pixels of image files in three channels, decoded in several threads.

    Args:
        names: of the files.
        read_bytes: gives the content of one.
        where: precedes the name in messages.
        size: height and width of the result.
        square: how images of another shape become squares of the size; they are refused
            by default.

    Returns:
        The images (n, 3, h, w) and whether all are greyscale.
    """
    images = np.empty((len(names), 3, size, size), np.uint8)

    def fill(index: int) -> tuple[bool, bool, bool]:
        name = names[index]
        with damaged(Path(where, name)):
            stored = Image.open(BytesIO(read_bytes(name)))
            image = upright(stored)
            resized = image.size != (size, size)
            if resized and square is None:
                raise UnsuitableImageError(
                    f"{image.size[0]} x {image.size[1]} pixels, expected {size} x "
                    f"{size}; replace it by a good copy"
                )
            images[index] = fitted(image, square or Square(size))
            return (
                image.mode in GREY + SIXTEEN,
                resized,
                image is not stored,
            )

    with ThreadPoolExecutor() as pool:
        flags = list(pool.map(fill, range(len(names))))
    if resized := sum(flag for _, flag, _ in flags):
        logger.info("%d of %d images resized to %d", resized, len(names), size)
    if turned := sum(flag for _, _, flag in flags):
        logger.info("%d of %d images turned as EXIF says", turned, len(names))
    return images, all(grey for grey, _, _ in flags)


def fitted(image: Image.Image, square: Square) -> npt.NDArray[np.uint8]:
    """Return an upright image as a square of pixels (channels, size, size).

    Palettes, CMYK, transparency and 16 bits per channel are converted. Resizing is
    bilinear and antialiased. The middle is that of torchvision's ``Resize`` and
    ``CenterCrop``.

    Raises:
        UnsuitableImageError: the pixels cannot be converted to 8 bits.
    """
    image = _eight_bits(image)
    check_depth(image)
    image = opaque(image).convert("L" if square.channels == 1 else "RGB")
    width, height = image.size
    if not square.shorter:
        sides = (square.size, square.size)
    elif width <= height:
        sides = (square.shorter, square.shorter * height // width)
    else:
        sides = (square.shorter * width // height, square.shorter)
    if image.size != sides:
        image = image.resize(sides, Image.Resampling.BILINEAR)
    left, top = (round((side - square.size) / 2) for side in sides)
    image = image.crop((left, top, left + square.size, top + square.size))
    pixels = np.asarray(image)
    return pixels[None] if square.channels == 1 else pixels.transpose(2, 0, 1)


def read_image(path: str, square: Square) -> npt.NDArray[np.uint8]:
    """Return an image file as a square of pixels (channels, size, size).

    Raises:
        DataError: the file is damaged; the message names it.
    """
    with damaged(path), Image.open(path) as image:
        return fitted(upright(image), square)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits per pixel with 8, and any other as it is."""
    if image.mode not in SIXTEEN:
        return image
    levels = np.asarray(image).astype(np.int64)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def upright(image: Image.Image) -> Image.Image:
    """Return an image as viewers show it: itself, or turned as its EXIF data say."""
    return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is upright, without readable EXIF data."""
    try:
        stated = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED_EXIF:  # beside sound pixels
        return 1
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def sides(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Return the width and the height of image files, from their headers alone.

    Raises:
        DataError: a file is damaged; the message names it.
    """

    def side(path: str) -> tuple[int, int]:
        with damaged(path), Image.open(path) as image:
            width, height = image.size
            sideways = _orientation(image) in _SIDEWAYS
            return (height, width) if sideways else (width, height)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(side, paths))


def check_depth(image: Image.Image) -> None:
    """Make sure that an image has 8 bits per channel: PIL clips 16 bits and floats.

    Raises:
        UnsuitableImageError: it has more.
    """
    if image.mode not in GREY + COLOUR:
        raise UnsuitableImageError(
            f"pixels of mode {image.mode}, which have more than 8 bits per channel; "
            "convert them to 8 bits"
        )
