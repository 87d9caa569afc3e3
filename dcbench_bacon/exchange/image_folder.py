"""Image files in one folder per class, the layout of torchvision's ImageFolder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcbench_bacon.data.image_files import check_depth
from dcbench_bacon.data.natural_order import visible_folders
from dcbench_bacon.data.transparency import opaque
from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.pickles.archives import damaged

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Pillow recognises formats by content, and passes some of them to other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_MOST_FILES = 1_000_000


class ImageFiles:
    """Image files of one size as one tensor of bytes, decoded when it is read.

    Args:
        paths: the files; the first one gives the size of all.
        channels: 3, or 1 if all images are grey.
    """

    dtype = torch.uint8

    def __init__(self, paths: Sequence[Path], channels: int = 3) -> None:
        """Read the header of the first file."""
        self.paths = paths
        with damaged(paths[0]), Image.open(paths[0], formats=_FORMATS) as first:
            self.size = first.size
        self.shape = (len(paths), channels, self.size[1], self.size[0])

    def in_channels(self, channels: int) -> "ImageFiles":
        """Return the files, decoded to the channels of a data set: 1, otherwise 3."""
        return ImageFiles(self.paths, 1 if channels == 1 else 3)

    def read(self) -> Tensor:
        """Return the decoded files, of shape (n, c, h, w).

        Raises:
            DataError: a file is damaged, of another size, of more than 8 bits per
                channel, or coloured where all should be grey.
        """
        images = np.empty(self.shape, np.uint8)
        for index, path in enumerate(self.paths):
            with damaged(path), Image.open(path, formats=_FORMATS) as image:
                if image.size != self.size:
                    raise DataError(
                        f"{path}: {image.size} pixels, {self.paths[0]} has {self.size}"
                    )
                check_depth(image)
                pixels = np.asarray(opaque(image).convert("RGB")).transpose(2, 0, 1)
            if self.shape[1] == 1 and (pixels != pixels[:1]).any():
                raise DataError(
                    f"{path}: a coloured image, but the images of the data set are "
                    "grey; name the right data set with --dataset"
                )
            images[index] = pixels[: self.shape[1]]
        return torch.from_numpy(images)


def classes(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of every class folder, in the order of their names.

    Raises:
        DataError: there is no image, or there are more than a million.
    """
    with damaged(folder):
        images = {
            path.name: sorted(
                p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES
            )
            for path in visible_folders(folder.iterdir())
        }
    count = sum(map(len, images.values()))
    if not 0 < count <= _MOST_FILES:
        raise DataError(
            f"{folder}: {count} images in the folders of {len(images)} classes; a set "
            "is one folder per class, with images in it"
        )
    return images
