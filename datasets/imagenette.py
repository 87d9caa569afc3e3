"""ImageNette: ten easy classes of ImageNet, 9,469 photographs to train, 3,925 to test.

Its own tree (``imagenette2``, or ``imagenette2-320`` and ``-160`` with smaller images)
counts before that of ImageNet. The two are different data sets: the own tree is a new
division of all images, and that of ImageNet has 50 test images per class. Classes are
in the order of their WordNet ids, which is that of their indices in ImageNet.
"""

from pathlib import Path

from dcbench_bacon.api import LabelledFiles

from .imagenet import TREES, facts, files_of
from .imagenet import shorter as shorter

INFO = facts(
    "imagenette",
    "ImageNette",
    (
        *("tench", "English springer", "cassette player", "chain saw", "church"),
        *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
    ),
)
COUNTS = (9_469, 3_925)
CLASSES = (
    *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
    *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
)
OWN = ("imagenette2", "imagenette2-320", "imagenette2-160", "imagenette")


def fetch(root: Path) -> None:
    """Download and unpack the tree of full-size images."""
    from torchvision.datasets import Imagenette

    Imagenette(root, "train", "full", download=True)


def files(root: Path) -> tuple[LabelledFiles, LabelledFiles]:
    """Return the images of train and val."""
    return files_of(INFO.name, root, CLASSES, (*OWN, *TREES))
