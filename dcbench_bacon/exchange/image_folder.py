"""Image files in one folder per class, the layout of torchvision's ImageFolder."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcbench_bacon.data.files.image_files import check_depth, upright
from dcbench_bacon.data.files.natural_order import left_behind, visible_folders
from dcbench_bacon.data.files.transparency import opaque
from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.pickles.archives import damaged

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Pillow recognises formats by content, and passes some of them to other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_MOST_FILES = 1_000_000
_TINT = 16  # largest difference of channels, of 255, that JPEG gives grey pixels


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
            self.size = upright(first).size
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
            with damaged(path), Image.open(path, formats=_FORMATS) as stored:
                image = upright(stored)
                if image.size != self.size:
                    raise DataError(
                        f"{path}: {_shown(image.size)} pixels, but {self.paths[0]} has "
                        f"{_shown(self.size)}; make all images of a set one size"
                    )
                check_depth(image)
                colour = opaque(image).convert("RGB")
                pixels = np.asarray(colour).transpose(2, 0, 1)
                grey = np.asarray(colour.convert("L"))
            if self.shape[1] == 3:
                images[index] = pixels
                continue
            # Where the channels are equal, the grey level is that of each of them.
            if np.ptp(pixels.astype(np.int16), axis=0).max() > _TINT:
                raise DataError(
                    f"{path}: a coloured image, but the images of the data set are "
                    "grey; convert it to grey, or name the right data set with "
                    "--dataset"
                )
            images[index, 0] = grey
        return torch.from_numpy(images)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def classes(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of every class folder, in the order of their names.

    Raises:
        DataError: there is no image, or there are more than a million.
    """
    with damaged(folder):
        images = {
            path.name: sorted(
                p
                for p in path.iterdir()
                if p.suffix.lower() in _SUFFIXES and not left_behind(p.name)
            )
            for path in visible_folders(folder.iterdir())
        }
    count = sum(map(len, images.values()))
    if not 0 < count <= _MOST_FILES:
        raise DataError(
            f"{folder}: {count} images in the folders of {len(images)} classes; "
            f"{_where_images_are(folder)}"
        )
    return images


def _where_images_are(folder: Path) -> str:
    """Return what to give instead of a folder without images in class folders."""
    usual = "a set is one folder per class, with images in it"
    with suppress(OSError):
        inside = sorted(p for p in folder.iterdir() if not left_behind(p.name))
        if {"train", "test"} <= {p.name for p in inside}:
            return (
                "it has train/ and test/, as a data set has: give one of them as the "
                f"set, or the whole with --dataset folder:{folder}"
            )
        if any(p.suffix.lower() in _SUFFIXES for p in inside):
            return f"its images are in no class folders; {usual}"
        for depth in ("*/*/*", "*/*/*/*"):
            for path in folder.glob(depth):
                hidden = any(map(left_behind, path.relative_to(folder).parts))
                if path.suffix.lower() not in _SUFFIXES or hidden:
                    continue
                inner = path.parent.parent
                if len(visible_folders(folder.iterdir())) == 1:
                    return f"its class folders are in {inner}: give that folder"
                place = folder / path.relative_to(folder).parts[0]
                return (
                    f"images lie deeper, as {path} does: move them up into the class "
                    f"folder {place}"
                )
        files = [p.name for p in inside if p.is_file()]
        if files:
            return f"{usual}; it has files such as {files[0]}: give the file itself"
    return usual
