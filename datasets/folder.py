"""Folder: your own images, train/ and test/ or val/ in PATH, one folder a class.

Classes are in the sorted order of their folders' names, by value where all names are
numbers: '10' comes after '9'. Images are square: the shorter side of the first training
image gives the size, and an image of another shape is stretched to it, bilinearly and
antialiased. There is one channel if every image is greyscale, else three; transparent
images are composed over white. Hidden files and files whose suffix is no image format's
are left out. Test images that are in train as well are counted and told at each load.
"""

import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dcbench_bacon.data.dataset import RawSplit
from dcbench_bacon.data.loading import MissingDataError, damaged
from dcbench_bacon.data.natural_order import visible_folders
from dcbench_bacon.data.transparency import opaque
from dcbench_bacon.errors import DataError
from dcbench_bacon.plugins import DATASETS, canonical
from dcbench_bacon.schema import DatasetInfo

logger = logging.getLogger(__name__)
GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV")


def describe(root: Path, train: RawSplit) -> DatasetInfo:
    """The facts, with the statistics of the training pixels."""
    classes = tuple(folder.name for folder in _class_folders(root / "train"))
    channels, size = train.images.shape[1:3]
    moments = [_moments(train.images[:, channel]) for channel in range(channels)]
    return DatasetInfo(
        name=name(root),
        title=root.name,
        classes=len(classes),
        channels=channels,
        size=size,
        mean=tuple(mean for mean, _ in moments),
        std=tuple(std for _, std in moments),
        class_names=classes,
    )


def name(root: Path) -> str:
    """What records call the data set: the folder's own name, made safe."""
    safe = re.sub(r"[^a-z0-9._-]+", "-", root.name.lower())
    if canonical(safe) in map(canonical, DATASETS.names()):
        safe += "-folder"  # a copy's records must not pass for the original's
    return safe


def sources(root: Path) -> list[str]:
    """Every file of every class folder; decides whether the cache is up to date."""
    return [path for split in _splits(root) for _, path in _files(split)]


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decodes both splits."""
    train_folder, test_folder = _splits(root)
    names = [[folder.name for folder in _class_folders(s)] for s in _splits(root)]
    if names[0] != names[1]:
        odd = ", ".join(sorted(set(names[0]) ^ set(names[1])))
        raise DataError(f"{train_folder} and {test_folder} differ in classes: {odd}")
    labels, paths = _images(train_folder)
    with damaged(paths[0]), Image.open(paths[0]) as first:
        size = min(first.size)
    train, grey = decode(paths, _read_bytes, "", size, stretch=True)
    test_labels, test_paths = _images(test_folder)
    test, test_grey = decode(test_paths, _read_bytes, "", size, stretch=True)
    if grey and test_grey:
        train, test = train[:, :1], test[:, :1]
    return RawSplit(train, labels), RawSplit(test, test_labels)


def decode(
    names: Sequence[str],
    read_bytes: Callable[[str], bytes],
    where: str,
    size: int,
    *,
    stretch: bool = False,
) -> tuple[npt.NDArray[np.uint8], bool]:
    """Decodes image files to three channels, in as many threads as Python suggests.

    Args:
        names: of the files.
        read_bytes: gives the content of one.
        where: precedes the name in messages.
        size: height and width of the result.
        stretch: resize images of another shape, which are refused otherwise.

    Returns:
        The images (n, 3, h, w) and whether all are greyscale.
    """
    images = np.empty((len(names), 3, size, size), np.uint8)

    def fill(index: int) -> tuple[bool, bool]:
        name = names[index]
        with damaged(Path(where, name)):
            image = Image.open(BytesIO(read_bytes(name)))
            resized = image.size != (size, size)
            if resized and not stretch:
                raise ValueError(f"{image.size} pixels, expected {size} by {size}")
            images[index] = np.asarray(_convert(image, size)).transpose(2, 0, 1)
            return image.mode in GREY, resized

    with ThreadPoolExecutor() as pool:
        flags = list(pool.map(fill, range(len(names))))
    if resized := sum(flag for _, flag in flags):
        logger.info("%d of %d images resized to %d", resized, len(names), size)
    return images, all(grey for grey, _ in flags)


def _convert(image: Image.Image, size: int) -> Image.Image:
    """The image in RGB and in the given size."""
    if image.mode not in GREY + COLOUR:  # 16 bits and floats: PIL would clip them
        raise ValueError(f"pixels of mode {image.mode}; convert them to 8 bits")
    image = opaque(image).convert("RGB")
    if image.size != (size, size):
        from torchvision.transforms.functional import resize

        image = resize(image, [size, size], antialias=True)
    return image


def _read_bytes(name: str) -> bytes:
    return Path(name).read_bytes()


def _splits(root: Path) -> tuple[Path, Path]:
    """The folders of train and test."""
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
    """Class index and path of every visible file, in order."""
    return [
        (label, f"{folder}/{name}")
        for label, folder in enumerate(_class_folders(split))
        for name in sorted(entry.name for entry in os.scandir(folder))
        if not name.startswith(".")
    ]


def _images(split: Path) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Labels and paths of the images; every class folder must have one."""
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


def _moments(pixels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and std of pixels in [0, 1], exact through a histogram.

    A constant channel has the std of one grey level, so that dividing by it is safe.
    """
    histogram = np.zeros(256, np.int64)
    for part in np.array_split(pixels, len(pixels) // 4096 + 1):  # bounds the memory
        histogram += np.bincount(part.ravel(), minlength=256)
    levels, share = np.arange(256) / 255, histogram / histogram.sum()
    mean = float(levels @ share)
    variance = float((levels - mean) ** 2 @ share)
    return mean, max(variance**0.5, 1 / 255)
