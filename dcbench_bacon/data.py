"""Loads a data set: finds its files, decodes them once, keeps them on the device.

A data set is one module of ``datasets/`` with these names:

- ``INFO``: its ``DatasetInfo``; a module without one takes a path (``NAME:PATH``)
  and has ``describe(folder, train)``, which makes it;
- ``read(folder)``: the decoded train and test splits;
- ``FILES``: md5 sums of the unpacked official files by path, in torchvision's layout,
  or ``sources(folder)``: the files that ``read`` will read;
- optionally ``ELSEWHERE`` (other folders to look in), ``COUNTS`` (official numbers of
  images) and ``fetch(folder)`` (downloads).

Nothing but ``get`` and ``load(..., download=True)`` touches the network.
"""

import gzip
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.registry import DATASETS
from dcbench_bacon.schema import DatasetInfo
from dcbench_bacon.spec import Split

logger = logging.getLogger(__name__)
CACHE_VERSION = 1  # raise it when a reader's output changes
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
Bytes = npt.NDArray[np.uint8]


class MissingDataError(DataError):
    """A file of a data set is not on disk."""


@dataclass(frozen=True)
class RawSplit:
    """A decoded split, unchecked: images (n, c, h, w) and labels (n,)."""

    images: Bytes
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A data set, resident on one device.

    Attributes:
        info: its facts.
        train: the official training images.
        test: the official test images.
        fingerprint: sha256 over all pixels, labels and shapes.
    """

    info: DatasetInfo
    train: Split
    test: Split
    fingerprint: str


class Check(NamedTuple):
    """One line of ``verify``'s report."""

    file: str
    ok: bool
    message: str


