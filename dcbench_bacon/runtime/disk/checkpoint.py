"""Checkpoints: nested tensors and JSON values in one safetensors file, no pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dcbench_bacon.errors import RecordError
from dcbench_bacon.runtime.disk.files import write_atomically

_TENSOR = "$tensor"


def write(path: Path, state: Any) -> None:
    """Write a state; ``path`` always contains either the old state or the new one.

    Args:
        path: the file; its folder is made if it is missing.
        state: nested dictionaries with string keys, lists, tensors and JSON values.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = _detach(state, tensors)
    write_atomically(path, save(tensors, metadata={"tree": json.dumps(tree)}))


def read(path: Path, device: torch.device | str = "cpu") -> Any:
    """Return the state that ``write`` wrote, with its tensors on a device.

    Raises:
        RecordError: the file is damaged; the message names it and the remedy.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tree = json.loads((file.metadata() or {})["tree"])
            return _attach(tree, file)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise RecordError(
            f"{path}: not a readable checkpoint ({error}); delete it, or start the "
            "cell again from the beginning with --fresh"
        ) from error


def _detach(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the state with keys in place of its tensors, added to ``tensors``."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        # Copied because two entries may share memory, which the format forbids.
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: key}
    if isinstance(value, dict):
        return {key: _detach(inner, tensors) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_detach(inner, tensors) for inner in value]
    return value


def _attach(tree: Any, file: Any) -> Any:
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return file.get_tensor(tree[_TENSOR])
        return {key: _attach(inner, file) for key, inner in tree.items()}
    if isinstance(tree, list):
        return [_attach(inner, file) for inner in tree]
    return tree
