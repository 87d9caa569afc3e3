"""ImageNet-1k: photographs of 1,000 classes in the official tree; test is val.

The tree is ``train/`` and ``val/`` in a folder ``imagenet`` (or ``ILSVRC2012``, or
Kaggle's ``ILSVRC/Data/CLS-LOC``), or in the folder of data sets itself. The images of
``val`` are in a folder per class, or directly in ``val`` beside the official answers:

- Kaggle's ``LOC_val_solution.csv``, or
- ``ILSVRC2012_validation_ground_truth.txt`` of the development kit, with its numbers of
  classes in ``meta.mat`` or in a text file of lines ``n02119789 1 kit_fox``
  (``map_clsloc.txt``, ``synset_mapping.txt``).

From 224 pixels on, the shorter side is resized to 8/7 of the size (256 for 224) before
the middle is cut out, as RDED, SRe2L, G-VBSM and EDC test. For smaller sizes it is
resized to the size itself, as matching methods do (MTT). Images are turned as their
EXIF data say, which torchvision's loader does not do.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchvision.models import ResNet18_Weights

from dcbench_bacon.api import (
    DataError,
    DatasetInfo,
    LabelledFiles,
    MissingDataError,
    damaged,
    visible_folders,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def facts(name: str, title: str, class_names: Sequence[str]) -> DatasetInfo:
    """Return the facts of ImageNet or a part of it, with the statistics of all of it.

    Args:
        name: the name that users type.
        title: the name that tables print.
        class_names: the names of the classes, in the order of the labels.
    """
    return DatasetInfo(
        name=name,
        title=title,
        classes=len(class_names),
        channels=3,
        size=224,
        mean=MEAN,
        std=STD,
        class_names=tuple(class_names),
    )


INFO = facts("imagenet", "ImageNet-1k", ResNet18_Weights.DEFAULT.meta["categories"])
COUNTS = (1_281_167, 50_000)
TREES = ("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", "")
_ANSWERS = "LOC_val_solution.csv"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_NUMBERS = ("meta.mat", "map_clsloc.txt", "synset_mapping.txt")
_KITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", "")


def shorter(size: int) -> int:
    """Return the length to which the shorter side is resized for a size in pixels."""
    return size // 7 * 8 if size >= 224 else size


def files(root: Path) -> tuple[LabelledFiles, LabelledFiles]:
    """Return the images of train and val; the classes are the folders of train."""
    tree = _tree(INFO.name, root, TREES)
    classes = [folder.name for folder in visible_folders((tree / "train").iterdir())]
    if len(classes) != INFO.classes:
        raise DataError(
            f"{tree / 'train'} has {len(classes)} class folders, not {INFO.classes}; "
            "unpack all of ILSVRC2012_img_train.tar, or give folder:PATH for other "
            "classes"
        )
    return _split(root, tree, classes)


def files_of(
    name: str, root: Path, classes: Sequence[str], trees: Sequence[str] = TREES
) -> tuple[LabelledFiles, LabelledFiles]:
    """Return the images of some classes of ImageNet.

    Args:
        name: the data set, for messages.
        root: the folder of data sets.
        classes: the WordNet ids of the classes, in the order of the labels.
        trees: the folders under ``root`` that may have ``train`` and ``val``; the first
            that has all the classes counts.

    Raises:
        MissingDataError: no folder has the classes.
    """
    return _split(root, _tree(name, root, trees, classes), classes)


def _tree(
    name: str, root: Path, trees: Sequence[str], classes: Sequence[str] = ()
) -> Path:
    """Return the folder with train and val, where train has the classes."""
    for tree in trees:
        train = root / tree / "train"
        there = train.is_dir() and (root / tree / "val").is_dir()
        if there and all((train / wnid).is_dir() for wnid in classes):
            return root / tree
    looked = ", ".join(tree or "the folder itself" for tree in trees)
    raise MissingDataError(
        f"{name}: no train/ and val/ with its {len(classes) or INFO.classes} class "
        f"folders; put the tree under {root} (--data-root or DCBENCH_DATA), as one of: "
        f"{looked}"
    )


def _split(
    root: Path, tree: Path, classes: Sequence[str]
) -> tuple[LabelledFiles, LabelledFiles]:
    train = LabelledFiles.of_classes(tree / "train", classes)
    val = tree / "val"
    if (val / classes[0]).is_dir():
        return train, LabelledFiles.of_classes(val, classes)
    label = {wnid: index for index, wnid in enumerate(classes)}
    answers = _answers(val, [root, tree, *tree.parents[:3]])
    known = [(label[wnid], name) for name, wnid in answers if wnid in label]
    test = LabelledFiles.of(val, known)
    if set(test.labels.tolist()) != set(range(len(classes))):
        raise DataError(f"{val} lacks images of a class; unpack all of it again")
    return train, test


def _answers(val: Path, places: Iterable[Path]) -> list[tuple[str, str]]:
    """Return the name and the WordNet id of each image of an unsorted ``val``.

    Raises:
        DataError: the official answers are missing, or do not fit the images.
    """
    names = sorted(path.name for path in val.glob("*.JPEG"))
    for place in dict.fromkeys(places):
        if (table := place / _ANSWERS).is_file():
            return _from_table(table, names)
        for kit in _KITS:
            truth = place / kit / _TRUTH
            numbers = [truth.with_name(name) for name in _NUMBERS]
            for path in filter(Path.is_file, numbers if truth.is_file() else []):
                return _from_kit(truth, path, names)
    raise DataError(
        f"{val}: its images are not in class folders, and nothing beside them says "
        f"their classes; put {_ANSWERS}, or {_TRUTH} with {' or '.join(_NUMBERS)}, "
        f"into {val.parent}"
    )


def _from_table(path: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the answers of Kaggle's table."""
    with damaged(path), path.open(newline="") as file:
        rows = csv.DictReader(file)
        answers = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        return [(name, answers[Path(name).stem]) for name in names]


def _from_kit(
    truth: Path, numbers: Path, names: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the answers of the development kit, whose lines are in order of names."""
    with damaged(truth):
        lines = [int(line) for line in truth.read_text().split()]
        if len(lines) != len(names):
            raise ValueError(f"{len(lines)} lines for {len(names)} images in val")
    with damaged(numbers):
        wnid = _numbers(numbers)
        return [(name, wnid[line]) for name, line in zip(names, lines, strict=True)]


def _numbers(path: Path) -> dict[int, str]:
    """Return the WordNet id of each number of the development kit."""
    if path.suffix != ".mat":
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
        return {int(row[1]): row[0] for row in rows}
    from scipy.io import loadmat

    synsets = loadmat(path, squeeze_me=True, variable_names=["synsets"])["synsets"]
    return {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
