"""The file of a synthetic set: safetensors with a JSON header that says what it is."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dcbench_bacon.errors import RecordError
from dcbench_bacon.files import write_atomically
from dcbench_bacon.spec import SyntheticSet

FORMAT = 1
MOST_BYTES = 16 * 2**30  # refuses a file that no distilled set comes near


def digest(synthetic: SyntheticSet) -> str:
    """Sha256 over images, labels and partition, whatever the device."""
    total = hashlib.sha256(f"{synthetic.partition}".encode())
    for tensor in (synthetic.images, synthetic.labels):
        total.update(f"{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def write(path: Path, synthetic: SyntheticSet) -> None:
    """Stores a set; the file appears whole or not at all.

    Raises:
        ValueError: it is no valid set.
        OutputError: the file cannot be written.
    """
    check(synthetic)
    header = {
        "format": FORMAT,
        "partition": synthetic.partition,
        "sha256": digest(synthetic),
        "provenance": synthetic.provenance,
    }
    tensors = {
        "images": synthetic.images.detach().cpu().contiguous(),
        "labels": synthetic.labels.detach().cpu().contiguous(),
    }
    content = save(tensors, metadata={"dcbench": json.dumps(header)})
    write_atomically(path, content)


def read(path: Path, device: torch.device | None = None) -> SyntheticSet:
    """Loads a set and checks it.

    Raises:
        RecordError: the file is missing, damaged, too large, not a set of dcbench, or
            its content does not match its checksum.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES} bytes")
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {})["dcbench"])
            synthetic = SyntheticSet(
                file.get_tensor("images").clone(),  # else they change with the file
                file.get_tensor("labels").clone(),
                int(header["partition"]),
                dict(header["provenance"]),
            )
        check(synthetic)
        if digest(synthetic) != header["sha256"]:
            raise ValueError("its content does not match its checksum")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{path}: not a readable synthetic set ({_reason(error)})"
        ) from error
    return synthetic.to(device) if device else synthetic


def check(synthetic: SyntheticSet) -> None:
    """Makes sure that a set is one.

    Raises:
        ValueError: shapes, types or values are wrong; says which.
    """
    images, labels = synthetic.images, synthetic.labels
    _check_tensor("images", images, 4)
    _check_tensor("labels", labels, 2)
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(f"{len(images)} images and {len(labels)} labels")
    if images.shape[2] != images.shape[3] or images.shape[1] not in (1, 3):
        raise ValueError(f"images of shape {tuple(images.shape[1:])}")
    if synthetic.partition < 1 or images.shape[2] % synthetic.partition:
        raise ValueError(f"partition {synthetic.partition} of {images.shape[2]} pixels")
    if labels.min() < 0:
        raise ValueError("labels below zero")
    if not torch.allclose(labels.sum(1), torch.ones(len(labels)).to(labels), atol=1e-3):
        raise ValueError("rows of labels that do not sum to 1")


def _check_tensor(name: str, tensor: Tensor, axes: int) -> None:
    if tensor.dtype != torch.float32 or tensor.ndim != axes:
        raise ValueError(f"{name} of type {tensor.dtype} with {tensor.ndim} axes")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} that are not finite")


def _reason(error: Exception) -> Any:
    return f"no {error} in its header" if isinstance(error, KeyError) else error