class Source(NamedTuple):
    """A data set's module and the folder it reads."""

    kind: str
    module: ModuleType
    folder: Path


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside the decoded arrays."""

    info: DatasetInfo
    folder: str
    digests: dict[str, str]


class Stored(NamedTuple):
    """A decoded data set in memory or memory-mapped."""

    info: DatasetInfo
    arrays: dict[str, npt.NDArray[Any]]
    digests: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """One sha256 for all arrays."""
        return _sha256(json.dumps(self.digests, sort_keys=True).encode())


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
    try:
        stored = _cached(source, _cache_folder(cache))
    except MissingDataError:
        if not download:
            raise
        get(name, root)
        stored = _cached(source, _cache_folder(cache))
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
    module = DATASETS.module(kind)
    if hasattr(module, "INFO") == bool(path):
        form = kind if hasattr(module, "INFO") else f"{kind}:PATH"
        raise UsageError(f"data set {name!r} is written {form}")
    folder = Path(path) if path else root or _default("DCBENCH_DATA", "data")
    return Source(kind, module, folder.expanduser().resolve())


def get(name: str, root: Path | None = None) -> None:
    """Downloads a data set into ``root``; does nothing when it comes with a package."""
    source = find(name, root)
    if not hasattr(source.module, "fetch"):
        _sources(source)  # says what is missing
        return
    try:
        source.module.fetch(source.folder)
    except (OSError, RuntimeError) as error:  # what torchvision's downloads raise
        raise DataError(
            f"{name} could not be downloaded ({error}); put the files under "
            f"{source.folder} (--data-root or DCBENCH_DATA) by other means"
        ) from error


def verify(name: str, root: Path | None = None) -> list[Check]:
    """Compares a data set's files with their published checksums and counts."""
    source = find(name, root)
    try:
        paths = _sources(source)
    except DataError as error:
        return [Check(str(source.folder), False, str(error))]
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
        return [*checks, Check(str(source.folder), False, str(error))]
    train, test = (len(stored.arrays[f"{key}_labels"]) for key in ("train", "test"))
    official = getattr(source.module, "COUNTS", (train, test))
    message = f"{train} train and {test} test images, sha256 {stored.fingerprint}"
    if (train, test) != official:
        message += f"; the official numbers are {official[0]} and {official[1]}"
    return [*checks, Check(str(source.folder), (train, test) == official, message)]


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
        Positions in ascending order, a class a row, padded with -1, and the number of
        images in each class.
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
    images: UInt8[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Scales pixels to [0, 1], then standardises each channel."""
    mean, std = _statistics(info, images.device)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def denormalize(
    images: Float32[Tensor, "n c h w"], info: DatasetInfo
) -> Float32[Tensor, "n c h w"]:
    """Undoes ``normalize`` up to the scale of 255: pixels in [0, 1], not clamped."""
    mean, std = _statistics(info, images.device)
    return images * std + mean


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


def _statistics(info: DatasetInfo, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std, shaped to broadcast over a batch."""
    both = torch.tensor([info.mean, info.std], dtype=torch.float32, device=device)
    mean, std = both[:, :, None, None]
    return mean, std


def _default(variable: str, folder: str) -> Path:
    """The folder an environment variable names, or one in the user's cache."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(variable) or Path(caches) / "dcbench" / folder)


def _cache_folder(cache: Path | None) -> Path:
    return (cache or _default("DCBENCH_CACHE", "decoded")).expanduser()


def _sha256(data: bytes | npt.NDArray[Any]) -> str:
    return hashlib.sha256(data).hexdigest()


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
        return Check(str(path), False, str(error))
    ok = found == expected
    return Check(str(path), ok, f"md5 {found}" + ("" if ok else f", not {expected}"))


def _decode(source: Source) -> Stored:
    """Reads, checks and hashes a data set."""
    train, test = source.module.read(source.folder)
    if hasattr(source.module, "INFO"):
        info = source.module.INFO
    else:
        info = source.module.describe(source.folder, train)
    where = f"{source.kind} in {source.folder}"
    _check_split(train, info, f"{where}, train")
    _check_split(test, info, f"{where}, test")
    contents = (train.images, train.labels, test.images, test.labels)
    arrays = {
        key: np.ascontiguousarray(array)
        for key, array in zip(ARRAYS, contents, strict=True)
    }
    return Stored(info, arrays, _digests(arrays))


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
        raise DataError(
            f"{where}: labels {labels.min()} to {labels.max()}; there are "
            f"{info.classes} classes"
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=info.classes) == 0)
    if len(empty):
        names = ", ".join(info.class_names[label] for label in empty[:5])
        raise DataError(f"{where}: no image of class {names}")


def _digests(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """The sha256 and the shape of every array (a tenth of a second for CIFAR-10)."""
    return {key: f"{_sha256(a)} {a.dtype} {a.shape}" for key, a in arrays.items()}


def _stamp(source: Source, paths: Sequence[Path | str]) -> str:
    """Changes with the name, size or time of any source file, and with the reader."""
    stamp = hashlib.sha256(f"{CACHE_VERSION}".encode())
    for path in (*paths, source.module.__file__ or ""):
        status = os.stat(path)  # noqa: PTH116 - 60,000 Path objects cost as much again
        stamp.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return stamp.hexdigest()[:16]


def _cached(source: Source, cache: Path) -> Stored:
    """Opens the decoded set, after decoding it if no up-to-date copy exists."""
    paths = _sources(source)
    prefix = f"{source.kind}-{_sha256(str(source.folder).encode())[:8]}"
    entry = cache / f"{prefix}-{_stamp(source, paths)}"
    if stored := _open(entry):
        return stored
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / f"{prefix}.lock")
        lock.acquire()
    except OSError as error:
        logger.warning("decoded images are not kept: %s", error)
        return _decode(source)
    try:
        if stored := _open(entry):  # written by another process meanwhile
            return stored
        stored = _decode(source)
        _write(entry, stored, Sidecar(stored.info, str(source.folder), stored.digests))
        return stored
    finally:
        lock.release()


def _open(entry: Path) -> Stored | None:
    """Memory-maps a decoded set; none if it does not exist or is damaged."""
    if not entry.is_dir():
        return None
    try:
        content = (entry / "sidecar.json").read_bytes()
        sidecar = msgspec.json.decode(content, type=Sidecar)
        arrays = {
            # Copy on write: torch warns of tensors over read-only memory.
            key: np.load(entry / f"{key}.npy", mmap_mode="c", allow_pickle=False)
            for key in ARRAYS
        }
    except (OSError, ValueError, EOFError, msgspec.MsgspecError) as error:
        logger.warning("%s is damaged, decoding again: %s", entry, error)
        return None
    if _digests(arrays) != sidecar.digests:
        logger.warning("%s is damaged, decoding again: wrong checksum", entry)
        return None
    return Stored(sidecar.info, arrays, sidecar.digests)


def _write(entry: Path, stored: Stored, sidecar: Sidecar) -> None:
    """Puts a decoded set into the cache in one rename, in place of older ones.

    Only the holder of the set's lock comes here, so whatever lies there under a
    temporary name was left by a process that was killed.
    """
    prefix = entry.name.rpartition("-")[0]
    for old in entry.parent.glob(f"{prefix}-*"):
        shutil.rmtree(old, ignore_errors=True)
    partial = None
    try:
        partial = Path(tempfile.mkdtemp(".partial", f"{prefix}-", entry.parent))
        for key, array in stored.arrays.items():
            np.save(partial / f"{key}.npy", array)
        (partial / "sidecar.json").write_bytes(msgspec.json.encode(sidecar))
        partial.rename(entry)
    except OSError as error:
        logger.warning("decoded images are not kept: %s", error)
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
