"""MNIST: 28-pixel handwritten digits, 60,000 to train and 10,000 to test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcbench_bacon.api import DatasetInfo, RawSplit, locate, opened

INFO = DatasetInfo(
    name="mnist",
    title="MNIST",
    classes=10,
    channels=1,
    size=28,
    mean=(0.1307,),
    std=(0.3081,),
    class_names=tuple("0123456789"),
)
COUNTS = (60_000, 10_000)
FILES = {
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def fetch(root: Path) -> None:
    """Download the files into torchvision's layout."""
    from torchvision.datasets import MNIST

    MNIST(root, download=True)


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode train and test."""
    return read_pairs([locate("mnist", root, path) for path in FILES])


def read_pairs(paths: Sequence[Path]) -> tuple[RawSplit, RawSplit]:
    """Decode images, labels, images, labels."""
    images, labels, test_images, test_labels = (
        _read_idx(path, dimensions)
        for path, dimensions in zip(paths, (3, 1, 3, 1), strict=True)
    )
    return (
        RawSplit(images[:, None], labels.astype(np.int64)),
        RawSplit(test_images[:, None], test_labels.astype(np.int64)),
    )


def _read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Decode one IDX file of bytes.

    torchvision's reader wants the unpacked file beside the packed one, which a
    read-only folder does not allow, and takes a file that is too long.
    """
    with opened(path) as file:
        content = file.read()
        if content[:4] != bytes((0, 0, 8, dimensions)):  # 8: unsigned bytes
            raise ValueError(f"not an IDX file of bytes in {dimensions} dimensions")
        shape = np.frombuffer(content, ">u4", dimensions, offset=4).astype(np.int64)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(
            shape
        )
