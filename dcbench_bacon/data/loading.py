"""Loading of data sets: their files are found, decoded once and kept on the device.

A data set is a module of ``datasets/`` with these names:

- ``INFO``: the ``DatasetInfo``. A module without it takes a path (``NAME:PATH``) and
  has ``describe(folder, train)``, which makes it, and ``name(folder)``.
- ``read(folder)``: returns the decoded train and test splits;
- or, for image files that are resized to squares, ``files(folder)`` in its place, which
  returns the files of train and test. They are decoded once, or when they are needed
  where their pixels take more bytes than ``--stream-above`` says. ``shorter(size)``
  gives the length of the shorter side before the middle is cut out; without it, images
  are stretched. A module without ``INFO`` has ``usual_size(train)``, too. Users may
  state a size (``NAME@SIZE``), which is then part of the name.
- ``FILES``: the MD5 sums of the unpacked official files by path, in torchvision's
  layout; or ``sources(folder)``, which returns the files that ``read`` will read.
- Optionally ``ELSEWHERE`` (more folders to search), ``COUNTS`` (the official numbers of
  train and test images) and ``fetch(folder)``, which downloads the files.

Only ``get`` and ``load(..., download=True)`` use the network.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import msgspec
import torch

from dcbench_bacon.data import decoded_cache, in_memory
from dcbench_bacon.data.dataset import Dataset, RawSplit
from dcbench_bacon.data.dataset_sources import DatasetSource, name_of
from dcbench_bacon.data.dataset_sources import cell_name as cell_name
from dcbench_bacon.data.dataset_sources import find as find
from dcbench_bacon.data.dataset_sources import info_of as info_of
from dcbench_bacon.data.dataset_sources import sources as sources
from dcbench_bacon.data.decoded_cache import Stored
from dcbench_bacon.data.files.image_files import Square
from dcbench_bacon.data.files.listing import LabelledFiles
from dcbench_bacon.data.files.source_files import MissingDataError as MissingDataError
from dcbench_bacon.data.streaming import options
from dcbench_bacon.data.streaming.image_sets import ImageSet
from dcbench_bacon.errors import DataError
from dcbench_bacon.runtime.disk.caches import DECODED
from dcbench_bacon.schema import DatasetInfo

logger = logging.getLogger(__name__)
_TOLD: set[tuple[str, tuple[int, ...]]] = set()  # what was told of counts
_USUAL_SIZES: dict[tuple[str, str, str], int] = {}


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
        return _opened(source, folder, device)
    except MissingDataError:
        if not download:
            raise
    get(name, root)
    return _opened(source, folder, device)


def _opened(source: DatasetSource, cache: Path, device: torch.device | None) -> Dataset:
    """Return a data set that is on disk: streamed, or decoded now or before."""
    images = image_set(source, cache)
    if images is not None and images.streams:
        _tell_counts(source, len(images.train), len(images.test))
        return images.streamed(_facts(source, images.sample), device)
    stored = _cached(source, cache, images)
    return in_memory.resident(stored, source.folder, device)


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
    source, folder = find(name, root), _cache_folder(cache)
    images = image_set(source, folder)
    if images is not None and images.streams:
        return images.fingerprint
    return decoded_cache.known_fingerprint(folder, _entry(source, images))


def forget(source: DatasetSource, *, cache: Path | None = None) -> None:
    """Remove a decoded data set from the cache, so that it is decoded again."""
    folder = _cache_folder(cache)
    decoded_cache.forget(folder, _entry(source, image_set(source, folder)))


def image_set(source: DatasetSource, cache: Path | None = None) -> ImageSet | None:
    """Return the image files of a data set, or None for a module that reads arrays.

    Args:
        source: the module and its folder.
        cache: the folder of decoded data sets; see ``load``.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    module, info = source.module, info_of(source)
    if not hasattr(module, "files"):
        return None
    train, test = module.files(source.folder)
    if info is not None:
        size, channels = info.size, info.channels
    else:
        size, channels = source.size or _usual_size(source, train), 3
    shorter = module.shorter(size) if hasattr(module, "shorter") else 0
    images = ImageSet(train, test, Square(size, shorter, channels))
    return images.usable(_cache_folder(cache))


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


def _usual_size(source: DatasetSource, train: LabelledFiles) -> int:
    """Return the size that the module finds best, which is measured once."""
    key = (source.kind, str(source.folder), train.sha256)
    if key not in _USUAL_SIZES:
        _USUAL_SIZES[key] = int(source.module.usual_size(train))
    return _USUAL_SIZES[key]


def is_streamed(source: DatasetSource) -> bool:
    """Return whether a data set is on disk and is decoded when it is needed."""
    try:
        images = image_set(source)
    except DataError:
        return False
    return images is not None and images.streams


def decode(source: DatasetSource, images: ImageSet | None = None) -> Stored:
    """Return a data set read from its files, checked and hashed.

    Args:
        source: the module and its folder.
        images: its image files, for a module that has them.

    Raises:
        DataError: a file is damaged, or its content contradicts the facts.
    """
    fixed = hasattr(source.module, "INFO")
    if images is None:
        train, test = source.module.read(source.folder)
    else:
        train, test = images.decoded(grey=not fixed)
    info = _facts(source, lambda: train)
    where = f"{source.kind} in {source.folder}"
    decoded = in_memory.stored(train, test, info, where, look=not fixed)
    _tell_counts(source, len(train.labels), len(test.labels))
    return decoded


def _tell_counts(source: DatasetSource, *counts: int) -> None:
    """Warn once if train and test do not have the official numbers of images."""
    where = f"{source.kind} in {source.folder}"
    official = getattr(source.module, "COUNTS", counts)
    if counts != official and (where, counts) not in _TOLD:
        _TOLD.add((where, counts))
        logger.warning("%s: %s images, officially %s", where, counts, official)


def _facts(source: DatasetSource, train: Callable[[], RawSplit]) -> DatasetInfo:
    """Return the facts of a data set.

    Args:
        source: the module and its folder.
        train: returns training images that facts come from where none are stated.
    """
    if info := info_of(source):
        return info
    described: DatasetInfo = source.module.describe(source.folder, train())
    return msgspec.structs.replace(described, name=name_of(source))


def _cache_folder(given: Path | None) -> Path:
    """Return the folder of decoded data sets."""
    return (given or DECODED.folder).expanduser()


def _entry(
    source: DatasetSource, images: ImageSet | None
) -> decoded_cache.EntrySources:
    """Return what the entry of a data set in the cache is made from."""
    size = f"\0{source.size}" if source.size else ""
    if images is not None and options.bad_files() == "skip":
        size += "\0without bad files"
    place = hashlib.sha256(os.fsencode(f"{source.folder}{size}")).hexdigest()[:8]
    # The content of the module, not its path: another installation has the same.
    code = Path(str(source.module.__file__)).read_bytes()
    paths = sources(source) if images is None else images.paths
    return decoded_cache.EntrySources(f"{source.kind}-{place}", paths, code)


def _cached(source: DatasetSource, cache: Path, images: ImageSet | None) -> Stored:
    """Return a data set from the cache of decoded data sets, or decode and add it."""
    entry = _entry(source, images)
    return decoded_cache.cached(cache, entry, lambda: decode(source, images))
