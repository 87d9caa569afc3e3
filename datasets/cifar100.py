"""CIFAR-100: 32-pixel photographs of a hundred classes, 500 and 100 of each."""

from pathlib import Path

from dcbench_bacon.api import DatasetInfo, RawSplit, locate

from .cifar10 import read_batches

_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""  # the fine labels
INFO = DatasetInfo(
    name="cifar100",
    title="CIFAR-100",
    classes=100,
    channels=3,
    size=32,
    mean=(0.5071, 0.4866, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    class_names=tuple(name.replace("_", " ") for name in _NAMES.split()),
)
COUNTS = (50_000, 10_000)
FILES = {
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}


def fetch(root: Path) -> None:
    """Download and unpack the archive; torchvision checks its md5."""
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import download_and_extract_archive

    archive = CIFAR100.filename
    download_and_extract_archive(CIFAR100.url, root, None, archive, CIFAR100.tgz_md5)


def read(root: Path) -> tuple[RawSplit, RawSplit]:
    """Decode train and test."""
    train, test = (locate(INFO.name, root, path) for path in FILES)
    return read_batches([train], "fine_labels"), read_batches([test], "fine_labels")
