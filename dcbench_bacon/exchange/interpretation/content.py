"""What a foreign file holds before any of it is read, and what its readers share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.exchange.interpretation.evidence import OVERSHOOT
from dcbench_bacon.exchange.pickles.archives import damaged, load_torch
from dcbench_bacon.exchange.pickles.stored import StoredTensor, TensorSource

FOUR = "IDM and BACON keep four images in each"


Doubt = Literal["certain", "likely", "doubtful"]


class Guess(NamedTuple):
    """A value the user did not state, and why it was taken.

    Attributes:
        value: what is taken.
        reason: the evidence.
        doubt: ``certain`` where the format itself says it.
    """

    value: Any
    reason: str
    doubt: Doubt = "likely"


_UNSAID = {
    "partition": Guess(1, f"the file does not say; {FOUR}", "doubtful"),
    "zca": Guess(False, "MTT's heirs whiten some", "doubtful"),
}


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file holds, before anything of it is read.

    Attributes:
        images: one tensor, or several to be joined.
        labels: the same; nothing for images in the order of their classes.
        files: all that belong to the set.
        class_names: of the labels, where the file gives them names.
        channels_last: images are (n, h, w, c).
        says: what the file or its format states, by the names of ``Claims``.
        guesses: what it leaves open.
        notes: more to tell the user.
        index: which of the file's sets this is.
        count: how many sets the file holds.
        beyond: how far outside [0, 1] pixels of this format may lie.
        accuracies: fractions that the file's authors stored with this set, by network.
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
    """What is guessed for a file, parts and whitening included unless it says them.

    Args:
        says: what the file or its format states.
        known: guesses for which there is more reason.
    """
    found = {**_UNSAID, **known}
    return {key: guess for key, guess in found.items() if key not in says}


def of_files(
    images: Sequence[Path],
    labels: Sequence[Path],
    rate: Path | None,
    says: Mapping[str, Any],
    **known: Guess,
) -> Content:
    """The content of tensors that lie in a file each."""
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
    """The one tensor of a file."""
    value, _ = load_torch(path)
    if not isinstance(value, StoredTensor):
        raise DataError(f"{path} holds a {type(value).__name__}, not one tensor")
    return value


def array(path: Path, arrays: Mapping[str, StoredTensor], name: str) -> StoredTensor:
    """An array that a file must have."""
    if name not in arrays:
        raise DataError(f"{path} has no array {name!r}; a set has images and labels")
    return arrays[name]


def pair(path: Path, value: Any) -> tuple[StoredTensor, StoredTensor]:
    """Images and labels that are stored together."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        images, labels = value
        if isinstance(images, StoredTensor) and isinstance(labels, StoredTensor):
            return images, labels
    raise DataError(
        f"{path} holds no pair of tensors, images and labels, where its format has "
        "one; name another format with --from (dcbench list formats)"
    )


@dataclass(frozen=True)
class Chosen:
    """One of the sets of a file.

    Attributes:
        entry: as the file holds it.
        index: which it is, from 0.
        count: how many there are.
        notes: what to tell the user.
    """

    entry: Any
    index: int
    count: int
    notes: tuple[str, ...]


def choose(path: Path, entries: Any, index: int | None, default: int) -> Chosen:
    """One of several sets."""
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"{path} holds no list of sets where its format has one; name another "
            "format with --from (dcbench list formats)"
        )
    count = len(entries)
    number = (default if index is None else index) % count
    if index is not None and not -count <= index < count:
        raise UsageError(f"{path} holds {count} sets; --index is 0 to {count - 1}")
    note = f"holds {count} sets, of which {number} is taken; choose with --index"
    notes = () if count == 1 or index is not None else (note,)
    return Chosen(entries[number], number, count, notes)


def scalar(path: Path, value: Any) -> float:
    """A number, or a tensor of one."""
    if isinstance(value, StoredTensor) and math.prod(value.shape) != 1:
        raise DataError(f"{path}: {value.shape} numbers where there should be one")
    with damaged(path):
        result = float(value.read() if isinstance(value, StoredTensor) else value)
    if not math.isfinite(result):
        raise DataError(f"{path}: a learning rate or fact that is not finite")
    return result


def channels_last(shape: Sequence[int]) -> bool:
    """Whether images of this shape are (n, h, w, c)."""
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)


def file_of(path: Path, *names: str) -> Path:
    """The file of images, where its folder is named."""
    if not path.is_dir():
        return path
    found = [path / name for name in names if (path / name).is_file()]
    return found[0] if found else path / names[0]


def swapped(path: Path, without: str = "", new: str = "labels") -> str:
    """The name of a file that belongs to one of images."""
    return path.name.replace(without, "").replace("images", new)


def beside(path: Path, *names: str) -> Path | None:
    """The first of some files that lies in the same folder."""
    places = [path.with_name(name) for name in names if name != path.name]
    return next((place for place in places if place.is_file()), None)
