"""The cache of decoded data sets: memory-mapped arrays with a JSON sidecar.

An entry is a folder that appears by one rename, so that it is complete or absent. Its
name contains a stamp of the source files and one of the code that decodes them, so that
installations of different versions each have an entry, and equal ones share it. Its
checksums are verified each time it is opened, which takes a tenth of a second for
CIFAR-10.
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

from dcbench_bacon.errors import DataError, reason_of
from dcbench_bacon.runtime.disk.locks import lock_of
from dcbench_bacon.schema import DatasetInfo

logger = logging.getLogger(__name__)


CACHE_VERSION = 2  # raise it when code that the readers of data sets share changes
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON file beside the decoded arrays; see ``Stored`` for its fields."""

    info: DatasetInfo
    digests: dict[str, str]
    shared: int = 0


class EntrySources(NamedTuple):
    """The origin of an entry of the cache, which decides its name.

    Attributes:
        prefix: the name of the data set and of its place.
        paths: the source files; a change of any makes the entry out of date.
        code: the source of the code that decodes them.
    """

    prefix: str
    paths: Sequence[Path | str]
    code: bytes = b""

    @property
    def name(self) -> str:
        """The name of the entry.

        Raises:
            DataError: a source file cannot be read.
        """
        code = hashlib.sha256(f"{CACHE_VERSION}".encode() + self.code).hexdigest()[:8]
        return f"{self.prefix}-{_stamp(self.paths)}-{code}"


class Stored(NamedTuple):
    """A decoded data set, in memory or memory-mapped.

    Attributes:
        info: the facts of the data set.
        arrays: the arrays by the names of ``ARRAYS``.
        digests: the hash, type and shape of each array, by the same names.
        shared: the number of test images that are in train as well; 0 where this was
            not counted, as for published data sets.
    """

    info: DatasetInfo
    arrays: dict[str, npt.NDArray[Any]]
    digests: dict[str, str]
    shared: int = 0

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all arrays together."""
        return _fingerprint(self.digests)


def _fingerprint(digests: dict[str, str]) -> str:
    content = msgspec.json.encode(digests, order="sorted")
    return hashlib.sha256(content).hexdigest()


def known_fingerprint(cache: Path, sources: EntrySources) -> str | None:
    """Return the fingerprint of an up-to-date decoded data set from its sidecar.

    Args:
        cache: the folder of all entries.
        sources: what the entry is made from.

    Returns:
        The fingerprint, or None if there is no such entry.

    Raises:
        DataError: a source file cannot be read.
    """
    try:
        content = (cache / sources.name / "sidecar.json").read_bytes()
        return _fingerprint(msgspec.json.decode(content, type=Sidecar).digests)
    except (OSError, msgspec.MsgspecError):
        return None


def forget(cache: Path, sources: EntrySources) -> None:
    """Remove the entry, so that the data set is decoded again."""
    shutil.rmtree(cache / sources.name, ignore_errors=True)


def cached(cache: Path, sources: EntrySources, decode: Callable[[], Stored]) -> Stored:
    """Return a decoded data set from the cache, or decode it and add it to the cache.

    Args:
        cache: the folder of all entries; if it cannot be written to, nothing is kept.
        sources: what the entry is made from; the entry replaces those of the same
            prefix that are out of date.
        decode: decodes the data set.

    Raises:
        DataError: a source file cannot be read.
    """
    entry = cache / sources.name
    if stored := _open(entry):
        return stored
    lock = lock_of(cache / f"{sources.prefix}.lock")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        logger.warning("decoded images are not kept: %s", error)
        return decode()
    try:
        if stored := _open(entry):  # another process has written it meanwhile
            return stored
        stored = decode()
        _write(entry, stored)
        return stored
    finally:
        lock.release()


def digests(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Return the SHA-256, type and shape of each array."""
    return {
        key: f"{hashlib.sha256(a.data).hexdigest()} {a.dtype} {a.shape}"
        for key, a in arrays.items()
    }


def _stamp(paths: Sequence[Path | str]) -> str:
    """Return a stamp that changes with the name, size or times of any file.

    The time of the last change of the file itself, which no program can set, shows new
    content of the same size under the old time of modification.
    """
    stamp = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - 60,000 Path objects take as long
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason_of(error)}") from error
        times = f"{status.st_mtime_ns}\0{status.st_ctime_ns}"
        text = f"{path}\0{status.st_size}\0{times}\0"
        stamp.update(text.encode("utf-8", "surrogateescape"))
    return stamp.hexdigest()[:16]


def _open(entry: Path) -> Stored | None:
    """Return an entry memory-mapped, or None if it does not exist or is damaged."""
    if not entry.is_dir():
        return None
    try:
        content = (entry / "sidecar.json").read_bytes()
        sidecar = msgspec.json.decode(content, type=Sidecar)
        arrays = {
            # Copy on write, because torch warns of tensors over read-only memory.
            key: np.load(entry / f"{key}.npy", mmap_mode="c", allow_pickle=False)
            for key in ARRAYS
        }
    except (OSError, ValueError, EOFError, msgspec.MsgspecError) as error:
        logger.warning("%s is damaged and is decoded again: %s", entry, error)
        return None
    if digests(arrays) != sidecar.digests:
        logger.warning("%s is damaged and is decoded again: wrong checksum", entry)
        return None
    return Stored(sidecar.info, arrays, sidecar.digests, sidecar.shared)


def _write(entry: Path, stored: Stored) -> None:
    """Write an entry of the cache by one rename, and remove older ones.

    Only the holder of the lock calls this, so that any temporary folder there was left
    by a process that was killed.
    """
    current = entry.name.rpartition("-")[0]
    prefix = current.rpartition("-")[0]
    for old in entry.parent.glob(f"{prefix}-*"):
        in_use = old.name.startswith(f"{current}-") and old.suffix != ".partial"
        if old == entry or not in_use:
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
