"""Loads a data set: finds its files, decodes them once, keeps them on the device.

A data set is one module of ``datasets/`` with these names:

- ``INFO``: its ``DatasetInfo``; a module without one takes a path (``NAME:PATH``)
  and has ``describe(folder, train)``, which makes it, and ``name(folder)``;
- ``read(folder)``: the decoded train and test splits;
- ``FILES``: md5 sums of the unpacked official files by path, in torchvision's layout,
  or ``sources(folder)``: the files that ``read`` will read;
- if need be ``ELSEWHERE`` (more folders), ``COUNTS`` (official) and ``fetch(folder)``.

Nothing but ``get`` and ``load(..., download=True)`` touches the network.
"""

import gzip
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from dcbench_bacon import decoded
from dcbench_bacon.decoded import ARRAYS, Stored, digests
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.files import cache_folder
from dcbench_bacon.overlap import count_shared
from dcbench_bacon.registry import DATASETS
from dcbench_bacon.schema import DatasetInfo
from dcbench_bacon.spec import Split, SyntheticSet

logger = logging.getLogger(__name__)


class MissingDataError(DataError):
    """A file of a data set is not on disk."""


@dataclass(frozen=True)
class RawSplit:
    """A decoded split, unchecked: images (n, c, h, w) and labels (n,)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A data set, resident on one device.

    Attributes:
        info: its facts.
        train: the official training images.
        test: the official test images.
        fingerprint: sha256 over all pixels, labels and shapes; that of whitened images
            is another.
        zca: JSON values that say how the images were whitened; none if they were not.
        before_whitening: the fingerprint of the images before that.
    """

    info: DatasetInfo
    train: Split
    test: Split
    fingerprint: str
    zca: dict[str, Any] | None = None
    before_whitening: str | None = None

    @property
    def raw_fingerprint(self) -> str:
        """The fingerprint before any whitening: what results are filed under."""
        return self.before_whitening or self.fingerprint


Mark = Literal["ok", "BAD", "absent"]


class Check(NamedTuple):
    """One line of ``verify``'s report."""

    file: str
    mark: Mark
    message: str

    @property
    def ok(self) -> bool:
        """Whether there is nothing to mend."""
        return self.mark == "ok"


class Source(NamedTuple):
    """A data set's module and the folder it reads."""

    kind: str
    module: ModuleType
    folder: Path


def load(
    name: str,
    root: Path | None = None,
    device: torch.device | None = None,
    *,
    download: bool = False,
    cache: Path | None = None,
) -> Dataset:
    """Loads a data set, from the cache of decoded sets where it can.

    Args:
        name: as typed: ``cifar10``, or ``folder:PATH``.
        root: where the files are; by default ``DCBENCH_DATA`` or a folder in
            ``~/.cache/dcbench``. Of no effect on ``folder:PATH``.
        device: where the images go, as uint8; the CPU by default.
        download: fetch what is missing.
        cache: of decoded sets; by default ``DCBENCH_CACHE`` or ``~/.cache/dcbench``.

    Raises:
        DataError: a file is missing or damaged; the message says which, and what to do.
    """
    source = find(name, root)
    folder = _cache_folder(cache)
    try:
        stored = _cached(source, folder)
    except MissingDataError:
        if not download:
            raise
        get(name, root)
        stored = _cached(source, folder)
    if stored.shared:
        logger.warning(
            "%s: %d of %d test images are in train as well, pixel for pixel: what is "
            "measured on them is too high; remove them from one of the two",
            source.folder,
            stored.shared,
            len(stored.arrays["test_labels"]),
        )
    tensors = {
        key: torch.from_numpy(array).to(device) for key, array in stored.arrays.items()
    }
    return Dataset(
        stored.info,
        Split(tensors["train_images"], tensors["train_labels"]),
        Split(tensors["test_images"], tensors["test_labels"]),
        stored.fingerprint,
    )


def find(name: str, root: Path | None = None) -> Source:
    """The module and the folder for a name as typed; reads no data."""
    kind, _, path = name.partition(":")
    kind, module = DATASETS.resolve(kind), DATASETS.module(kind)
    if hasattr(module, "INFO") == bool(path):
        raise UsageError(f"write {kind if path else kind + ':PATH'}, not {name!r}")
    folder = Path(path) if path else root or _default("DCBENCH_DATA", "data")
    return Source(kind, module, folder.expanduser().resolve())


def known_fingerprint(
    name: str, root: Path | None = None, *, cache: Path | None = None
) -> str | None:
    """Return the fingerprint of a data set that was decoded before; reads no images.

    Args:
        name: as typed.
        root: where the files are.
        cache: of decoded sets.

    Returns:
        That of the files as they are now; None if these have not been decoded yet.

    Raises:
        MissingDataError: the data set is not on disk.
        DataError: a file cannot be read.
    """
    source = find(name, root)
    prefix, paths = _entry(source)
    return decoded.known_fingerprint(_cache_folder(cache), prefix, paths)


