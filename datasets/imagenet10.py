"""ImageNet-10: the first ten classes of ImageNet-100, from the tree of ImageNet.

The classes and their order are those of EDC's code (``dataset.py`` of ImageNet-10).
"""

from pathlib import Path

from dcbench_bacon.api import DatasetInfo, LabelledFiles

from .imagenet import MEAN, STD, TREES, files_of
from .imagenet import shorter as shorter

INFO = DatasetInfo(
    name="imagenet10",
    title="ImageNet-10",
    classes=10,
    channels=3,
    size=224,
    mean=MEAN,
    std=STD,
    class_names=(
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
