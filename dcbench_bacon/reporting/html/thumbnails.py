"""Small pictures of sets, as a page holds them."""

import base64
import io
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from dcbench_bacon.schema import Record

LONGEST = 480  # largest side of a thumbnail in pixels


class Thumbnail(NamedTuple):
    """A small picture of a set.

    Attributes:
        record: the first record of the set.
        uri: the picture as a ``data:`` address.
        width: its width in pixels.
        height: its height in pixels.
        note: what is left out of it, or special about it.
        rows: the names of the classes, a row each.
    """

    record: Record
    uri: str
    width: int
    height: int
    note: str
    rows: tuple[str, ...]


def thumbnail(
    record: Record, pixels: npt.NDArray[np.uint8], note: str, rows: tuple[str, ...]
) -> Thumbnail:
    """Return pixels as a thumbnail, which is as small as a page needs it.

    Args:
        record: the first record of the set.
        pixels: of shape (height, width, 3).
        note: what is left out of the picture, or special about it.
        rows: the names of the classes, a row each.
    """
    picture: Any = Image.fromarray(pixels)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=82, method=6)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(record, uri, picture.width, picture.height, note, rows)
