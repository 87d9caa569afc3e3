"""Lists of image files with their labels, compact enough for millions of files."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dcbench_bacon.data.files.natural_order import left_behind
from dcbench_bacon.errors import DataError, reason_of


@dataclass(frozen=True, eq=False)
class LabelledFiles:
    """The image files of a split, in order.

    Attributes:
        folder: the folder that they are in.
        names: the path of each file under the folder, as bytes of the file system. One
            array takes a tenth of the memory of so many texts, and processes that are
            forked share it.
        labels: the class index of each file.
    """

    folder: Path
    names: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, folder: Path, files: Iterable[tuple[int, str]]) -> "LabelledFiles":
        """Return a list of class indices and paths under a folder."""
        pairs = list(files)
        names = np.array([os.fsencode(name) for _, name in pairs], np.bytes_)
        labels = np.array([label for label, _ in pairs], np.int64)
        return cls(folder, names, labels)

    @classmethod
    def of_classes(cls, folder: Path, classes: Sequence[str]) -> "LabelledFiles":
        """Return the image files in the folders of classes, in the order of both.

        Hidden files, what systems leave in folders and files whose suffix is no image
        format's are left out.

        Args:
            folder: the folder of a split.
            classes: the name of the folder of each class.

        Raises:
            DataError: a folder is missing, cannot be read or has no image.
        """
        suffixes = Image.registered_extensions()
        labelled: list[tuple[int, str]] = []
        for label, name in enumerate(classes):
            try:
                inside = sorted(entry.name for entry in os.scandir(folder / name))
            except OSError as error:
                raise DataError(
                    f"{folder / name} cannot be read: {reason_of(error)}"
                ) from error
            images = [
                (label, f"{name}/{file}")
                for file in inside
                if not left_behind(file) and Path(file).suffix.lower() in suffixes
            ]
            if not images:
                raise DataError(
                    f"no image in {folder / name}{deeper(folder / name)}; a data set "
                    "has train/CLASS/IMAGE and test/CLASS/IMAGE"
                )
            labelled += images
        return cls.of(folder, labelled)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.labels)

    def path(self, index: int) -> str:
        """Return the path of a file."""
        return f"{self.folder}/{os.fsdecode(self.names[index])}"

    def paths(self) -> list[str]:
        """Return the paths of all files."""
        return [self.path(index) for index in range(len(self))]

    def subset(
        self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]
    ) -> "LabelledFiles":
        """Return the list of some files, by their indices or by a mask."""
        return LabelledFiles(self.folder, self.names[index], self.labels[index])

    def spread(self, most: int) -> "LabelledFiles":
        """Return at most so many of the files, evenly spaced over the list."""
        count = min(len(self), most)
        return self.subset(np.arange(count) * len(self) // max(count, 1))

    @cached_property
    def sha256(self) -> str:
        """The hash of the name, label, size and time of the last change of each file.

        It is the same for a copy of the folder elsewhere that keeps times.

        Raises:
            DataError: a file cannot be read.
        """
        total = hashlib.sha256(self.names.tobytes() + self.labels.tobytes())
        for index in range(len(self)):
            path = self.path(index)
            try:
                status = os.stat(path)  # noqa: PTH116 - a Path object takes as long
            except OSError as error:
                raise DataError(f"{path} cannot be read: {reason_of(error)}") from error
            total.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        return total.hexdigest()


def deeper(folder: Path) -> str:
    """Return where the images of a class lie instead, as part of a sentence."""
    suffixes = Image.registered_extensions()
    for path in folder.glob("*/*"):
        if path.suffix.lower() in suffixes and not left_behind(path.name):
            return f" (they lie deeper, in {path.parent}: move them up)"
    return ""
