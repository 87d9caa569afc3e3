"""Recognition of the format of a foreign file by its name and content."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dcbench_bacon.data.files.mistaken_files import is_text, mistaken
from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.array_readers import images_of
from dcbench_bacon.exchange.interpretation.content import (
    IMAGES,
    channels_last,
    is_pair,
    named,
    pair,
)
from dcbench_bacon.exchange.interpretation.evidence import OVERSHOOT
from dcbench_bacon.exchange.pickles.archives import (
    damaged,
    load_arrays,
    load_torch,
    mapped,
    members,
)
from dcbench_bacon.exchange.pickles.safetensors_files import header
from dcbench_bacon.exchange.pickles.stored import StoredTensor

_READ = 1024  # bytes that are looked at
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")


def guess(path: Path) -> str:
    """Return the name of the format that a file seems to have.

    Raises:
        DataError: the file looks like no known format.
    """
    if path.is_dir():
        names = {"images_best*.pt": "mtt", "images.pt": "dd_ranking"}
        names |= {"images.npy": "npy", "data.npy": "npy", "[xX].npy": "npy"}
        formats = [format for name, format in names.items() if any(path.glob(name))]
        return formats[0] if formats else "folder"
    with damaged(path):
        content = mapped(path)
        _check_kind(path, content[:_READ])
        if path.suffix == ".safetensors" or content[8:9] == b"{":
            return _guess_safetensors(path)
        if content[:6] == b"\x93NUMPY":
            return "npy"
        arrays = content[:2] == b"PK" and any(
            name.endswith(".npy") for name in members(path, content)
        )
    if arrays:
        shape = images_of(path, load_arrays(path)).shape
        return "kip" if channels_last(shape) else "npz"
    return _guess_torch(path, *load_torch(path))


def _check_kind(path: Path, start: bytes) -> None:
    """Make sure that a file is no picture and no text.

    Raises:
        DataError: it is; the message says what a set is.
    """
    if start.startswith(_PICTURES):
        raise DataError(
            f"{path} is one picture; a set of pictures is a folder with one folder per "
            "class: give that folder"
        )
    if is_text(start) and not mistaken(path):
        raise DataError(
            f"{path} is a text file and no synthetic set; `dcbench list formats` lists "
            "what is read"
        )


def _guess_safetensors(path: Path) -> str:
    """Return the format of safetensors: dcbench's own unless its header is missing."""
    try:
        entries = header(path)
    except DataError:  # read as a file of dcbench, whose errors say what is damaged
        return "dcbench"
    metadata = entries.get("__metadata__")
    marked = isinstance(metadata, dict) and "dcbench" in metadata
    return "dcbench" if marked or named(entries, IMAGES) is None else "safetensors"


def _guess_torch(path: Path, value: Any, by_torch: bool) -> str:
    """Return the format of the content of a torch file or a pickle."""
    if isinstance(value, dict):
        name = named(value, IMAGES)
        if name and isinstance(value[name], StoredTensor):
            return "dict"
        if "data" in value:
            return "vico"
        keys = ", ".join(f"{key!s:.30}" for key in list(value)[:8])
        raise DataError(
            f"{path} contains a dictionary of {keys or 'nothing'}, but no images"
            f"{_weights(value)}; a set has images and labels (dcbench list formats)"
        )
    if isinstance(value, StoredTensor):
        if re.match(r"images_(best|zca|\d)", path.name):
            return "mtt"
        return "pair" if path.stem.endswith("_images") else "dd_ranking"
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(step, (list, tuple)) and len(step) > 2 for step in value):
            return "dd"
        if is_pair(value):
            return _guess_pair(path, value) if by_torch else "best"
    raise DataError(
        f"{path} contains a {type(value).__name__} that looks like no known set; if it "
        "is one, name its format with --from (dcbench list formats)"
    )


def _weights(value: Mapping[Any, Any]) -> str:
    """Return that a dictionary looks like the weights of a network, if it does."""
    names = [key for key in value if isinstance(key, str)]
    weights = [key for key in names if key.endswith((".weight", ".bias"))]
    nested = any(key in names for key in ("state_dict", "model_state_dict", "model"))
    return ", as the weights of a network have" if weights or nested else ""


def _guess_pair(path: Path, value: Any) -> str:
    """Return IDC's format, in which values are pixels, only where they can be."""
    images, _ = pair(path, value)
    if images.dtype == torch.uint8 or 0 in images.shape:
        return "tuple"
    with damaged(path):
        values = images.read().to(torch.float32)
    pixels = bool(((values >= -OVERSHOOT) & (values <= 1 + OVERSHOOT)).all())
    return "idc" if pixels else "tuple"
