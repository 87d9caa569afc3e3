"""A picture of a synthetic set for a slide or a paper, with one named row per class."""

import math
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from dcbench_bacon.data import dataset
from dcbench_bacon.data.sets.synthetic_file import MOST_BYTES
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.schema import DatasetInfo

MOST_COLUMNS = 20
_SIDE = 0.55  # side of an image in inches
_TALLEST = 40.0  # largest height of the picture in inches
_DOTS = 200  # dots per inch
_MOST_ROWS = int(_TALLEST * _DOTS)  # most classes; more have less than a dot each


def draw(synthetic: SyntheticSet, info: DatasetInfo) -> bytes:
    """Draw the first images of every class.

    Args:
        synthetic: the set, decoded or not; whitened images are stretched to their own
            range.
        info: the facts of its data set.

    Returns:
        The content of a PNG file.

    Raises:
        UsageError: the set has too many classes, or too large ones, for one picture.
    """
    from matplotlib.figure import Figure  # only where a picture is drawn

    labels = synthetic.labels.argmax(1)
    most = int(torch.bincount(labels).max())
    columns = min(most, MOST_COLUMNS)
    _check_size(info, columns)
    mosaic = _mosaic(_pixels(synthetic, info), labels, info.classes, columns)
    side = min(_SIDE, _TALLEST / info.classes)
    pitch = info.size + _gap(info.size)
    height, width, _ = mosaic.shape
    figure = Figure((width * side / pitch, height * side / pitch))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(mosaic.numpy(), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    points = 72 * side  # a point is 1/72 inch
    style: dict[str, Any] = {"color": "#222222", "parse_math": False}
    for row, name in enumerate(info.class_names):
        middle = row * pitch + info.size / 2
        axes.annotate(
            name,
            (0, middle),
            (-0.2 * points, 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            fontsize=0.3 * points,
            **style,
        )
    shown = f"{most} images per class" if most > 1 else "1 image per class"
    shown += f", {columns} shown" if columns < most else ""
    shown += ", ZCA-whitened" if synthetic.provenance.get("zca") else ""
    axes.set_title(f"{info.title}, {shown}", loc="left", fontsize=12, **style)
    stream = BytesIO()
    figure.savefig(
        stream, format="png", dpi=_DOTS, facecolor="white", bbox_inches="tight"
    )
    return stream.getvalue()


def _check_size(info: DatasetInfo, columns: int) -> None:
    """Make sure that a picture needs no more memory than the largest set."""
    pitch = info.size + _gap(info.size)
    size = 3 * 4 * info.classes * columns * pitch**2
    if info.classes > _MOST_ROWS or size > MOST_BYTES:
        raise UsageError(
            f"--to picture: {info.classes} rows of {columns} images of {info.size} "
            "pixels are too many for one; choose --to folder"
        )


def _pixels(synthetic: SyntheticSet, info: DatasetInfo) -> Tensor:
    """Return images to look at, of shape (n, 3, h, w) in [0, 1]."""
    images = synthetic.images.detach().cpu()
    if synthetic.provenance.get("zca"):
        low = images.amin((1, 2, 3), keepdim=True)
        span = images.amax((1, 2, 3), keepdim=True) - low
        pixels = (images - low) / span.clamp(min=1e-12)
    else:
        pixels = dataset.denormalize(images, info).clamp(0, 1)
    return pixels.expand(-1, 3, -1, -1)


def _gap(size: int) -> int:
    """Return the width of the white gap between two images, in their pixels."""
    return math.ceil(size / 16)


def _mosaic(pixels: Tensor, labels: Tensor, classes: int, columns: int) -> Tensor:
    """Return all images on white, of shape (height, width, 3)."""
    size = pixels.shape[-1]
    pitch = size + _gap(size)
    mosaic = torch.ones(classes * pitch, columns * pitch, 3)
    seen = [0] * classes
    for image, label in zip(pixels, labels.tolist(), strict=True):
        column = seen[label]
        seen[label] += 1
        if column < columns:
            top, left = label * pitch, column * pitch
            mosaic[top : top + size, left : left + size] = image.permute(1, 2, 0)
    return mosaic[: -_gap(size), : -_gap(size)]
