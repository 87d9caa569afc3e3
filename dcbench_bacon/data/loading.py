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
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import IO, NamedTuple

import msgspec
import torch

from dcbench_bacon.data import decoded_cache, in_memory
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.decoded_cache import Stored
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.plugins import DATASETS, canonical
from dcbench_bacon.runtime.files import cache_folder

logger = logging.getLogger(__name__)


class MissingDataError(DataError):
    """A file of a data set is not on disk."""


class DatasetSource(NamedTuple):
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
    return in_memory.resident(stored, source.folder, device)


def find(name: str, root: Path | None = None) -> DatasetSource:
    """The module and the folder for a name as typed; reads no data."""
    kind, _, path = name.partition(":")
    kind, module = DATASETS.resolve(kind), DATASETS.module(kind)
    if hasattr(module, "INFO") == bool(path):
        raise UsageError(f"write {kind if path else kind + ':PATH'}, not {name!r}")
    folder = Path(path) if path else root or _default("DCBENCH_DATA", "data")
    return DatasetSource(kind, module, folder.expanduser().resolve())


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
    return decoded_cache.known_fingerprint(_cache_folder(cache), prefix, paths)


def cell_name(name: str, root: Path | None = None) -> str:
    """The name that records carry, known before anything is loaded.

    Args:
        name: as typed; a data set with a path is named after its folder.
        root: where data sets lie.
    """
    return _cell_name(find(name, root))


def _cell_name(source: DatasetSource) -> str:
    """The name that records carry: no path's data set has that of another one."""
    if hasattr(source.module, "INFO"):
        return str(source.module.INFO.name)
    name = str(source.module.name(source.folder))
    if canonical(name) in map(canonical, DATASETS.names()):
        name += f"-{source.kind}"  # a copy's records must not pass for the original's
    return name


def get(name: str, root: Path | None = None) -> None:
    """Downloads a data set into ``root``, if it is one that is downloaded."""
    source = find(name, root)
    if not hasattr(source.module, "fetch"):
        sources(source)  # says what is missing
        return
    try:
        source.module.fetch(source.folder)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())  # torchvision's goes over lines
        raise DataError(
            f"{name} could not be downloaded ({reason}); put the files under "
            f"{source.folder} (--data-root or DCBENCH_DATA) by other means"
        ) from error


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


def _default(variable: str, folder: str) -> Path:
    """The folder an environment variable names, or one in the user's cache."""
    return Path(os.environ.get(variable) or cache_folder(folder))


def sources(source: DatasetSource) -> Sequence[Path | str]:
    """The files that ``read`` will read."""
    module, folder = source.module, source.folder
    if hasattr(module, "sources"):
        return list(module.sources(folder))
    elsewhere = getattr(module, "ELSEWHERE", ())
    return [locate(source.kind, folder, path, elsewhere) for path in module.FILES]


def decode(source: DatasetSource) -> Stored:
    """Reads, checks and hashes a data set."""
    train, test = source.module.read(source.folder)
    fixed = hasattr(source.module, "INFO")
    if fixed:
        info = source.module.INFO
    else:
        described = source.module.describe(source.folder, train)
        info = msgspec.structs.replace(described, name=_cell_name(source))
    where = f"{source.kind} in {source.folder}"
    found = in_memory.stored(train, test, info, where, look=not fixed)
    counts = (len(train.labels), len(test.labels))
    if counts != (official := getattr(source.module, "COUNTS", counts)):
        logger.warning("%s: %s images, officially %s", where, counts, official)
    return found


def _cache_folder(given: Path | None) -> Path:
    """The cache of decoded sets."""
    return (given or _default("DCBENCH_CACHE", "decoded")).expanduser()


def _entry(source: DatasetSource) -> tuple[str, list[Path | str]]:
    """The name of a data set in the cache, and the files that it is made from."""
    # A reader that was changed makes what it decoded before out of date as well.
    paths = [*sources(source), str(source.module.__file__)]
    place = hashlib.sha256(str(source.folder).encode()).hexdigest()[:8]
    return f"{source.kind}-{place}", paths


def _cached(source: DatasetSource, cache: Path) -> Stored:
    """Takes the decoded set from the cache, or decodes it and puts it there."""
    prefix, paths = _entry(source)
    return decoded_cache.cached(cache, prefix, paths, lambda: decode(source))
