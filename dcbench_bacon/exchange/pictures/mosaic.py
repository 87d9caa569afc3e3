"""The images of a synthetic set as one picture, with a row per class."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from dcbench_bacon.data import dataset
from dcbench_bacon.data.sets.synthetic_file import MOST_BYTES
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.schema import DatasetInfo


def mosaic(
    synthetic: SyntheticSet, info: DatasetInfo, classes: Sequence[int], columns: int
) -> npt.NDArray[np.uint8]:
    """Return the first images of classes on white, a row per class.

    Args:
        synthetic: the set, decoded or not. Whitened images are stretched to their own
            range, for they are no pixels.
        info: the facts of its data set.
        classes: the classes in the order of the rows.
        columns: the images per row. A class with fewer images leaves white places.

    Returns:
        Pixels from 0 to 255, of shape (height, width, 3).

    Raises:
        UsageError: the picture would need more memory than the largest set.
    """
    size, pitch = info.size, info.size + gap(info.size)
    if 3 * 4 * len(classes) * columns * pitch**2 > MOST_BYTES:
        raise UsageError(
            f"{len(classes)} rows of {columns} images of {size} pixels are too many "
            "for one picture; choose fewer with dcbench plot images --show-classes, "
            "or write the images with dcbench convert --to folder"
        )
    labels = synthetic.labels.detach().cpu().argmax(1)
    chosen = [(labels == label).nonzero()[:columns, 0] for label in classes]
    rows = torch.repeat_interleave(
        torch.arange(len(classes)), torch.tensor([len(images) for images in chosen])
    )
    places = torch.cat([torch.arange(len(images)) for images in chosen])
    tiles = torch.full((len(classes), columns, pitch, pitch, 3), 255, dtype=torch.uint8)
    colours = (_colours(synthetic, info, torch.cat(chosen)) * 255).round().byte()
    tiles[rows, places, :size, :size] = colours.permute(0, 2, 3, 1)
    whole = tiles.transpose(1, 2).reshape(len(classes) * pitch, columns * pitch, 3)
    gutter = pitch - size
    return whole[:-gutter, :-gutter].contiguous().numpy()


def gap(size: int) -> int:
    """Return the width of the white gap between two images, in their pixels."""
    return math.ceil(size / 16)


def most_per_class(synthetic: SyntheticSet) -> int:
    """Return the number of images of the class that has the most."""
    return int(torch.bincount(synthetic.labels.argmax(1)).max())


def _colours(
    synthetic: SyntheticSet, info: DatasetInfo, chosen: Tensor
) -> Float[Tensor, "n 3 h w"]:
    """Return some images to look at, with values in [0, 1]."""
    images = synthetic.images.detach().cpu()[chosen]
    if synthetic.provenance.get("zca") and len(images):
        low = images.amin((1, 2, 3), keepdim=True)
        span = images.amax((1, 2, 3), keepdim=True) - low
        pixels = (images - low) / span.clamp(min=1e-12)
    else:
        pixels = dataset.denormalize(images, info).clamp(0, 1)
    return pixels.expand(-1, 3, -1, -1)
