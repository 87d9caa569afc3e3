"""Data sets from arrays in memory: checked, measured and put on a device."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcbench_bacon.data.dataset import Dataset, RawSplit
from dcbench_bacon.data.decoded_cache import ARRAYS, Stored, digests
from dcbench_bacon.data.overlap import count_shared
from dcbench_bacon.data.splits import MappedSplit, ResidentSplit, Split
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.plugins import DATASETS, canonical
from dcbench_bacon.runtime.compute.memory import budget
from dcbench_bacon.schema import DatasetInfo

logger = logging.getLogger(__name__)
PIECE = 2**20  # pixels counted at a time, which takes 8 bytes for each


def dataset_of(
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    name: str,
    class_names: Sequence[str] = (),
) -> Dataset:
    """Return a data set of images in memory, on the CPU.

    Args:
        train: uint8 images (n, c, h, w), square and of 1 or 3 channels, and labels (n,)
            from 0; tensors or NumPy arrays, which are copied.
        test: the same.
        name: what records and tables call it: small letters, digits and ``._-``.
        class_names: one per class; the numbers of the classes by default.

    Raises:
        DataError: shapes, types or labels do not fit each other.
        UsageError: the name cannot be used.
    """
    _check_name(name)
    raw_train = _raw(*train, f"{name}, train")
    raw_test = _raw(*test, f"{name}, test")
    classes = len(class_names) or int(raw_train.labels.max()) + 1
    mean, std = statistics(raw_train.images)
    channels, size = raw_train.images.shape[1:3]
    info = DatasetInfo(
        name=name,
        title=name,
        classes=classes,
        channels=channels,
        size=size,
        mean=mean,
        std=std,
        class_names=tuple(class_names) or tuple(map(str, range(classes))),
    )
    return resident(stored(raw_train, raw_test, info, name), name)


def stored(
    train: RawSplit, test: RawSplit, info: DatasetInfo, where: str, *, look: bool = True
) -> Stored:
    """Return decoded splits after checking and hashing them.

    Args:
        train: decoded.
        test: decoded.
        info: the facts that they must fit.
        where: what messages call them.
        look: count the test images that are in train as well.

    Raises:
        DataError: arrays contradict each other or the facts.
    """
    _check_split(train, info, f"{where}, train")
    _check_split(test, info, f"{where}, test")
    contents = (train.images, train.labels, test.images, test.labels)
    arrays = {
        # A copy: writable, and with the strides that a cached file will give.
        key: np.array(array, order="C")
        for key, array in zip(ARRAYS, contents, strict=True)
    }
    shared = count_shared(train.images, test.images) if look else 0
    return Stored(info, arrays, digests(arrays), shared)


def resident(
    decoded: Stored, where: object, device: torch.device | None = None
) -> Dataset:
    """Return a decoded data set on a device, and warn of images in train and test.

    Args:
        decoded: the images, labels and facts in memory.
        where: what the warning calls it.
        device: the CPU by default.
    """
    if decoded.shared:
        logger.warning(
            "%s: %d of %d test images are in train as well, pixel for pixel: what is "
            "measured on them is too high; remove them from one of the two",
            where,
            decoded.shared,
            len(decoded.arrays["test_labels"]),
        )
    place = device or torch.device("cpu")
    train, test = (_split(decoded, name, place) for name in ("train", "test"))
    return Dataset(decoded.info, train, test, decoded.fingerprint)


def _split(decoded: Stored, name: str, device: torch.device) -> Split:
    """Return a split, whose images stay in mapped files if the device is too small."""
    images, labels = (
        torch.from_numpy(decoded.arrays[f"{name}_{part}"])
        for part in ("images", "labels")
    )
    if device.type != "cpu" and images.nbytes > budget(device):
        return MappedSplit(images, labels.to(device), decoded.info)
    return ResidentSplit(images.to(device), labels.to(device), decoded.info)


def statistics(
    images: npt.NDArray[np.uint8],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, of pixels in [0, 1].

    They are exact, through a histogram. A channel of one grey level has the deviation
    1/255, so that dividing by it is safe.

    Args:
        images: (n, c, h, w).
    """
    moments = [_moments(images[:, channel]) for channel in range(images.shape[1])]
    return tuple(mean for mean, _ in moments), tuple(std for _, std in moments)


