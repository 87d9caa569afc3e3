"""A synthetic set from tensors in memory: what they mean is settled, then checked."""

import logging
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.sets.class_counts import count
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.interpretation.channel_statistics import (
    not_normalised,
    pixel_fit,
)
from dcbench_bacon.exchange.interpretation.evidence import (
    OVERSHOOT,
    Evidence,
    measure,
)
from dcbench_bacon.exchange.interpretation.values import normalised
from dcbench_bacon.schema import Cell, DatasetInfo

logger = logging.getLogger(__name__)
METHOD = "tensors"
"""The entry of such a set's cell in the place of a method."""


def set_of(
    images: Any,
    labels: Any,
    info: DatasetInfo,
    *,
    pixels: bool | None = None,
    partition: int = 1,
    zca: bool = False,
    seed: int = 0,
) -> SyntheticSet:
    """Return a set of images and labels, after a warning of what they were taken for.

    Args:
        images: (n, c, h, w), uint8 pixels or floats; tensors or NumPy arrays.
        labels: class indices (n,), or rows of probabilities (n, classes).
        info: of the data set that they were made from.
        pixels: whether floats are pixels in [0, 1] or 0 to 255 and not normalised; by
            default told from their range.
        partition: each image holds ``partition**2`` smaller ones (IDM, BACON: 2).
        zca: whether the images are ZCA-whitened.
        seed: of the networks that judge the set.

    Raises:
        DataError: they do not fit each other or the data set; says the remedy.
    """
    given = torch.as_tensor(images).detach()
    _check_images(given, info)
    whole, values = given.dtype == torch.uint8, given.to(torch.float32)
    evidence = measure(values)
    scale = _scale(evidence, pixels, zca, whole=whole)
    _tell(evidence, scale, partition, info, told=whole or zca or pixels is not None)
    rows = _rows(torch.as_tensor(labels).detach().to(given.device), len(given), info)
    cell = Cell(METHOD, info.name, count(rows).ipc(info.classes), seed)
    provenance = {
        "cell": msgspec.to_builtins(cell),
        "dataset": msgspec.to_builtins(info),
        "zca": {"assumed": "MTT"} if zca else None,
        "learning_rate": None,
    }
    stored = normalised(values, scale, info, info)
    synthetic = SyntheticSet(stored, rows, partition, provenance)
    try:
        synthetic_file.check(synthetic)
    except ValueError as error:
        raise DataError(f"images and labels make no set: {error}") from error
    return synthetic


def _check_images(images: Tensor, info: DatasetInfo) -> None:
    """Make sure that images are those of a data set of such facts."""
    shape, wanted = tuple(images.shape), (info.channels, info.size, info.size)
    if len(shape) != 4 or shape[1:] != wanted:
        remedy = "name the data set that they were made from, or resize them"
        if len(shape) == 4 and (shape[3], *shape[1:3]) == wanted:
            remedy = "their channels come last; give images.permute(0, 3, 1, 2)"
        elif len(shape) == 3 and shape[1:] == wanted[1:] and info.channels == 1:
            remedy = "give images[:, None]"
        raise DataError(
            f"images of shape {shape}, but {info.name} has "
            f"(n, {', '.join(map(str, wanted))}); {remedy}"
        )
    if not len(images):
        raise DataError("no image was given; give at least one of each class")
    if images.dtype != torch.uint8 and not images.dtype.is_floating_point:
        raise DataError(
            f"images of type {images.dtype}; give images.to(torch.uint8) if they are "
            "pixels from 0 to 255"
        )
    if not torch.isfinite(images).all():
        raise DataError(
            "images that are not finite (NaN or infinite): their distillation has "
            "diverged; leave those images and their labels out"
        )


def _scale(evidence: Evidence, pixels: bool | None, zca: bool, *, whole: bool) -> str:
    """Return the scale of the values of the images.

    Raises:
        DataError: they cannot be what the user says.
    """
    seen = f"images with values {evidence.span}"
    if whole:
        if pixels is False or zca:
            raise DataError("images of type uint8 are pixels; leave out pixels and zca")
        return "pixels 0..255"
    if zca:
        if pixels:
            raise DataError("whitened images are no pixels; leave out pixels or zca")
        return "whitened"
    if pixels is None:
        return evidence.scale
    if not pixels:
        if not_normalised(evidence):
            raise DataError(
                f"{seen}, {evidence.moments} are not normalised; leave out "
                "pixels=False, and if they are pixels, clip them to 0 to 255"
            )
        return "normalised"
    if evidence.low >= -OVERSHOOT and evidence.high <= 1 + OVERSHOOT:
        return "pixels 0..1"
    if evidence.scale != "pixels 0..255" or evidence.high > 255 * (1 + OVERSHOOT):
        raise DataError(
            f"{seen} are no pixels in [0, 1] or 0 to 255; if they are normalised, say "
            "so with pixels=False"
        )
    return evidence.scale


def _tell(
    evidence: Evidence, scale: str, partition: int, info: DatasetInfo, *, told: bool
) -> None:
    """Warn of what was taken for granted, with the evidence and how to say it."""
    seen = f"values {evidence.span}, {evidence.moments}"
    if scale.startswith("pixels"):
        fit = pixel_fit(evidence, scale, info)
        if not fit.near:
            logger.warning("images taken as %s: %s", scale, fit.seen)
    if not told:
        other = "pixels=False" if scale.startswith("pixels") else "pixels=True"
        logger.warning("images taken as %s (%s); if not, say %s", scale, seen, other)
    if evidence.whitened and scale == "normalised":
        logger.warning("images look ZCA-whitened (%s); if so, say zca=True", seen)
    if partition == 1 and (evidence.partition or 1) > 1:
        logger.warning(
            "%s: each image may hold %d; if so, say partition=%d",
            evidence.seams,
            evidence.partition**2 if evidence.partition else 1,
            evidence.partition,
        )


def _rows(labels: Tensor, images: int, info: DatasetInfo) -> Tensor:
    """Return labels as they were given as rows (n, classes)."""
    shape = tuple(labels.shape)
    if shape[:1] != (images,):
        raise DataError(
            f"{images} images and labels of shape {shape}; give a label for each image"
        )
    whole = not (labels.dtype.is_floating_point or labels.is_complex())
    if len(shape) == 1:
        if not whole:
            raise DataError("labels (n,) must be class indices; give labels.long()")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= info.classes:
            raise DataError(
                f"labels from {low} to {high}, but {info.name} has classes 0 to "
                f"{info.classes - 1}; name the data set that they are of"
            )
        return F.one_hot(labels.long(), info.classes).to(torch.float32)
    if shape[1:] != (info.classes,):
        raise DataError(
            f"labels of shape {shape}, but {info.name} has {info.classes} classes; "
            "name the data set that they are of"
        )
    rows = labels.to(torch.float32)
    off = float((rows.sum(1) - 1).abs().max())
    if not off <= 1e-3 or rows.min() < 0:
        raise DataError(
            "rows of labels that are below zero or do not sum to 1; of logits give "
            "labels.softmax(1), for the largest alone labels.argmax(1)"
        )
    return rows
