"""The images and labels of a foreign file as those of a set: checked, converted."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon import data
from dcbench_bacon.container import check_bytes
from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.archives import damaged
from dcbench_bacon.exchange.content import Content
from dcbench_bacon.exchange.stored import Source
from dcbench_bacon.schema import DatasetInfo

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_FAR = 1.0  # how far beyond [0, 1] a pixel may be; bicubic resizing overshoots


def check_shapes(path: Path, content: Content, info: DatasetInfo) -> None:
    """Compares the images with the data set before any is read."""
    wanted = (info.channels, info.size, info.size)
    for tensor in content.images:
        shape = tensor.shape[1:]
        if content.channels_last and len(shape) == 3:
            shape = (shape[2], shape[0], shape[1])
        if len(tensor.shape) != 4 or shape != wanted:
            raise DataError(
                f"{path}: images of shape {tuple(tensor.shape)}, but {info.name} has "
                f"(n, {', '.join(map(str, wanted))}); name the right data set with "
                "--dataset or the right format with --from"
            )
        if tensor.dtype not in (*_FLOATS, torch.uint8):
            raise DataError(
                f"{path}: images of type {tensor.dtype}, not of real numbers"
            )
    count = sum(map(_count, content.images))
    if not count:
        raise DataError(f"{path} holds no image")
    with damaged(path):
        check_bytes((count, *wanted), (count, info.classes))


def _count(tensor: Source) -> int:
    return tensor.shape[0] if tensor.shape else 0


def images_of(
    path: Path,
    content: Content,
    settled: Mapping[str, Any],
    info: DatasetInfo,
    statistics: DatasetInfo,
) -> Tensor:
    """The images, normalised with the statistics of their data set.

    Args:
        path: as the user named it.
        content: of the file; its shapes have been checked.
        settled: what holds: ``zca``, ``pixels``.
        info: of the data set.
        statistics: of the data set that normalised the images in the file.

    Raises:
        DataError: pixels are not finite, or not in the range they should be in.
    """
    stored = torch.cat([tensor.read() for tensor in content.images])
    bytes_ = stored.dtype == torch.uint8
    images = stored.to(torch.float32)
    if content.channels_last:
        images = images.permute(0, 3, 1, 2).contiguous()
    if not torch.isfinite(images).all():
        count = int((~torch.isfinite(images)).sum())
        raise DataError(
            f"{path}: {count} pixels are not finite (NaN or infinite); the set is "
            "damaged or its distillation diverged"
        )
    if settled["zca"]:
        return images
    if bytes_ or settled["pixels"]:
        pixels = images / 255 if bytes_ else images
        low, high = float(pixels.min()), float(pixels.max())
        if low < -_FAR or high > 1 + _FAR:
            raise DataError(
                f"{path}: pixels from {low:.3g} to {high:.3g}, not in [0, 1]; if the "
                "images are normalised, say so with --normalized"
            )
        return data.standardize(pixels, info)
    if (statistics.mean, statistics.std) == (info.mean, info.std):
        return images
    return data.standardize(data.denormalize(images, statistics), info)


def labels_of(
    path: Path, content: Content, count: int, info: DatasetInfo, use: str
) -> Tensor:
    """The labels as a matrix whose rows sum to 1.

    Args:
        path: as the user named it.
        content: of the file.
        count: of its images.
        info: of the data set.
        use: ``stored``, ``hard`` or ``softmax``: what to make of rows of numbers.

    Raises:
        DataError: they do not fit the images or the data set.
    """
    if not content.labels:
        if count % info.classes:
            raise DataError(
                f"{path}: {count} images without labels, which do not divide into the "
                f"{info.classes} classes of {info.name}; name the right data set with "
                "--dataset, or put labels beside the images (dcbench list formats)"
            )
        ordered = torch.arange(info.classes).repeat_interleave(count // info.classes)
        return F.one_hot(ordered, info.classes).to(torch.float32)
    shapes = {tensor.shape[1:] for tensor in content.labels}
    if sum(map(_count, content.labels)) != count or len(shapes) > 1:
        raise DataError(
            f"{path}: {count} images and {sum(map(_count, content.labels))} labels"
        )
    width = math.prod(shapes.pop())
    if width not in (1, info.classes) or len(content.labels[0].shape) > 2:
        raise DataError(
            f"{path}: labels of {width} classes, but {info.name} has {info.classes}; "
            "name the right data set with --dataset"
        )
    stored = torch.cat([tensor.read() for tensor in content.labels])
    if width == 1 and (stored.ndim == 1 or info.classes > 1):
        order = _order(path, content, info)
        return _hard(path, order(stored.reshape(-1)), info)
    return _soft(path, stored.to(torch.float32), use)


def _order(
    path: Path, content: Content, info: DatasetInfo
) -> Callable[[Tensor], Tensor]:
    """From the classes of the file to those of the data set."""
    names, known = content.class_names, info.class_names
    if not names:
        return lambda labels: labels
    if len(names) != info.classes:
        raise DataError(
            f"{path} has {len(names)} classes, but {info.name} has {info.classes}; "
            "name the right data set with --dataset"
        )
    if set(names) != set(known):  # numbered folders, or names of another kind
        return lambda labels: labels
    places = torch.tensor([known.index(name) for name in names])
    return lambda labels: places[labels]


def _hard(path: Path, stored: Tensor, info: DatasetInfo) -> Tensor:
    """One-hot rows of class indices."""
    indices = stored.to(torch.float64)
    known = stored.dtype in (*_INTEGERS, *_FLOATS)
    if not known or not (indices == indices.round()).all():
        raise DataError(f"{path}: labels that are no class indices")
    low, high = float(indices.min()), float(indices.max())
    if low < 0 or high >= info.classes:
        raise DataError(
            f"{path}: labels from {low:.0f} to {high:.0f}, but {info.name} has classes "
            f"0 to {info.classes - 1}; name the right data set with --dataset"
        )
    return F.one_hot(indices.long(), info.classes).to(torch.float32)


def _soft(path: Path, stored: Tensor, use: str) -> Tensor:
    """Rows that sum to 1."""
    if not torch.isfinite(stored).all():
        raise DataError(f"{path}: labels that are not finite")
    if use == "hard":
        return F.one_hot(stored.argmax(1), stored.shape[1]).to(torch.float32)
    if use == "softmax":
        return stored.softmax(1)
    off = float((stored.sum(1) - 1).abs().max())
    if off > 1e-3 or stored.min() < 0:
        raise DataError(
            f"{path}: rows of soft labels that are below zero or do not sum to 1 (off "
            f"by {off:.3g}); take their largest with --labels hard, or, if they are "
            "logits, --labels softmax"
        )
    return stored
