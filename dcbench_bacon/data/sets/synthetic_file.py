"""The file of a synthetic set: safetensors with a JSON header that describes it."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dcbench_bacon.data.files.mistaken_files import mistaken
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, RecordError, reason_of
from dcbench_bacon.field_types import MOST_PARTS, Fraction
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.schema import DatasetInfo

FORMAT = 1
MOST_BYTES = 4 * 2**30  # far more than any distilled set needs
_MOST_HEADER = 2**24  # bytes; a parsed list takes many times the memory of its text
_LONGEST_NAME = 255  # as for a folder; a longer one would make pictures gigantic


class Header(msgspec.Struct, frozen=True):
    """The header of a file.

    Attributes:
        partition: the partition of the set.
        sha256: the result of ``digest``.
        provenance: the provenance of the set.
    """

    partition: int
    sha256: str
    provenance: dict[str, Any]


class Provenance(msgspec.Struct, frozen=True):
    """The entries of a provenance that are checked when the file is read.

    Other entries (``cell``, ``dataset``, ``recipe`` and ``distillation``) are decoded
    where they are used, because files without them are read as well.

    Attributes:
        zca: JSON values that describe the whitening; None for images that are not
            whitened.
        learning_rate: the learning rate that was distilled with the images, if any.
        dataset_sha256: the fingerprint of the data set.
        name: the name that tables print for a set of another tool.
        accuracies: the accuracies that its authors stored with the set, by network, as
            fractions in [0, 1].
    """

    zca: dict[str, Any] | None = None
    learning_rate: float | None = None
    dataset_sha256: str | None = None
    name: Annotated[str, msgspec.Meta(max_length=_LONGEST_NAME)] = ""
    accuracies: dict[str, tuple[Fraction, ...]] = {}


def digest(synthetic: SyntheticSet) -> str:
    """Return the SHA-256 of images, labels and partition, in hex digits."""
    total = hashlib.sha256(f"{synthetic.partition}".encode())
    for tensor in (synthetic.images, synthetic.labels):
        total.update(f"{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def write(path: Path, synthetic: SyntheticSet) -> None:
    """Write a set to a file, which appears completely or not at all.

    Raises:
        ValueError: the set is not valid; see ``check``.
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
    content = save(tensors, metadata={"dcbench": json.dumps(header, allow_nan=False)})
    write_atomically(path, content)


def read(path: Path, device: torch.device | None = None) -> SyntheticSet:
    """Return the set of a file after checking it.

    Raises:
        RecordError: the file is missing, damaged, too large or not a set of dcbench, or
            its content does not match its checksum.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES} bytes")
        with safe_open(path, framework="pt", device="cpu") as file:
            header = _header((file.metadata() or {})["dcbench"])
            images, labels = map(file.get_slice, ("images", "labels"))
            _check_shapes(images.get_shape(), labels.get_shape(), header.partition)
            synthetic = SyntheticSet(
                file.get_tensor("images").clone(),  # else it changes with the file
                file.get_tensor("labels").clone(),
                header.partition,
                header.provenance,
            )
        check(synthetic)
        if digest(synthetic) != header.sha256:
            raise ValueError("its content does not match its checksum")
    except Exception as error:  # a hostile file can make a decoder raise anything
        if what := mistaken(path):
            raise RecordError(
                f"{path}: not a readable synthetic set: it {what}"
            ) from error
        raise RecordError(
            f"{path}: not a readable synthetic set ({_reason(error):.300}); make or "
            "copy the file again"
        ) from error
    return synthetic.to(device) if device else synthetic


def _header(text: str) -> Header:
    """Return the decoded header after checking the provenance."""
    if len(text) > _MOST_HEADER:
        raise ValueError(f"a header of {len(text)} characters")
    header = msgspec.json.decode(text, type=Header)
    msgspec.convert(header.provenance, Provenance)
    return header


def check(synthetic: SyntheticSet) -> None:
    """Make sure that a set is valid.

    Raises:
        ValueError: a shape, type or value is wrong; the message names it.
    """
    images, labels = synthetic.images, synthetic.labels
    _check_shapes(images.shape, labels.shape, synthetic.partition)
    _check_numbers("images", images)
    _check_numbers("labels", labels)
    if labels.min() < 0:
        raise ValueError("labels below zero")
    if not torch.allclose(labels.sum(1), torch.ones(len(labels)).to(labels), atol=1e-3):
        raise ValueError("rows of labels that do not sum to 1")


def check_fits(path: Path | str, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Make sure that a set agrees with the facts of a data set.

    Args:
        path: the file of the set, for messages.
        synthetic: the set.
        info: the facts of the data set, from the file's header or from the data set.

    Raises:
        DataError: the sizes of images, labels or the facts themselves do not agree.
    """
    sizes = (*synthetic.images.shape[1:], synthetic.labels.shape[1])
    if sizes != (info.channels, info.size, info.size, info.classes):
        shape = "x".join(map(str, sizes[:3]))
        raise DataError(
            f"{path}: images of {shape} with labels of {sizes[3]} classes do not fit "
            f"{info.name}; name the right data set with --dataset"
        )
    counts = (len(info.mean), len(info.std), len(info.class_names))
    if counts != (info.channels, info.channels, info.classes):
        raise DataError(
            f"{path}: {counts[0]} means, {counts[1]} deviations and {counts[2]} names "
            f"do not fit the {info.channels} channels and {info.classes} classes of "
            f"{info.name}; its header is damaged, make the file again"
        )
    if max(map(len, (info.name, info.title, *info.class_names))) > _LONGEST_NAME:
        raise DataError(
            f"{path}: a data set or class whose name has more than {_LONGEST_NAME} "
            "characters; its header is damaged, make the file again"
        )


def check_bytes(*shapes: Sequence[int]) -> None:
    """Make sure that tensors are not too large as float32.

    Raises:
        ValueError: together they have more than ``MOST_BYTES``.
    """
    total = 4 * sum(map(math.prod, shapes))
    if total > MOST_BYTES:
        raise ValueError(f"{total} bytes as float32; at most {MOST_BYTES} are read")


def _check_shapes(images: Sequence[int], labels: Sequence[int], partition: int) -> None:
    """Make sure that shapes are valid, before any number is read."""
    for name, shape, axes in (("images", images, 4), ("labels", labels, 2)):
        if len(shape) != axes:
            raise ValueError(f"{name} with {len(shape)} axes")
    check_bytes(images, labels)
    if images[0] != labels[0] or images[0] == 0:
        raise ValueError(f"{images[0]} images and {labels[0]} labels")
    if images[2] != images[3] or images[1] not in (1, 3):
        raise ValueError(f"images of shape {tuple(images[1:])}")
    if partition < 1 or images[2] % partition:
        raise ValueError(f"partition {partition} of {images[2]} pixels")
    if partition > MOST_PARTS:
        raise ValueError(f"partition {partition}; at most {MOST_PARTS} is read")


def _check_numbers(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} of type {tensor.dtype}")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} that are not finite")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error} in its header"
    return reason_of(error)