def cell_name(name: str, root: Path | None = None) -> str:
    """The name that records carry, known before anything is loaded.

    Args:
        name: as typed; a data set with a path is named after its folder.
        root: where data sets lie.
    """
    source = find(name, root)
    if hasattr(source.module, "INFO"):
        return str(source.module.INFO.name)
    return str(source.module.name(source.folder))


def get(name: str, root: Path | None = None) -> None:
    """Downloads a data set into ``root``, if it is one that is downloaded."""
    source = find(name, root)
    if not hasattr(source.module, "fetch"):
        _sources(source)  # says what is missing
        return
    try:
        source.module.fetch(source.folder)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())  # torchvision's goes over lines
        raise DataError(
            f"{name} could not be downloaded ({reason}); put the files under "
            f"{source.folder} (--data-root or DCBENCH_DATA) by other means"
        ) from error


def verify(name: str, root: Path | None = None) -> list[Check]:
    """Compares a data set's files with their published checksums and counts."""
    source = find(name, root)
    try:
        paths = _sources(source)
    except MissingDataError as error:
        return [Check(str(source.folder), "absent", str(error))]
    except DataError as error:
        return [Check(str(source.folder), "BAD", str(error))]
    sums = [
        (path, md5)
        for path in paths
        for official, md5 in getattr(source.module, "FILES", {}).items()
        if Path(path).name.removesuffix(".gz") == Path(official).name
    ]
    checks = [_check_md5(path, md5) for path, md5 in sums]
    try:
        stored = _decode(source)
    except DataError as error:
        return [*checks, Check(str(source.folder), "BAD", str(error))]
    counts = tuple(len(stored.arrays[f"{split}_labels"]) for split in ("train", "test"))
    official = getattr(source.module, "COUNTS", counts)
    message = f"{counts} images, officially {official}, sha256 {stored.fingerprint}"
    return [*checks, Check(str(source.folder), _mark(counts == official), message)]


def _mark(right: bool) -> Mark:
    return "ok" if right else "BAD"


def locate(name: str, root: Path, path: str, elsewhere: Sequence[Path] = ()) -> Path:
    """Finds a file, or the same with ``.gz``, under ``root`` or in other folders.

    Raises:
        MissingDataError: it is in none of them.
    """
    places = [root / path, *(folder / Path(path).name for folder in elsewhere)]
    for place in places:
        for found in (place, place.with_name(place.name + ".gz")):
            if found.is_file():
                return found
    raise MissingDataError(
        f"{name}: {path} not found; run `dcbench data get {name}`, or put it under "
        f"{root} (--data-root or DCBENCH_DATA)"
    )


@contextmanager
def opened(path: Path | str) -> Iterator[IO[bytes]]:
    """Opens a file, unpacked if it ends in ``.gz``; what goes wrong names the file."""
    with damaged(path), Path(path).open("rb") as file:
        if Path(path).suffix != ".gz":
            yield file
            return
        with gzip.open(file) as unpacked:
            yield unpacked  # type: ignore[misc]


