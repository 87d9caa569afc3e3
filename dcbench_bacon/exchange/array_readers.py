"""Readers of images and labels that are stored under names: arrays and dictionaries.

Anybody may write such files. The usual names of images and labels are in
``interpretation.content``; further entries are left out.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.interpretation.content import (
    IMAGES,
    LABELS,
    Content,
    Guess,
    beside,
    channels_last,
    file_of,
    named,
    scalar,
    unsaid,
)
from dcbench_bacon.exchange.pickles.archives import (
    load_array,
    load_arrays,
    load_torch,
)
from dcbench_bacon.exchange.pickles.safetensors_files import load_safetensors
from dcbench_bacon.exchange.pickles.stored import StoredTensor, of_buffer

_NUMBERS: dict[str, Callable[[float], Any]] = {
    "partition": int,
    "zca": bool,
    "pixels": bool,
    "learning_rate": float,
}


def kip(path: Path, index: int | None) -> Content:
    """Read KIP's npz: ``images`` (n, h, w, c) and real-valued ``labels`` (n, k).

    The labels are learned and are no probabilities; DC-BENCH takes the largest of each
    row.
    """
    arrays = load_arrays(path)
    images, labels = images_of(path, arrays), labels_of(path, arrays)
    if labels is None:
        raise DataError(f"{path} has no array 'labels'; a set has images and labels")
    known = {"zca": Guess(False, "KIP whitens on some data sets", "doubtful")}
    if len(labels.shape) > 1:
        known["labels"] = Guess("hard", "KIP's labels are no probabilities")
    return Content(
        images=(images,),
        labels=(labels,),
        files=(path,),
        channels_last=True,
        guesses=unsaid({}, **known),
    )


def npz(path: Path, index: int | None) -> Content:
    """Read arrays ``images`` (n, c, h, w) and ``labels``, and single numbers.

    The numbers are ``partition``, ``zca``, ``pixels`` and ``learning_rate``, as
    ``writers.npz`` writes them; labels are class indices or rows of probabilities.
    """
    return _of_named(path, load_arrays(path))


def dictionary(path: Path, index: int | None) -> Content:
    """Read ``torch.save`` or a pickle of a dictionary with images and labels.

    Options of the program that lie beside them, such as a namespace, are left out.
    """
    value, _ = load_torch(path)
    if not isinstance(value, dict):
        raise DataError(
            f"{path} contains a {type(value).__name__}, no dictionary; name another "
            "format with --from (dcbench list formats)"
        )
    return _of_named(path, value)


def safetensors(path: Path, index: int | None) -> Content:
    """Read the tensors of images and labels in safetensors of any tool."""
    return _of_named(path, load_safetensors(path))


def npy(path: Path, index: int | None) -> Content:
    """Read ``images.npy`` and the labels beside it: ``labels.npy``, or ``y.npy``.

    The name of the labels is that of the images with the other word, such as
    ``a_images.npy`` and ``a_labels.npy``, or ``x_train.npy`` and ``y_train.npy``.
    Images without labels are in the order of their classes.
    """
    path = file_of(path, *(f"{name}.npy" for name in IMAGES))
    names = (f"{name}.npy" for name in LABELS)
    labels = beside(path, *labels_names(path.name), *names)
    return Content(
        images=(load_array(path),),
        labels=(load_array(labels),) if labels else (),
        files=(path, labels) if labels else (path,),
        guesses=unsaid({}),
    )


def labels_names(name: str) -> list[str]:
    """Return the names of files of labels that may belong to a file of images."""
    candidates = []
    for images in IMAGES:
        for old, new in ((images, LABELS), (images.upper(), map(str.upper, LABELS))):
            if old in name and (len(old) > 1 or name.startswith(old)):
                candidates += [name.replace(old, label, 1) for label in new]
    if name[:1] == "X":
        candidates.append("y" + name[1:])
    return candidates


def images_of(path: Path, values: Mapping[Any, Any]) -> StoredTensor:
    """Return the images among named values.

    Raises:
        DataError: there are none; the message lists the names.
    """
    name = named(values, IMAGES)
    images = values.get(name) if name else None
    if isinstance(images, StoredTensor):
        return images
    names = ", ".join(f"{key!s:.30}" for key in list(values)[:8])
    raise DataError(
        f"{path} has no array 'images'; a set has images and labels, and this file has "
        f"{names or 'nothing'}"
    )


def labels_of(path: Path, values: Mapping[Any, Any]) -> StoredTensor | None:
    """Return the labels among named values, or None if there are none.

    Raises:
        DataError: they are neither a tensor nor a list of whole numbers.
    """
    name = named(values, LABELS)
    labels = values.get(name) if name else None
    if labels is None or isinstance(labels, StoredTensor):
        return labels
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        content = torch.tensor(labels, dtype=torch.int64).numpy().tobytes()
        return of_buffer("i8", (len(labels),), content)
    raise DataError(
        f"{path}: its {name} are a {type(labels).__name__}, no tensor of class indices "
        "or probabilities; save them as a tensor"
    )


def _of_named(path: Path, values: Mapping[Any, Any]) -> Content:
    """Return the content of named images, labels and single numbers."""
    images, labels = images_of(path, values), labels_of(path, values)
    says = {
        key: kind(scalar(path, values[key]))
        for key, kind in _NUMBERS.items()
        if values.get(key) is not None
    }
    return Content(
        images=(images,),
        labels=() if labels is None else (labels,),
        files=(path,),
        channels_last=channels_last(images.shape),
        says=says,
        guesses=unsaid(says),
    )