def _moments(pixels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of pixels in [0, 1]."""
    histogram = np.zeros(256, np.int64)
    for part in np.array_split(pixels, pixels.size // PIECE + 1):
        histogram += np.bincount(part.ravel(), minlength=256)
    levels, share = np.arange(256) / 255, histogram / histogram.sum()
    mean = float(levels @ share)
    variance = float((levels - mean) ** 2 @ share)
    return mean, max(variance**0.5, 1 / 255)


def _check_name(name: str) -> None:
    """Make sure that a name suits a file and is not that of another data set."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise UsageError(f"name {name!r}: use small letters, digits and . _ - only")
    if canonical(name) in map(canonical, DATASETS.names()):
        raise UsageError(
            f"name {name!r} is that of a data set that dcbench knows, whose recipes "
            f"and published numbers are not for other images; choose another"
        )


def _raw(images: Any, labels: Any, where: str) -> RawSplit:
    """Return images and labels as arrays; labels may be of any whole-number type.

    Raises:
        DataError: they are no images or no labels; says how to mend them.
    """
    pixels, indices = (
        torch.as_tensor(tensor).detach().cpu() for tensor in (images, labels)
    )
    if pixels.dtype != torch.uint8:
        raise DataError(
            f"{where}: images of type {pixels.dtype}, but a data set is of uint8 "
            "pixels; for floats in [0, 1] give (images * 255).round().to(torch.uint8)"
        )
    _check_image_shape(pixels, where)
    if indices.ndim != 1 or indices.dtype.is_floating_point or indices.is_complex():
        raise DataError(
            f"{where}: labels of type {indices.dtype} and shape {tuple(indices.shape)},"
            " but a data set has a class index (n,) for each image; of rows give "
            "labels.argmax(1), of floats labels.long()"
        )
    if not len(indices) or len(indices) != len(pixels):
        raise DataError(
            f"{where}: {len(pixels)} images and {len(indices)} labels; give as many "
            "of both, and at least one of each class"
        )
    return RawSplit(pixels.numpy(), indices.long().numpy())


def _check_image_shape(images: Tensor, where: str) -> None:
    """Make sure that images are square and have 1 or 3 channels, which come first."""
    shape = tuple(images.shape)
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2] == shape[3]:
        return
    remedy = "resize or crop them to squares of 1 or 3 channels"
    if len(shape) == 4 and shape[3] in (1, 3):
        remedy = "their channels come last; give images.permute(0, 3, 1, 2)"
    elif len(shape) == 3:
        remedy = "if they are grey, give images[:, None]"
    raise DataError(f"{where}: images of shape {shape}, not (n, c, h, h); {remedy}")


def _check_split(split: RawSplit, info: DatasetInfo, where: str) -> None:
    """Refuse arrays that contradict each other or the facts."""
    images, labels = split.images, split.labels
    shape = (len(labels), info.channels, info.size, info.size)
    if images.dtype != np.uint8 or labels.dtype != np.int64 or images.shape != shape:
        raise DataError(
            f"{where}: {images.dtype} images of shape {images.shape} with "
            f"{labels.shape} labels; expected uint8 {shape}"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < info.classes:
        span = f"{labels.min()} to {labels.max()}"
        raise DataError(f"{where}: labels {span}; there are {info.classes} classes")
    empty = np.flatnonzero(np.bincount(labels, minlength=info.classes) == 0)
    if len(empty):
        names = ", ".join(info.class_names[label] for label in empty[:5])
        raise DataError(f"{where}: no image of class {names}")
