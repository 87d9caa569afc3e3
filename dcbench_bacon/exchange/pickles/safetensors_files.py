"""Safetensors of any tool: a JSON header, and numbers that stay in the file."""

import math
from pathlib import Path
from typing import Any

import msgspec
import torch

from dcbench_bacon.exchange.pickles.archives import damaged, mapped
from dcbench_bacon.exchange.pickles.stored import Storage, StoredTensor

_MOST_HEADER = 2**24  # bytes
_TYPES = {
    **{"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32},
    **{"F64": torch.float64, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32},
    **{"I64": torch.int64, "U8": torch.uint8, "BOOL": torch.bool},
}


class _Entry(msgspec.Struct, frozen=True):
    """The description of a tensor in the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def header(path: Path) -> dict[str, Any]:
    """Return the header of a file; ``__metadata__`` in it is what a tool adds.

    Raises:
        DataError: the file is no safetensors file, or too large.
    """
    with damaged(path):
        content = mapped(path)
        length = int.from_bytes(content[:8], "little")
        if not 0 < length <= min(_MOST_HEADER, len(content) - 8):
            raise ValueError(f"a header of {length} bytes")
        return msgspec.json.decode(content[8 : 8 + length], type=dict[str, Any])


def load_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name; their numbers stay in the file.

    Raises:
        DataError: the file is damaged or too large.
    """
    entries = header(path)
    entries.pop("__metadata__", None)
    with damaged(path):
        content = mapped(path)
        start = 8 + int.from_bytes(content[:8], "little")
        return {
            name: _tensor(content, start, msgspec.convert(entry, _Entry))
            for name, entry in entries.items()
        }


def _tensor(content: Any, start: int, entry: _Entry) -> StoredTensor:
    """Return a tensor whose numbers lie at its offsets after the header."""
    if entry.dtype not in _TYPES:
        raise ValueError(f"a tensor of type {entry.dtype[:20]}")
    if any(size < 0 for size in entry.shape):
        raise ValueError("a tensor of a negative size")
    storage = Storage(_TYPES[entry.dtype], math.prod(entry.shape))
    first, end = entry.data_offsets
    if first < 0 or storage.place(content, start + first) != start + end:
        raise ValueError("a tensor of another size than its bytes")
    return StoredTensor(storage, entry.shape)
