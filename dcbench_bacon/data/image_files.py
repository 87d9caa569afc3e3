"""Pixels of image files: decoded to three channels and one size."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dcbench_bacon.data.loading import damaged
from dcbench_bacon.data.transparency import opaque

logger = logging.getLogger(__name__)
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

    def fill(index: int) -> tuple[bool, bool]:
        name = names[index]
        with damaged(Path(where, name)):
            image = Image.open(BytesIO(read_bytes(name)))
            resized = image.size != (size, size)
            if resized and not stretch:
                raise ValueError(f"{image.size} pixels, expected {size} by {size}")
            images[index] = np.asarray(_convert(image, size)).transpose(2, 0, 1)
            return image.mode in GREY, resized

    with ThreadPoolExecutor() as pool:
        flags = list(pool.map(fill, range(len(names))))
    if resized := sum(flag for _, flag in flags):
        logger.info("%d of %d images resized to %d", resized, len(names), size)
    return images, all(grey for grey, _ in flags)


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
        ValueError: it has more.
    """
    if image.mode not in GREY + COLOUR:
        raise ValueError(f"pixels of mode {image.mode}; convert them to 8 bits")
