"""Folder: your own images, train/ and test/ or val/ in PATH, one folder a class.

Classes are in the sorted order of their folders' names, by value where all names are
numbers: '10' comes after '9'. Images are square: the shorter side of the first training
image gives the size, and an image of another shape is stretched to it, bilinearly and
antialiased. There is one channel if every image is greyscale, else three; transparent
images are composed over white. Hidden files and files whose suffix is no image format's
are left out. Test images that are in train as well are counted and told at each load.
"""

import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dcbench_bacon.api import (
    DataError,
    DatasetInfo,
    MissingDataError,
    RawSplit,
    damaged,
    decode_images,
    statistics,
    visible_folders,
)


def describe(root: Path, train: RawSplit) -> DatasetInfo:
    """Return the facts, with the statistics of the training pixels."""
    classes = tuple(folder.name for folder in _class_folders(root / "train"))
    channels, size = train.images.shape[1:3]
    mean, std = statistics(train.images)
    return DatasetInfo(
        name=name(root),
        title=root.name,
        classes=len(classes),
        channels=channels,
        size=size,
        mean=mean,
        std=std,
        class_names=classes,
    )


def name(root: Path) -> str:
    """Return the name for records: the folder's own name, made safe."""
    return re.sub(r"[^a-z0-9._-]+", "-", root.name.lower())


def sources(root: Path) -> list[str]:
    """Every file of every class folder; decides whether the cache is up to date."""
    return [path for split in _splits(root) for _, path in _files(split)]


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode both splits."""
    train_folder, test_folder = _splits(root)
    names = [[folder.name for folder in _class_folders(s)] for s in _splits(root)]
    if names[0] != names[1]:
        odd = ", ".join(sorted(set(names[0]) ^ set(names[1])))
        raise DataError(f"{train_folder} and {test_folder} differ in classes: {odd}")
    labels, paths = _images(train_folder)
    with damaged(paths[0]), Image.open(paths[0]) as first:
        size = min(first.size)
    train, grey = decode_images(paths, _read_bytes, "", size, stretch=True)
    test_labels, test_paths = _images(test_folder)
    test, test_grey = decode_images(test_paths, _read_bytes, "", size, stretch=True)
    if grey and test_grey:
        train, test = train[:, :1], test[:, :1]
    return RawSplit(train, labels), RawSplit(test, test_labels)


def _read_bytes(name: str) -> bytes:
    return Path(name).read_bytes()


def _splits(root: Path) -> tuple[Path, Path]:
    """Return the folders of train and test."""
    train, *tests = (root / name for name in ("train", "test", "val"))
    for test in tests:
        if train.is_dir() and test.is_dir():
            return train, test
    raise MissingDataError(
        f"folder: {root} must hold train/ and test/ (or val/), with a folder for each "
        "class in both"
    )


def _class_folders(split: Path) -> list[Path]:
    return visible_folders(split.iterdir())


def _files(split: Path) -> list[tuple[int, str]]:
    """Return class index and path of every visible file, in order."""
    return [
        (label, f"{folder}/{name}")
        for label, folder in enumerate(_class_folders(split))
        for name in sorted(entry.name for entry in os.scandir(folder))
        if not name.startswith(".")
    ]


def _images(split: Path) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return labels and paths of the images; every class folder must have one."""
    suffixes = Image.registered_extensions()
    files = [
        (y, path) for y, path in _files(split) if Path(path).suffix.lower() in suffixes
    ]
    labels = np.array([label for label, _ in files], np.int64)
    folders = _class_folders(split)
    counts = np.bincount(labels, minlength=len(folders))
    if not counts.all() or not folders:
        empty = [folder for folder, n in zip(folders, counts, strict=True) if not n]
        raise DataError(f"no image in {', '.join(map(str, empty or [split]))}")
    return labels, [path for _, path in files]
