"""The content of a foreign file before its images are read, and helpers of readers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.exchange.interpretation.evidence import OVERSHOOT
from dcbench_bacon.exchange.pickles.archives import damaged, load_torch
from dcbench_bacon.exchange.pickles.stored import StoredTensor, TensorSource

FOUR = "IDM and BACON store four images in each"


Doubt = Literal["certain", "likely", "doubtful"]


class Guess(NamedTuple):
    """A value that the user did not state, and the evidence for it.

    Attributes:
        value: the value that is used.
        reason: the evidence.
        doubt: ``certain`` if the format itself states the value.
    """

    value: Any
    reason: str
    doubt: Doubt = "likely"


_UNSAID = {
    "partition": Guess(1, f"the file does not state it; {FOUR}", "doubtful"),
    "zca": Guess(False, "methods that follow MTT whiten some", "doubtful"),
}


@dataclass(frozen=True, kw_only=True)
class Content:
    """The content of a file, before its images are read.

    Attributes:
        images: one tensor of images, or several to be joined.
        labels: one tensor of labels, or several; none for images in the order of their
            classes.
        files: all files that belong to the set.
        class_names: names of the classes in the order of the labels, if the file has
            them.
        channels_last: whether images are (n, h, w, c).
        says: values that the file or its format states, by the names of
            ``ReadingOptions``.
        guesses: values that the file leaves open.
        notes: further lines for the user.
        index: index of this set in the file, from 0.
        count: number of sets in the file.
        beyond: how far outside [0, 1] pixels of this format may lie.
        accuracies: fractions that the authors stored with this set, by network.
    """

    images: tuple[TensorSource, ...]
    labels: tuple[TensorSource, ...] = ()
    files: tuple[Path, ...]
    class_names: tuple[str, ...] = ()
    channels_last: bool = False
    says: Mapping[str, Any] = field(default_factory=dict)
    guesses: Mapping[str, Guess] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    index: int = 0
    count: int = 1
    beyond: float = OVERSHOOT
    accuracies: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def unsaid(says: Mapping[str, Any], **known: Guess) -> dict[str, Guess]:
    """Return guesses for all that a file does not state, parts and whitening included.

    Args:
        says: values that the file or its format states.
        known: guesses that are better than the general ones.
    """
    guesses = {**_UNSAID, **known}
    return {key: guess for key, guess in guesses.items() if key not in says}


def of_files(
    images: Sequence[Path],
    labels: Sequence[Path],
    rate: Path | None,
    says: Mapping[str, Any],
    **known: Guess,
) -> Content:
    """Return the content of a set whose tensors are in one file each."""
    if rate:
        says = {**says, "learning_rate": scalar(rate, load_torch(rate)[0])}
    return Content(
        images=tuple(map(tensor, images)),
        labels=tuple(map(tensor, labels)),
        files=(*images, *labels, *([rate] if rate else [])),
        says=says,
        guesses=unsaid(says, **known),
    )


def tensor(path: Path) -> StoredTensor:
    """Return the one tensor of a file."""
    value, _ = load_torch(path)
    if not isinstance(value, StoredTensor):
        raise DataError(
            f"{path} contains a {type(value).__name__}, not one tensor; name another "
            "format with --from (dcbench list formats)"
        )
    return value


def array(path: Path, arrays: Mapping[str, StoredTensor], name: str) -> StoredTensor:
    """Return an array that a file must have."""
    if name not in arrays:
        raise DataError(f"{path} has no array {name!r}; a set has images and labels")
    return arrays[name]


IMAGES = ("images", "image", "imgs", "data", "x", "x_train", "image_syn", "images_syn")
LABELS = (
    "labels",
    "label",
    "targets",
    "target",
    "y",
    "y_train",
    "label_syn",
    "labels_syn",
)


def named(mapping: Mapping[Any, Any], names: Sequence[str]) -> str | None:
    """Return the first of several usual names that a mapping has, in any case."""
    known = {key.lower(): key for key in mapping if isinstance(key, str)}
    return next((known[name] for name in names if name in known), None)


def pair(path: Path, value: Any) -> tuple[StoredTensor, StoredTensor]:
    """Return images and labels that are stored together, maybe with options."""
    if is_pair(value):
        images, labels = value[:2]
        if isinstance(images, StoredTensor) and isinstance(labels, StoredTensor):
            return images, labels
    raise DataError(
        f"{path} contains no pair of tensors, images and labels, where its format has "
        "one; name another format with --from (dcbench list formats)"
    )


def is_pair(value: Any) -> bool:
    """Return whether a value is a pair; options may follow, as dictionaries."""
    return (
        isinstance(value, (list, tuple))
        and len(value) >= 2
        and all(isinstance(option, dict) for option in value[2:])
    )


@dataclass(frozen=True)
class Chosen:
    """One of the sets of a file.

    Attributes:
        entry: the set in the layout of the file.
        index: its index in the file, from 0.
        count: number of sets in the file.
        notes: lines for the user.
    """

    entry: Any
    index: int
    count: int
    notes: tuple[str, ...]


def choose(path: Path, entries: Any, index: int | None, default: int) -> Chosen:
    """Return one of several sets: the one with the index, or the default one."""
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"{path} contains no list of sets where its format has one; name another "
            "format with --from (dcbench list formats)"
        )
    count = len(entries)
    number = (default if index is None else index) % count
    if index is not None and not -count <= index < count:
        raise UsageError(
            f"{path} contains {count} sets; give --index from 0 to {count - 1}"
        )
    note = f"contains {count} sets; number {number} is used; choose with --index"
    notes = () if count == 1 or index is not None else (note,)
    return Chosen(entries[number], number, count, notes)


def scalar(path: Path, value: Any) -> float:
    """Return a number, which may be stored as a tensor with one element."""
    if isinstance(value, StoredTensor) and math.prod(value.shape) != 1:
        raise DataError(
            f"{path}: an array of shape {value.shape} where there should be one number"
        )
    with damaged(path):
        result = float(value.read() if isinstance(value, StoredTensor) else value)
    if not math.isfinite(result):
        raise DataError(f"{path}: a learning rate or fact that is not finite")
    return result


def channels_last(shape: Sequence[int]) -> bool:
    """Return whether images of this shape are (n, h, w, c)."""
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)


def file_of(path: Path, *names: str) -> Path:
    """Return the file of images if a folder is given; otherwise the file itself."""
    if not path.is_dir():
        return path
    files = [path / name for name in names if (path / name).is_file()]
    return files[0] if files else path / names[0]


def swapped(path: Path, without: str = "", new: str = "labels") -> str:
    """Return the name of the file of labels that belongs to a file of images."""
    return path.name.replace(without, "").replace("images", new)


def beside(path: Path, *names: str) -> Path | None:
    """Return the first of the named files that exists in the same folder."""
    places = [path.with_name(name) for name in names if name != path.name]
    return next((place for place in places if place.is_file()), None)
