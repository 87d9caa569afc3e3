"""Nested states of tensors and JSON values in one safetensors file; no pickles."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dcbench_bacon.errors import RecordError
from dcbench_bacon.runtime.files import write_atomically

_TENSOR = "$tensor"


def write(path: Path, state: Any) -> None:
    """Writes a state so that ``path`` holds either the old content or the new.

    Args:
        path: its folder is made when missing.
        state: dictionaries with string keys, lists, tensors and JSON values.
    """
    tensors: dict[str, Tensor] = {}
    tree = _detach(state, tensors)
    write_atomically(path, save(tensors, metadata={"tree": json.dumps(tree)}))


def read(path: Path, device: torch.device | str = "cpu") -> Any:
    """Reads what ``write`` wrote.

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
            "cell anew with --fresh"
        ) from error


def _detach(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Moves the tensors of a tree into ``tensors`` and leaves their keys."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        # A copy: two entries of a state may share memory, which the format forbids.
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
