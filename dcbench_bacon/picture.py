"""A picture of a synthetic set for a slide or a paper: a row a class, named."""

import math
from io import BytesIO

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dcbench_bacon import data
from dcbench_bacon.schema import DatasetInfo
from dcbench_bacon.spec import SyntheticSet

MOST_COLUMNS = 20
_TALLEST = 40.0  # inches
_DOTS = 200  # per inch


def draw(synthetic: SyntheticSet, info: DatasetInfo) -> bytes:
    """Draws the first images of every class.

    Args:
        synthetic: decoded or not; whitened images are stretched to their own range.
        info: of its data set.

    Returns:
        The content of a PNG file.
    """
    labels = synthetic.labels.argmax(1)
    most = int(torch.bincount(labels).max())
    columns = min(most, MOST_COLUMNS)
    mosaic = _mosaic(_pixels(synthetic, info), labels, info.classes, columns)
    pitch = info.size + _gap(info.size)
    inches = min(0.55, _TALLEST / info.classes)
    margin = 0.09 * inches / 0.55 * max(map(len, info.class_names)) + 0.1
    figure = Figure((margin + columns * inches + 0.1, info.classes * inches + 0.5))
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (
            margin / width,
            0.1 / height,
            columns * inches / width,
            info.classes * inches / height,
        )
    )
    axes.imshow(mosaic.numpy(), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for row, name in enumerate(info.class_names):
        axes.text(
            -pitch * 0.12,
            (row + 0.5) * pitch,
            name,
            ha="right",
            va="center",
            fontsize=14 * inches / 0.55,
            parse_math=False,
        )
    shown = f"{most} images per class" if most > 1 else "1 image per class"
    shown += f", the first {columns} shown" if columns < most else ""
    figure.text(
        margin / width,
        1 - 0.12 / height,
        f"{info.title}, {shown}",
        va="top",
        fontsize=11,
        color="#555555",
        parse_math=False,
    )
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=_DOTS, facecolor="white")
    return stream.getvalue()


def _pixels(synthetic: SyntheticSet, info: DatasetInfo) -> Tensor:
    """Images to look at: (n, 3, h, w) in [0, 1]."""
    images = synthetic.images.detach().cpu()
    if synthetic.provenance.get("zca"):
        low = images.amin((1, 2, 3), keepdim=True)
        span = images.amax((1, 2, 3), keepdim=True) - low
        pixels = (images - low) / span.clamp(min=1e-12)
    else:
        pixels = data.denormalize(images, info).clamp(0, 1)
    return pixels.expand(-1, 3, -1, -1)


def _gap(size: int) -> int:
    """White between two images, in their pixels."""
    return math.ceil(size / 16)


def _mosaic(pixels: Tensor, labels: Tensor, classes: int, columns: int) -> Tensor:
    """All images on white: (height, width, 3)."""
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
    return mosaic
