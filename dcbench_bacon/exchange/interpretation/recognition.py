"""Recognition of the format of a foreign file by its name and content."""

import re
from pathlib import Path
from typing import Any

import torch

from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.interpretation.content import array, channels_last, pair
from dcbench_bacon.exchange.interpretation.evidence import OVERSHOOT
from dcbench_bacon.exchange.pickles.archives import (
    damaged,
    load_arrays,
    load_torch,
    mapped,
    members,
)
from dcbench_bacon.exchange.pickles.stored import StoredTensor


def guess(path: Path) -> str:
    """Return the name of the format that a file seems to have.

    Raises:
        DataError: the file looks like no known format.
    """
    if path.is_dir():
        names = {"images_best*.pt": "mtt", "images.pt": "dd_ranking"}
        formats = [format for name, format in names.items() if any(path.glob(name))]
        return formats[0] if formats else "folder"
    if path.suffix == ".safetensors":
        return "dcbench"
    with damaged(path):
        content = mapped(path)
        if content[8:9] == b"{":  # the header of safetensors
            return "dcbench"
        arrays = content[:2] == b"PK" and any(
            name.endswith(".npy") for name in members(path, content)
        )
    if arrays:
        shape = array(path, load_arrays(path), "images").shape
        return "kip" if channels_last(shape) else "npz"
    return _guess_torch(path, *load_torch(path))


def _guess_torch(path: Path, value: Any, by_torch: bool) -> str:
    """Return the format of the content of a torch file or a pickle."""
    if isinstance(value, dict) and "data" in value:
        return "vico"
    if isinstance(value, StoredTensor):
        if re.match(r"images_(best|zca|\d)", path.name):
            return "mtt"
        return "pair" if path.stem.endswith("_images") else "dd_ranking"
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(step, (list, tuple)) and len(step) > 2 for step in value):
            return "dd"
        if len(value) == 2:
            return _guess_pair(path, value) if by_torch else "best"
    raise DataError(
        f"{path} contains a {type(value).__name__} that looks like no known set; if it "
        "is one, name its format with --from (dcbench list formats)"
    )


def _guess_pair(path: Path, value: Any) -> str:
    """Return IDC's format, in which values are pixels, only where they can be."""
    images, _ = pair(path, value)
    if images.dtype == torch.uint8 or 0 in images.shape:
        return "tuple"
    with damaged(path):
        values = images.read().to(torch.float32)
    pixels = bool(((values >= -OVERSHOOT) & (values <= 1 + OVERSHOOT)).all())
    return "idc" if pixels else "tuple"
