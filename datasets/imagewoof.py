"""ImageWoof: ten breeds of dogs of ImageNet, 9,025 photographs to train, 3,929 to test.

Its own tree (``imagewoof2``, or ``imagewoof2-320`` and ``-160`` with smaller images)
counts before that of ImageNet, which has other test images. Classes are in the order of
their WordNet ids.
"""

from pathlib import Path

from dcbench_bacon.api import LabelledFiles

from .imagenet import TREES, facts, files_of
from .imagenet import shorter as shorter

INFO = facts(
    "imagewoof",
    "ImageWoof",
    (
        *("Shih-Tzu", "Rhodesian ridgeback", "beagle", "English foxhound"),
        *("Border terrier", "Australian terrier", "golden retriever"),
        *("Old English sheepdog", "Samoyed", "dingo"),
    ),
)
COUNTS = (9_025, 3_929)
CLASSES = (
    *("n02086240", "n02087394", "n02088364", "n02089973", "n02093754"),
    *("n02096294", "n02099601", "n02105641", "n02111889", "n02115641"),
)
OWN = ("imagewoof2", "imagewoof2-320", "imagewoof2-160", "imagewoof")


def files(root: Path) -> tuple[LabelledFiles, LabelledFiles]:
    """Return the images of train and val."""
    return files_of(INFO.name, root, CLASSES, (*OWN, *TREES))
