"""Folder: your own images, train/ and test/ or val/ in PATH, one folder a class.

Classes are in the sorted order of their folders' names, by value where all names are
numbers: '10' comes after '9'. Images are square: the median of the shorter sides of the
training images gives the size, or ``--size`` does, and an image of another shape is
stretched to it, bilinearly and antialiased. Photographs are turned as their EXIF data
say. There is one channel if every image is greyscale, else three; transparent images
are composed over white. Hidden files, what systems leave in folders (Thumbs.db,
__MACOSX) and files whose suffix is no image format's are left out. Test images that are
in train as well are counted and told at each load.
"""

import hashlib
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from dcbench_bacon.api import (
    DataError,
    DatasetInfo,
    LabelledFiles,
    MissingDataError,
    RawSplit,
    printable,
    sides,
    statistics,
    visible_folders,
)

logger = logging.getLogger(__name__)
SMALLEST, LARGEST = 8, 1024  # pixels along a side
MOST_LOOKED_AT = 10_000  # training images whose sizes decide, evenly spaced


def describe(root: Path, train: RawSplit) -> DatasetInfo:
    """Return the facts, with the statistics of the training pixels."""
    folders = _class_folders(root / "train")
    classes = tuple(printable(folder.name) for folder in folders)
    channels, size = train.images.shape[1:3]
    mean, std = statistics(train.images)
    return DatasetInfo(
        name=name(root),
        title=printable(root.name),
        classes=len(classes),
        channels=channels,
        size=size,
        mean=mean,
        std=std,
        class_names=classes,
    )


def name(root: Path) -> str:
    """Return the name for records: the folder's own name, made safe.

    A name without a letter or digit of ASCII is replaced by its hash.
    """
    safe = re.sub(r"[^a-z0-9._-]+", "-", root.name.lower())
    if re.search("[a-z0-9]", safe):
        return safe
    return f"folder-{hashlib.sha256(os.fsencode(root.name)).hexdigest()[:8]}"


def files(root: Path) -> tuple[LabelledFiles, LabelledFiles]:
    """Return the image files of train and test, by class."""
    train, test = _splits(root)
    names, others = (
        [folder.name for folder in _class_folders(s)] for s in (train, test)
    )
    if names != others:
        odd = ", ".join(sorted(set(names) ^ set(others)))
        raise DataError(f"{train} and {test} differ in classes: {odd}")
    if not names:
        raise DataError(
            f"no image in {train}; a data set has train/CLASS/IMAGE and "
            "test/CLASS/IMAGE"
        )
    return LabelledFiles.of_classes(train, names), LabelledFiles.of_classes(test, names)


def usual_size(train: LabelledFiles) -> int:
    """Return the median of the shorter sides of at most 10,000 training images.

    Raises:
        DataError: the median is no size that networks accept.
    """
    spread = train.spread(MOST_LOOKED_AT)
    return _median_size(train.folder.parent, sides(spread.paths()))


def _median_size(root: Path, sizes: Sequence[tuple[int, int]]) -> int:
    """Return the median of the shorter sides; warn where sizes differ.

    Raises:
        DataError: the median is no size that networks accept.
    """
    shorter = sorted(map(min, sizes))
    median = shorter[(len(shorter) - 1) // 2]
    if not SMALLEST <= median <= LARGEST:
        raise DataError(
            f"{root}: images of {median} pixels (median of the shorter sides), but "
            f"{SMALLEST} to {LARGEST} are used; state a size with --size"
        )
    if len(set(sizes)) > 1:
        logger.warning(
            "%s: images of %d x %d to %d x %d pixels are resized to %d x %d, the "
            "median of their shorter sides; state another size with --size",
            root,
            *min(sizes, key=math.prod),
            *max(sizes, key=math.prod),
            median,
            median,
        )
    return median


def _splits(root: Path) -> tuple[Path, Path]:
    """Return the folders of train and test."""
    train, *tests = (root / name for name in ("train", "test", "val"))
    for test in tests:
        if train.is_dir() and test.is_dir():
            return train, test
    inner = [
        path
        for path in (visible_folders(root.iterdir()) if root.is_dir() else [])
        if (path / "train").is_dir()
    ]
    hint = f"; {inner[0]} has them: give folder:{inner[0]}" if inner else ""
    raise MissingDataError(
        f"folder: {root} must hold train/ and test/ (or val/), with a folder for each "
        f"class in both{hint}"
    )


def _class_folders(split: Path) -> list[Path]:
    return visible_folders(split.iterdir())
