"""The images and labels of a foreign file, checked and converted to those of a set."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data import dataset
from dcbench_bacon.data.sets.class_order import Order, match
from dcbench_bacon.data.sets.synthetic_file import check_bytes
from dcbench_bacon.errors import DataError, Question, UnstatedError
from dcbench_bacon.exchange.interpretation.content import Content
from dcbench_bacon.exchange.pickles.archives import damaged
from dcbench_bacon.exchange.pickles.stored import TensorSource
from dcbench_bacon.schema import DatasetInfo

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_shapes(path: Path, content: Content, info: DatasetInfo) -> None:
    """Make sure that the images fit the data set, before any is read.

    Images of a grey data set may have three equal channels, or no axis of channels.

    Raises:
        DataError: their shape, type or number does not fit.
    """
    wanted = (info.channels, info.size, info.size)
    for tensor in content.images:
        if _channels_first(tensor.shape, content, info) is None:
            raise DataError(
                f"{path}: images of shape {tuple(tensor.shape)}, but {info.name} has "
                f"(n, {', '.join(map(str, wanted))}); name the right data set with "
                "--dataset or the right format with --from"
            )
        if tensor.dtype not in (*_FLOATS, torch.uint8):
            raise DataError(
                f"{path}: images of type {tensor.dtype}, which is no type of images; "
                "name another format with --from (dcbench list formats)"
            )
    count = sum(map(_count, content.images))
    if not count:
        raise DataError(f"{path} holds no image")
    with damaged(path):
        check_bytes((count, *wanted), (count, info.classes))


def _channels_first(
    shape: Sequence[int], content: Content, info: DatasetInfo
) -> bool | None:
    """Return whether channels come before height and width; None if nothing fits."""
    side = (info.size, info.size)
    channels = {info.channels, 3} if info.channels == 1 else {info.channels}
    if len(shape) == 3 and tuple(shape[1:]) == side and info.channels == 1:
        return True
    if len(shape) != 4:
        return None
    if tuple(shape[1:3]) == side and shape[3] in channels:
        # Images as small as their channels are many fit both ways.
        both = tuple(shape[2:]) == side and shape[1] in channels
        return both and not content.channels_last
    return True if tuple(shape[2:]) == side and shape[1] in channels else None


def _count(tensor: TensorSource) -> int:
    return tensor.shape[0] if tensor.shape else 0


def stored_images(path: Path, content: Content, info: DatasetInfo) -> Tensor:
    """Return the images as they are stored, (n, c, h, w) in float32.

    Args:
        path: the file as the user named it.
        content: the content of the file, whose shapes were checked.
        info: the facts of the data set.

    Raises:
        DataError: some pixels are not finite, or coloured where all should be grey.
    """
    images = torch.cat([tensor.read() for tensor in content.images]).to(torch.float32)
    if not _channels_first(images.shape, content, info):
        images = images.permute(0, 3, 1, 2).contiguous()
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.shape[1] > info.channels:
        if (images != images[:, :1]).any():
            raise DataError(
                f"{path}: images of three channels that differ, but those of "
                f"{info.name} are grey; convert them to grey, or name the right data "
                "set with --dataset"
            )
        images = images[:, :1].contiguous()
    if not torch.isfinite(images).all():
        count = int((~torch.isfinite(images)).sum())
        raise DataError(
            f"{path}: {count} pixels are not finite (NaN or infinite); the set is "
            "damaged or its distillation diverged"
        )
    return images


def normalised(
    images: Tensor, scale: str, info: DatasetInfo, statistics: DatasetInfo
) -> Tensor:
    """Return the images, normalised with the statistics of their data set.

    Args:
        images: the images as stored.
        scale: their scale, one of ``settling.SCALES``; whitened images stay as they
            are.
        info: the facts of the data set.
        statistics: the facts of the data set that normalised the images in the file.
    """
    if scale == "whitened":
        return images
    if scale.startswith("pixels"):
        pixels = images / 255 if scale == "pixels 0..255" else images
        return dataset.standardize(pixels, info)
    if (statistics.mean, statistics.std) == (info.mean, info.std):
        return images
    return dataset.standardize(dataset.denormalize(images, statistics), info)


class Labels(NamedTuple):
    """The labels of a set, and how they were read.

    Attributes:
        rows: labels of shape (n, k), whose rows sum to 1.
        kind: ``class order`` for images without labels, ``class indices``, or for rows
            of numbers ``stored``, ``hard`` or ``softmax``.
        order: the order of the classes.
    """

    rows: Tensor
    kind: str
    order: Order


@contextmanager
def noted(asked: list[Question]) -> Iterator[None]:
    """Add questions to a list, instead of raising an error that has them."""
    try:
        yield
    except UnstatedError as error:
        asked += error.questions


def labels_of(
    path: Path,
    content: Content,
    info: DatasetInfo,
    use: str,
    classes: Sequence[str] = (),
) -> Labels:
    """Return labels whose rows sum to 1, with columns in the data set's order.

    Args:
        path: the file as the user named it.
        content: the content of the file.
        info: the facts of the data set.
        use: how rows of numbers are used: ``stored``, ``hard`` or ``softmax``.
        classes: the order of the classes that the user states; see
            ``class_order.match``.

    Raises:
        DataError: the labels do not fit the images or the data set.
        UnstatedError: the order of the classes or the use of the rows is not known;
            it has the questions about both.
        UsageError: the order that the user states does not fit.
    """
    asked: list[Question] = []
    with noted(asked):
        order = match(path, content.class_names, info.class_names, classes)
    with noted(asked):
        count = len(content.class_names or info.class_names)
        rows, kind = _rows(path, content, info, use, count)
    if asked:
        raise UnstatedError(path, asked)
    placed = rows.new_zeros(len(rows), info.classes)
    placed[:, list(order.places)] = rows
    return Labels(placed, kind, order)


def _rows(
    path: Path, content: Content, info: DatasetInfo, use: str, classes: int
) -> tuple[Tensor, str]:
    """Return the labels with one column per class of the file, and their kind."""
    count = sum(map(_count, content.images))
    if not content.labels:
        if count % info.classes:
            raise DataError(
                f"{path}: {count} images without labels, which do not divide into the "
                f"{info.classes} classes of {info.name}; name the right data set with "
                "--dataset, or put labels beside the images (dcbench list formats)"
            )
        ordered = torch.arange(info.classes).repeat_interleave(count // info.classes)
        return F.one_hot(ordered, info.classes).to(torch.float32), "class order"
    shapes = {tensor.shape[1:] for tensor in content.labels}
    if sum(map(_count, content.labels)) != count or len(shapes) > 1:
        raise DataError(
            f"{path}: {count} images and {sum(map(_count, content.labels))} labels; "
            "each image needs one label"
        )
    width = math.prod(shapes.pop())
    if width not in (1, info.classes) or len(content.labels[0].shape) > 2:
        raise DataError(
            f"{path}: labels of {width} classes, but {info.name} has {info.classes}; "
            "name the right data set with --dataset"
        )
    stored = torch.cat([tensor.read() for tensor in content.labels])
    if width == 1 and (stored.ndim == 1 or info.classes > 1):
        return _hard(path, stored.reshape(-1), info, classes), "class indices"
    return _soft(path, stored.to(torch.float32), use), use


def _hard(path: Path, stored: Tensor, info: DatasetInfo, classes: int) -> Tensor:
    """Return one-hot rows for the indices of the file's classes."""
    indices = stored.to(torch.float64)
    known = stored.dtype in (*_INTEGERS, *_FLOATS)
    if not known or not (indices == indices.round()).all():
        raise DataError(
            f"{path}: its labels are no class indices, which are whole numbers from 0"
        )
    low, high = float(indices.min()), float(indices.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{path}: labels from {low:.0f} to {high:.0f}, but {info.name} has classes "
            f"0 to {info.classes - 1}; name the right data set with --dataset"
        )
    return F.one_hot(indices.long(), classes).to(torch.float32)


def _soft(path: Path, stored: Tensor, use: str) -> Tensor:
    """Return rows that sum to 1.

    Raises:
        DataError: the rows are not finite.
        UnstatedError: the rows are no probabilities, and their use is not stated.
    """
    if not torch.isfinite(stored).all():
        raise DataError(
            f"{path}: its labels are not finite (NaN or infinite); the set is damaged"
        )
    if use == "hard":
        return F.one_hot(stored.argmax(1), stored.shape[1]).to(torch.float32)
    if use == "softmax":
        return stored.softmax(1)
    off = float((stored.sum(1) - 1).abs().max())
    if off > 1e-3 or stored.min() < 0:
        raise UnstatedError(path, [_question(stored, off)])
    return stored


def _question(rows: Tensor, off: float) -> Question:
    """Return the question about rows that are no probabilities."""
    low, high = float(rows.min()), float(rows.max())
    return Question(
        "--labels softmax or hard",
        f"its rows of labels are no probabilities ({low:.3g} to {high:.3g}, sums off "
        f"by {off:.3g}): softmax if they are logits, hard for the largest of each",
        "--labels softmax" if low < 0 else "--labels hard",
    )
