"""Digits: scikit-learn's bundled 8-pixel handwritten digits, 1,442 and 355, offline."""

import importlib.util
from pathlib import Path

import numpy as np

from dcbench_bacon.api import DatasetInfo, RawSplit

INFO = DatasetInfo(
    name="digits",
    title="Digits",
    classes=10,
    channels=1,
    size=8,
    mean=(0.3052,),  # of the train split below, over all pixels
    std=(0.3760,),
    class_names=tuple("0123456789"),
)
COUNTS = (1_442, 355)


def sources(root: Path) -> list[Path]:
    """Return the bundled file, without importing scikit-learn, which takes a second."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    bundled = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return [bundled] if bundled.is_file() else []


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode the set; every fifth image of each class, in file order, is for test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    order = labels.argsort(kind="stable")
    counts = np.bincount(labels)
    ranks = np.empty_like(labels)
    ranks[order] = np.arange(len(labels)) - (counts.cumsum() - counts)[labels[order]]
    test = ranks % 5 == 4
    return RawSplit(images[~test], labels[~test]), RawSplit(images[test], labels[test])
