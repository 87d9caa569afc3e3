"""Pixels of image files: decoded to three channels and one size.

A photograph is turned as its EXIF orientation says, which is how viewers show it.
"""

import logging
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from dcbench_bacon.data.files.source_files import damaged
from dcbench_bacon.data.files.transparency import opaque
from dcbench_bacon.errors import UnsuitableImageError

logger = logging.getLogger(__name__)
_DAMAGED_EXIF = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV")


def decode_images(
    names: Sequence[str],
    read_bytes: Callable[[str], bytes],
    where: str,
    size: int,
    *,
    stretch: bool = False,
) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return the pixels of image files in three channels, decoded in several threads.

    Args:
        names: of the files.
        read_bytes: gives the content of one.
        where: precedes the name in messages.
        size: height and width of the result.
        stretch: resize images of another shape, which are refused otherwise.

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
            if resized and not stretch:
                raise UnsuitableImageError(
                    f"{image.size[0]} x {image.size[1]} pixels, expected {size} x "
                    f"{size}; replace it by a good copy"
                )
            images[index] = np.asarray(_convert(image, size)).transpose(2, 0, 1)
            return image.mode in GREY, resized, image is not stored

    with ThreadPoolExecutor() as pool:
        flags = list(pool.map(fill, range(len(names))))
    if resized := sum(flag for _, flag, _ in flags):
        logger.info("%d of %d images resized to %d", resized, len(names), size)
    if turned := sum(flag for _, _, flag in flags):
        logger.info("%d of %d images turned as EXIF says", turned, len(names))
    return images, all(grey for grey, _, _ in flags)


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


def sides(
    names: Sequence[str], read_bytes: Callable[[str], bytes], where: str = ""
) -> list[tuple[int, int]]:
    """Return the width and the height of image files, from their headers alone.

    Args:
        names: the names of the files.
        read_bytes: returns the content of one.
        where: what precedes the name in messages.
    """

    def side(name: str) -> tuple[int, int]:
        with damaged(Path(where, name)):
            image = Image.open(BytesIO(read_bytes(name)))
            width, height = image.size
            sideways = _orientation(image) in _SIDEWAYS
            return (height, width) if sideways else (width, height)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(side, names))


def _convert(image: Image.Image, size: int) -> Image.Image:
    """Return the image in RGB and in the given size."""
    check_depth(image)
    image = opaque(image).convert("RGB")
    if image.size != (size, size):
        from torchvision.transforms.functional import resize

        image = resize(image, [size, size], antialias=True)
    return image


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
