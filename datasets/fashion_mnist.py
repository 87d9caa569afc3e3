"""Fashion-MNIST: 28-pixel pictures of clothes, 60,000 to train and 10,000 to test."""

from pathlib import Path

from dcbench_bacon.api import DatasetInfo, RawSplit, locate

from .mnist import read_pairs

INFO = DatasetInfo(
    name="fashion_mnist",
    title="Fashion-MNIST",
    classes=10,
    channels=1,
    size=28,
    mean=(0.2861,),
    std=(0.3530,),
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)
COUNTS = (60_000, 10_000)
FILES = {
    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
# Debian's package dataset-fashion-mnist.
ELSEWHERE = (Path("/usr/share/datasets/fashion-mnist"),)


def fetch(root: Path) -> None:
    """Download the files into torchvision's layout."""
    from torchvision.datasets import FashionMNIST

    FashionMNIST(root, download=True)


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode train and test."""
    return read_pairs([locate(INFO.name, root, path, ELSEWHERE) for path in FILES])
