"""ImageNet-10: the first ten classes of ImageNet-100, from the tree of ImageNet.

The classes and their order are those of EDC's code (``dataset.py`` of ImageNet-10).
"""

from pathlib import Path

from dcbench_bacon.api import LabelledFiles

from .imagenet import TREES, facts, files_of
from .imagenet import shorter as shorter

INFO = facts(
    "imagenet10",
    "ImageNet-10",
    (
        *("bonnet", "green mamba", "langur", "Doberman", "gyromitra", "Saluki"),
        *("vacuum", "window screen", "cocktail shaker", "garden spider"),
    ),
)
CLASSES = (
    *("n02869837", "n01749939", "n02488291", "n02107142", "n13037406"),
    *("n02091831", "n04517823", "n04589890", "n03062245", "n01773797"),
)


def files(root: Path) -> tuple[LabelledFiles, LabelledFiles]:
    """Return the images of train and val."""
    return files_of(INFO.name, root, CLASSES, ("imagenet10", *TREES))
