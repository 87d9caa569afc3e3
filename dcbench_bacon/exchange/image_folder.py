"""Image files in one folder per class, the layout of torchvision's ImageFolder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcbench_bacon.data.natural_order import visible_folders
from dcbench_bacon.data.transparency import opaque
from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.pickles.archives import damaged

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Pillow recognises formats by content, and passes some of them to other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_MOST_FILES = 1_000_000
_GREY = ("1", "L", "LA")


class ImageFiles:
    """Image files of one size as one tensor of bytes, decoded when it is read.

    Args:
        paths: the files; the first one gives the shape of all.
    """

    dtype = torch.uint8

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the header of the first file."""
        self.paths = paths
        with damaged(paths[0]), Image.open(paths[0], formats=_FORMATS) as first:
            self.mode = "L" if first.mode in _GREY else "RGB"
            self.size = first.size
        channels = len(self.mode)
        self.shape = (len(paths), channels, self.size[1], self.size[0])

    def read(self) -> Tensor:
        """Return the decoded files, of shape (n, c, h, w).

        Raises:
            DataError: a file is damaged or of another size.
        """
        images = np.empty(self.shape, np.uint8)
        for index, path in enumerate(self.paths):
            with damaged(path), Image.open(path, formats=_FORMATS) as image:
                if image.size != self.size:
                    raise DataError(
                        f"{path}: {image.size} pixels, {self.paths[0]} has {self.size}"
                    )
                pixels = np.asarray(opaque(image).convert(self.mode))
                images[index] = (
                    pixels if self.mode == "L" else pixels.transpose(2, 0, 1)
                )
        return torch.from_numpy(images)


def classes(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of every class folder, in the order of their names.

    Raises:
        DataError: there is no image, or there are more than a million.
    """
    with damaged(folder):
        found = {
            path.name: sorted(
                p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES
            )
            for path in visible_folders(folder.iterdir())
        }
    count = sum(map(len, found.values()))
    if not 0 < count <= _MOST_FILES:
        raise DataError(
            f"{folder}: {count} images in the folders of {len(found)} classes; a set "
            "is one folder per class, with images in it"
        )
    return found
