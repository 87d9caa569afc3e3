"""The cache of decoded data sets: memory-mapped arrays with a JSON sidecar.

An entry is a folder that appears in one rename, so it is whole or not there. Its name
holds a stamp of the source files; its checksums are compared each time it is opened,
which takes a tenth of a second for CIFAR-10.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from filelock import FileLock

from dcbench_bacon.errors import DataError
from dcbench_bacon.schema import DatasetInfo

logger = logging.getLogger(__name__)


CACHE_VERSION = 1  # to be raised when a helper that readers share changes
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside the decoded arrays."""

    info: DatasetInfo
    digests: dict[str, str]
    shared: int = 0


class Stored(NamedTuple):
    """A decoded data set in memory or memory-mapped.

    Attributes:
        info: its facts.
        arrays: by the names of ``ARRAYS``.
        digests: of the arrays.
        shared: how many test images are in train as well; 0 where nobody looked, as
            in published data sets.
    """

    info: DatasetInfo
    arrays: dict[str, npt.NDArray[Any]]
    digests: dict[str, str]
    shared: int = 0

    @property
    def fingerprint(self) -> str:
        """One sha256 for all arrays."""
        return _fingerprint(self.digests)


def _fingerprint(digests: dict[str, str]) -> str:
    content = msgspec.json.encode(digests, order="sorted")
    return hashlib.sha256(content).hexdigest()


def known_fingerprint(
    cache: Path, prefix: str, paths: Sequence[Path | str]
) -> str | None:
    """Return the fingerprint of an up-to-date decoded set, from its sidecar alone.

    Args:
        cache: the folder of all entries.
        prefix: names the data set and its place.
        paths: the source files.

    Returns:
        None if there is no such entry.

    Raises:
        DataError: a source file cannot be read.
    """
    try:
        content = (cache / f"{prefix}-{_stamp(paths)}" / "sidecar.json").read_bytes()
        return _fingerprint(msgspec.json.decode(content, type=Sidecar).digests)
    except (OSError, msgspec.MsgspecError):
        return None


def cached(
    cache: Path, prefix: str, paths: Sequence[Path | str], decode: Callable[[], Stored]
) -> Stored:
    """Opens the decoded set, after decoding it if no up-to-date copy exists.

    Args:
        cache: the folder of all entries; if it cannot be written, nothing is kept.
        prefix: names the data set and its place; entries under it replace each other.
        paths: the source files; the entry is out of date when one has changed.
        decode: makes the set.
    """
    entry = cache / f"{prefix}-{_stamp(paths)}"
    if stored := _open(entry):
        return stored
    lock = FileLock(cache / f"{prefix}.lock")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        logger.warning("decoded images are not kept: %s", error)
        return decode()
    try:
        if stored := _open(entry):  # written by another process meanwhile
            return stored
        stored = decode()
        _write(entry, stored)
        return stored
    finally:
        lock.release()


def digests(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """The sha256, type and shape of every array."""
    return {
        key: f"{hashlib.sha256(a.data).hexdigest()} {a.dtype} {a.shape}"
        for key, a in arrays.items()
    }


def _stamp(paths: Sequence[Path | str]) -> str:
    """Changes with the name, the size or the time of any file."""
    stamp = hashlib.sha256(f"{CACHE_VERSION}".encode())
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - 60,000 Path objects take as long
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        stamp.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return stamp.hexdigest()[:16]


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
    if digests(arrays) != sidecar.digests:
        logger.warning("%s is damaged, decoding again: wrong checksum", entry)
        return None
    return Stored(sidecar.info, arrays, sidecar.digests, sidecar.shared)


def _write(entry: Path, stored: Stored) -> None:
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
        sidecar = Sidecar(stored.info, stored.digests, stored.shared)
        (partial / "sidecar.json").write_bytes(msgspec.json.encode(sidecar))
        partial.rename(entry)
    except OSError as error:
        logger.warning("decoded images are not kept: %s", error)
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
