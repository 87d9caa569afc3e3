"""Small pictures of sets, from the PNG files that lie beside them."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from dcbench_bacon.recipes.digests import distillation_digest
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

MOST_BYTES = 3_000_000  # of all pictures of a page, before they are written as text
_MOST_PIXELS = 40_000_000  # of a picture that is read
_SIDE = 480  # longest side of a thumbnail in pixels
# What Pillow raises for files that are damaged or too large.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Thumbnail(NamedTuple):
    """A small picture of a set.

    Attributes:
        uri: the picture as a ``data:`` address.
        width: its width in pixels.
        height: its height in pixels.
    """

    uri: str
    width: int
    height: int


def of_records(
    store: Store, records: Iterable[Record]
) -> tuple[dict[str, tuple[Record, Thumbnail]], list[str]]:
    """Return the thumbnails of sets, each with the first record of its set.

    ``dcbench convert SET.safetensors --to picture --output SET.png`` makes the file
    that is looked for.

    Args:
        store: the results folder.
        records: the records, with the names of data sets that paths have.

    Returns:
        The thumbnails by the name of their file, and one sentence for each file that
        is left out.
    """
    made: dict[str, tuple[Record, Thumbnail]] = {}
    left_out: dict[str, str] = {}
    room = MOST_BYTES
    for record in records:
        path = picture_path(store, record)
        if path.name in made or path.name in left_out or not path.is_file():
            continue
        try:
            content, size = _reduced(path)
        except _UNREADABLE as error:
            left_out[path.name] = f"{path.name} cannot be shown: {error}"
            continue
        if len(content) > room:
            left_out[path.name] = (
                f"{path.name} is left out: the page would be too large"
            )
            continue
        room -= len(content)
        uri = "data:image/webp;base64," + base64.b64encode(content).decode()
        made[path.name] = record, Thumbnail(uri, *size)
    return made, list(left_out.values())


def picture_path(store: Store, record: Record) -> Path:
    """Return where the picture of a record's set is looked for."""
    digest = distillation_digest(record.recipe)
    path = store.synthetic_path(record.cell, digest, record.dataset_sha256)
    return path.with_suffix(".png")


def _reduced(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Return a picture at the size of a thumbnail, as WebP, and its size in pixels."""
    with Image.open(path, formats=["PNG"]) as picture:
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError(f"it has more than {_MOST_PIXELS:,} pixels")
        small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=82, method=6)
    return buffer.getvalue(), small.size
