"""SVHN: 32-pixel house numbers, 73,257 to train and 26,032 to test, no extra."""

from pathlib import Path

import numpy as np

from dcbench_bacon.api import DatasetInfo, RawSplit, damaged, locate

INFO = DatasetInfo(
    name="svhn",
    title="SVHN",
    classes=10,
    channels=3,
    size=32,
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    class_names=tuple("0123456789"),
)
COUNTS = (73_257, 26_032)
FILES = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}


def fetch(root: Path) -> None:
    """Download the files into torchvision's layout."""
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(root, split, download=True)


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode train and test."""
    train, test = (_read_mat(locate(INFO.name, root, path)) for path in FILES)
    return train, test


def _read_mat(path: Path) -> RawSplit:
    from scipy.io import loadmat

    with damaged(path):
        content = loadmat(path, variable_names=["X", "y"])
        labels = content["y"].reshape(-1).astype(np.int64)
        labels[labels == 10] = 0  # the files number the digit 0 as 10
        return RawSplit(content["X"].transpose(3, 2, 0, 1), labels)
