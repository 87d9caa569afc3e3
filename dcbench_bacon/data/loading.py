"""Loading of data sets: their files are found, decoded once and kept on the device.

A data set is a module of ``datasets/`` with these names:

- ``INFO``: the ``DatasetInfo``. A module without it takes a path (``NAME:PATH``) and
  has ``describe(folder, train)``, which makes it, and ``name(folder)``.
- ``read(folder)``: returns the decoded train and test splits. A module that takes a
  path may also have ``read(folder, size)``, for the size that the user states.
- ``FILES``: the MD5 sums of the unpacked official files by path, in torchvision's
  layout; or ``sources(folder)``, which returns the files that ``read`` will read.
- Optionally ``ELSEWHERE`` (more folders to search), ``COUNTS`` (the official numbers of
  train and test images) and ``fetch(folder)``, which downloads the files.

Only ``get`` and ``load(..., download=True)`` use the network.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import msgspec
import torch

from dcbench_bacon.data import decoded_cache, in_memory
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.decoded_cache import Stored
from dcbench_bacon.data.files.source_files import MissingDataError as MissingDataError
from dcbench_bacon.data.files.source_files import locate
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.plugins import DATASETS, canonical
from dcbench_bacon.runtime.disk.caches import DECODED
from dcbench_bacon.runtime.disk.files import user_folder

logger = logging.getLogger(__name__)


class DatasetSource(NamedTuple):
    """The module of a data set and the folder that it reads.

    Attributes:
        kind: the name of the module, for example ``cifar10`` or ``folder``.
        module: the module.
        folder: the absolute path of the folder.
        size: the height and width of the images that the user states; None for the
            module's own choice.
    """

    kind: str
    module: ModuleType
    folder: Path
    size: int | None = None


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
        cache: the folder of decoded data sets; by default ``decoded`` in
            ``DCBENCH_CACHE`` or in ``~/.cache/dcbench``.

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

    Args:
        name: ``NAME``; ``NAME:PATH``, or ``NAME@SIZE:PATH`` for images of a size.
        root: the folder of the files; see ``load``.

    Raises:
        UsageError: there is no such data set, or its path is missing or superfluous, or
            the size is no number of pixels.
    """
    kind, _, path = name.partition(":")
    kind, _, size = kind.partition("@")
    kind, module = DATASETS.resolve(kind), DATASETS.module(kind)
    if size and hasattr(module, "INFO"):
        raise UsageError(f"{name}: these images have one size; write {kind}")
    if size and not (path and size.isdecimal() and 8 <= int(size) <= 1024):
        raise UsageError(f"{name}: write {kind}@SIZE:PATH with a size of 8 to 1024")
    if hasattr(module, "INFO") == bool(path):
        raise UsageError(f"write {kind if path else kind + ':PATH'}, not {name!r}")
    folder = Path(path) if path else root or _data_folder()
    pixels = int(size) if size else None
    return DatasetSource(kind, module, folder.expanduser().resolve(), pixels)


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
    return decoded_cache.known_fingerprint(_cache_folder(cache), _entry(source))


def forget(source: DatasetSource, *, cache: Path | None = None) -> None:
    """Remove a decoded data set from the cache, so that it is decoded again."""
    decoded_cache.forget(_cache_folder(cache), _entry(source))


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


def _data_folder() -> Path:
    """Return the folder of data sets, which are no cache: they may be hard to get."""
    return Path(os.environ.get("DCBENCH_DATA") or user_folder() / "data")


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
    stated = {"size": source.size} if source.size else {}
    train, test = source.module.read(source.folder, **stated)
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
    return (given or DECODED.folder).expanduser()


def _entry(source: DatasetSource) -> decoded_cache.EntrySources:
    """Return what the entry of a data set in the cache is made from."""
    size = f"\0{source.size}" if source.size else ""
    place = hashlib.sha256(os.fsencode(f"{source.folder}{size}")).hexdigest()[:8]
    # The content of the module, not its path: another installation has the same.
    code = Path(str(source.module.__file__)).read_bytes()
    return decoded_cache.EntrySources(f"{source.kind}-{place}", sources(source), code)


def _cached(source: DatasetSource, cache: Path) -> Stored:
    """Return a data set from the cache of decoded data sets, or decode and add it."""
    return decoded_cache.cached(cache, _entry(source), lambda: decode(source))