@contextmanager
def damaged(path: Path | str) -> Iterator[None]:
    """Turns whatever a decoder raises into an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise DataError(
            f"{path} is damaged or not of the expected format "
            f"({type(error).__name__}: {error}); delete it and get it again"
        ) from error


def class_index(
    labels: Int64[Tensor, "n"], classes: int
) -> tuple[Int64[Tensor, "c n_max"], Int64[Tensor, "c"]]:
    """Lists each class's images, for draws of all classes in one gather.

    Returns:
        Ascending positions, a class a row, padded with -1; and how many each class has.
    """
    counts = torch.bincount(labels, minlength=classes)
    order = labels.argsort(stable=True)
    ranks = torch.arange(len(labels), device=labels.device)
    ranks = ranks - (counts.cumsum(0) - counts)[labels[order]]
    width = int(counts.max()) if classes else 0
    index = labels.new_full((classes, width), -1)
    index[labels[order], ranks] = order
    return index, counts


def normalize(
    images: UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Scales pixels to [0, 1], then standardises each channel.

    Images that were whitened are no pixels any more and stay as they are.
    """
    if images.dtype == torch.float32:
        return images
    mean, std = _statistics(info, images.device)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def denormalize(
    images: Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Undoes ``normalize`` up to the scale of 255: pixels in [0, 1], not clamped."""
    mean, std = _statistics(info, images.device)
    return images * std + mean


def standardize(
    pixels: Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Undoes ``denormalize``."""
    mean, std = _statistics(info, pixels.device)
    return (pixels - mean) / std


def sha256(*tensors: Tensor, start: str = "") -> str:
    """Of the tensors' bytes after some text, whatever the device."""
    total = hashlib.sha256(start.encode())
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()


def as_set(split: Split, info: DatasetInfo) -> SyntheticSet:
    """Real images as a set: normalised, with hard labels."""
    labels = torch.nn.functional.one_hot(split.labels, info.classes)
    return SyntheticSet(normalize(split.images, info), labels.float())


def split_validation(
    split: Split, share: float, generator: torch.Generator
) -> tuple[Split, Split]:
    """Holds out the same share of every class.

    Args:
        split: what to divide; at least two images in each class present.
        share: of each class's images, in (0, 1); rounded, at least one on each side.
        generator: decides which.

    Returns:
        What remains and what is held out, both in the original order.
    """
    labels = split.labels
    keys = torch.rand(len(labels), generator=generator, device=generator.device)
    shuffled = keys.argsort().to(labels.device)
    index, counts = class_index(labels[shuffled], int(labels.max()) + 1)
    if (counts == 1).any():
        raise DataError("a class of one image cannot be split for validation")
    quota = (counts * share).round().long().clamp(min=1).minimum(counts - 1)
    ranks = torch.arange(index.shape[1], device=labels.device)
    held = torch.zeros_like(labels, dtype=torch.bool)
    held[shuffled[index[ranks < quota[:, None]]]] = True
    return (
        Split(split.images[~held], labels[~held]),
        Split(split.images[held], labels[held]),
    )


@cache
def _statistics(info: DatasetInfo, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std, shaped to broadcast over a batch."""
    both = torch.tensor([info.mean, info.std], dtype=torch.float32, device=device)
    return both[0, :, None, None], both[1, :, None, None]


def _default(variable: str, folder: str) -> Path:
    """The folder an environment variable names, or one in the user's cache."""
    return Path(os.environ.get(variable) or cache_folder(folder))


def _sources(source: Source) -> Sequence[Path | str]:
    """The files that ``read`` will read."""
    module, folder = source.module, source.folder
    if hasattr(module, "sources"):
        return list(module.sources(folder))
    elsewhere = getattr(module, "ELSEWHERE", ())
    return [locate(source.kind, folder, path, elsewhere) for path in module.FILES]


def _check_md5(path: Path | str, expected: str) -> Check:
    """Compares the unpacked file with its published md5."""
    try:
        with opened(path) as file:
            found = hashlib.file_digest(file, "md5").hexdigest()  # type: ignore[arg-type]
    except DataError as error:
        return Check(str(path), "BAD", str(error))
    right = found == expected
    note = "" if right else f", not {expected}"
    return Check(str(path), _mark(right), f"md5 {found}{note}")


def _decode(source: Source) -> Stored:
    """Reads, checks and hashes a data set."""
    train, test = source.module.read(source.folder)
    fixed = hasattr(source.module, "INFO")
    info = source.module.INFO if fixed else source.module.describe(source.folder, train)
    where = f"{source.kind} in {source.folder}"
    _check_split(train, info, f"{where}, train")
    _check_split(test, info, f"{where}, test")
    counts = (len(train.labels), len(test.labels))
    if counts != (official := getattr(source.module, "COUNTS", counts)):
        logger.warning("%s: %s images, officially %s", where, counts, official)
    contents = (train.images, train.labels, test.images, test.labels)
    arrays = {
        # A copy: writable, and with the strides that the cached file will give.
        key: np.array(array, order="C")
        for key, array in zip(ARRAYS, contents, strict=True)
    }
    shared = 0 if fixed else count_shared(train.images, test.images)
    return Stored(info, arrays, digests(arrays), shared)


def _check_split(split: RawSplit, info: DatasetInfo, where: str) -> None:
    """Refuses arrays that contradict each other or the facts."""
    images, labels = split.images, split.labels
    shape = (len(labels), info.channels, info.size, info.size)
    if images.dtype != np.uint8 or labels.dtype != np.int64 or images.shape != shape:
        raise DataError(
            f"{where}: {images.dtype} images of shape {images.shape} with "
            f"{labels.shape} labels; expected uint8 {shape}"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < info.classes:
        span = f"{labels.min()} to {labels.max()}"
        raise DataError(f"{where}: labels {span}; there are {info.classes} classes")
    empty = np.flatnonzero(np.bincount(labels, minlength=info.classes) == 0)
    if len(empty):
        names = ", ".join(info.class_names[label] for label in empty[:5])
        raise DataError(f"{where}: no image of class {names}")


def _cache_folder(given: Path | None) -> Path:
    """The cache of decoded sets."""
    return (given or _default("DCBENCH_CACHE", "decoded")).expanduser()


def _entry(source: Source) -> tuple[str, list[Path | str]]:
    """The name of a data set in the cache, and the files that it is made from."""
    # A reader that was changed makes what it decoded before out of date as well.
    paths = [*_sources(source), str(source.module.__file__)]
    place = hashlib.sha256(str(source.folder).encode()).hexdigest()[:8]
    return f"{source.kind}-{place}", paths


def _cached(source: Source, cache: Path) -> Stored:
    """Takes the decoded set from the cache, or decodes it and puts it there."""
    prefix, paths = _entry(source)
    return decoded.cached(cache, prefix, paths, lambda: _decode(source))
