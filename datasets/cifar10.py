"""CIFAR-10: 32-pixel photographs of ten classes, 50,000 to train, 10,000 to test."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dcbench_bacon.api import DatasetInfo, RawSplit, locate, opened

INFO = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    classes=10,
    channels=3,
    size=32,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
)
COUNTS = (50_000, 10_000)
FILES = {
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
}


def fetch(root: Path) -> None:
    """Download and unpack the archive; torchvision checks its md5."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    archive = CIFAR10.filename
    download_and_extract_archive(CIFAR10.url, root, None, archive, CIFAR10.tgz_md5)


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode train and test."""
    *train, test = (locate(INFO.name, root, path) for path in FILES)
    return read_batches(train, "labels"), read_batches([test], "labels")


def read_batches(paths: Sequence[Path], key: str) -> RawSplit:
    """Decode batch files and join them."""
    batches = [_read_batch(path, key) for path in paths]
    return RawSplit(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )


def _read_batch(path: Path, key: str) -> RawSplit:
    with opened(path) as file:
        batch = _ArrayUnpickler(file, encoding="latin1").load()
        images = np.asarray(batch["data"])
        labels = np.asarray(batch[key])
        if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise ValueError(f"{images.dtype} images and {labels.dtype} labels")
        images = images.reshape(-1, 3, 32, 32)
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images and {labels.size} labels")
        return RawSplit(images, labels.astype(np.int64))


def _encode(text: str, encoding: str) -> bytes:
    """Return bytes as ``codecs.encode`` does, by which old pickles spell them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and built-in containers; a pickle can name anything else."""

    _reconstruct = np.empty(0).__reduce__()[0]
    _admitted: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every name that is not in the list."""
        if (module, name) not in self._admitted:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}")
        return self._admitted[module, name]
