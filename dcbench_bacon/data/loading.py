"""Loading of data sets: their files are found, decoded once and kept on the device.

A data set is a module of ``datasets/`` with these names:

- ``INFO``: the ``DatasetInfo``. A module without it takes a path (``NAME:PATH``) and
  has ``describe(folder, train)``, which makes it, and ``name(folder)``.
- ``read(folder)``: returns the decoded train and test splits.
- ``FILES``: the MD5 sums of the unpacked official files by path, in torchvision's
  layout; or ``sources(folder)``, which returns the files that ``read`` will read.
- Optionally ``ELSEWHERE`` (more folders to search), ``COUNTS`` (the official numbers of
  train and test images) and ``fetch(folder)``, which downloads the files.

Only ``get`` and ``load(..., download=True)`` use the network.
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
    """The module of a data set and the folder that it reads.

    Attributes:
        kind: the name of the module, for example ``cifar10`` or ``folder``.
        module: the module.
        folder: the absolute path of the folder.
    """

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
    """Return a data set, from the cache of decoded data sets if possible.

    Args:
        name: the name as typed: ``cifar10``, or ``folder:PATH``.
        root: the folder of the files; by default ``DCBENCH_DATA`` or a folder in
            ``~/.cache/dcbench``. It does not apply to ``folder:PATH``.
        device: the device of the images, which are uint8; the CPU by default.
        download: whether to download missing files.
        cache: the folder of decoded data sets; by default ``DCBENCH_CACHE`` or a folder
            in ``~/.cache/dcbench``.

    Raises:
        DataError: a file is missing or damaged; the message names it and the remedy.
        UsageError: there is no such data set.
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
    """Return the module and the folder for a typed name, without reading data.

    Raises:
        UsageError: there is no such data set, or its path is missing or superfluous.
    """
    kind, _, path = name.partition(":")
    kind, module = DATASETS.resolve(kind), DATASETS.module(kind)
    if hasattr(module, "INFO") == bool(path):
        raise UsageError(f"write {kind if path else kind + ':PATH'}, not {name!r}")
    folder = Path(path) if path else root or _default("DCBENCH_DATA", "data")
    return DatasetSource(kind, module, folder.expanduser().resolve())


def known_fingerprint(
    name: str, root: Path | None = None, *, cache: Path | None = None
) -> str | None:
    """Return the fingerprint of an already decoded data set, without reading images.

    Args:
        name: the name as typed.
        root: the folder of the files; see ``load``.
        cache: the folder of decoded data sets; see ``load``.

    Returns:
        The fingerprint of the present files, or None if they are not decoded yet.

    Raises:
        MissingDataError: the data set is not on disk.
        DataError: a file cannot be read.
    """
    source = find(name, root)
    prefix, paths = _entry(source)
    return decoded_cache.known_fingerprint(_cache_folder(cache), prefix, paths)


def cell_name(name: str, root: Path | None = None) -> str:
    """Return the name of a data set in records, without loading the data set.

    Args:
        name: the name as typed; a data set with a path is named after its folder.
        root: the folder of the files; see ``load``.
    """
    return _cell_name(find(name, root))


def _cell_name(source: DatasetSource) -> str:
    """Return the name for records, which is not that of a registered data set."""
    if hasattr(source.module, "INFO"):
        return str(source.module.INFO.name)
    name = str(source.module.name(source.folder))
    if canonical(name) in map(canonical, DATASETS.names()):
        name += f"-{source.kind}"  # a copy's records must not pass for the original's
    return name


def get(name: str, root: Path | None = None) -> None:
    """Download a data set into ``root`` if its module can download it.

    Raises:
        DataError: it could not be downloaded, or it cannot be and files are missing.
    """
    source = find(name, root)
    if not hasattr(source.module, "fetch"):
        sources(source)  # raises an error that names what is missing
        return
    try:
        source.module.fetch(source.folder)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())  # torchvision's has several lines
        raise DataError(
            f"{name} could not be downloaded ({reason}); put the files under "
            f"{source.folder} (--data-root or DCBENCH_DATA) by other means"
        ) from error


def locate(name: str, root: Path, path: str, elsewhere: Sequence[Path] = ()) -> Path:
    """Return the path of a file, with or without ``.gz``, in one of several folders.

    Args:
        name: the name of the data set, for the message.
        root: the first folder to search.
        path: the path of the file under ``root``.
        elsewhere: further folders, which are searched for the name of the file alone.

    Raises:
        MissingDataError: the file is in none of the folders.
    """
    places = [root / path, *(folder / Path(path).name for folder in elsewhere)]
    for place in places:
        for file in (place, place.with_name(place.name + ".gz")):
            if file.is_file():
                return file
    raise MissingDataError(
        f"{name}: {path} not found; run `dcbench data get {name}`, or put it under "
        f"{root} (--data-root or DCBENCH_DATA)"
    )


@contextmanager
def opened(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a file, decompressed if its name ends in ``.gz``.

    Raises:
        DataError: the file is damaged or cannot be read; the message names it.
    """
    with damaged(path), Path(path).open("rb") as file:
        if Path(path).suffix != ".gz":
            yield file
            return
        with gzip.open(file) as unpacked:
            yield unpacked  # type: ignore[misc]


@contextmanager
def damaged(path: Path | str) -> Iterator[None]:
    """Turn any error of a decoder into a ``DataError`` that names the file."""
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
    """Return the folder of an environment variable, or one in the user's cache."""
    return Path(os.environ.get(variable) or cache_folder(folder))


def sources(source: DatasetSource) -> Sequence[Path | str]:
    """Return the files that the module's ``read`` will read.

    Raises:
        DataError: a file is missing.
    """
    module, folder = source.module, source.folder
    if hasattr(module, "sources"):
        return list(module.sources(folder))
    elsewhere = getattr(module, "ELSEWHERE", ())
    return [locate(source.kind, folder, path, elsewhere) for path in module.FILES]


def decode(source: DatasetSource) -> Stored:
    """Return a data set read from its files, checked and hashed.

    Raises:
        DataError: a file is damaged, or its content contradicts the facts.
    """
    train, test = source.module.read(source.folder)
    fixed = hasattr(source.module, "INFO")
    if fixed:
        info = source.module.INFO
    else:
        described = source.module.describe(source.folder, train)
        info = msgspec.structs.replace(described, name=_cell_name(source))
    where = f"{source.kind} in {source.folder}"
    decoded = in_memory.stored(train, test, info, where, look=not fixed)
    counts = (len(train.labels), len(test.labels))
    if counts != (official := getattr(source.module, "COUNTS", counts)):
        logger.warning("%s: %s images, officially %s", where, counts, official)
    return decoded


def _cache_folder(given: Path | None) -> Path:
    """Return the folder of decoded data sets."""
    return (given or _default("DCBENCH_CACHE", "decoded")).expanduser()


def _entry(source: DatasetSource) -> tuple[str, list[Path | str]]:
    """Return the name of a data set in the cache, and the files it is made from."""
    # The module is one of the files, so that a change of it makes the entry outdated.
    paths = [*sources(source), str(source.module.__file__)]
    place = hashlib.sha256(str(source.folder).encode()).hexdigest()[:8]
    return f"{source.kind}-{place}", paths


def _cached(source: DatasetSource, cache: Path) -> Stored:
    """Return a data set from the cache of decoded data sets, or decode and add it."""
    prefix, paths = _entry(source)
    return decoded_cache.cached(cache, prefix, paths, lambda: decode(source))
