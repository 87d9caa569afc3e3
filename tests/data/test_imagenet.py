"""ImageNet and its parts, in the trees that people have."""

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from dataset_files import photograph, write_photographs
from scipy.io import savemat

from dcbench_bacon.data import loading
from dcbench_bacon.data.files.source_files import MissingDataError
from dcbench_bacon.errors import DataError
from dcbench_bacon.plugins import DATASETS

PARTS = ("imagenet10", "imagenet100", "imagenette", "imagewoof")
TEN = DATASETS.module("imagenet10").CLASSES


@pytest.fixture(autouse=True)
def _streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "0")
    monkeypatch.setenv("DCBENCH_WORKERS", "0")


def unsorted(tree: Path) -> list[tuple[str, str]]:
    """Move the images of val out of their folders; return name and class of each."""
    answers = []
    for number, path in enumerate(sorted((tree / "val").glob("*/*"), reverse=True)):
        name = f"ILSVRC2012_val_{number + 1:08}.JPEG"
        answers.append((name, path.parent.name))
        path.rename(tree / "val" / name)
    for folder in (tree / "val").glob("n*"):
        folder.rmdir()
    return answers


@pytest.mark.parametrize("name", PARTS)
def test_classes_are_in_the_order_of_the_literature(name: str) -> None:
    module: ModuleType = DATASETS.module(name)
    assert len(set(module.CLASSES)) == len(module.CLASSES) == module.INFO.classes
    official = DATASETS.module("imagenet").INFO.class_names
    assert set(module.INFO.class_names) <= set(official)
    if name == "imagenet100":
        assert module.CLASSES[:10] == TEN
        assert module.CLASSES[-1] == "n02090622"
    if name == "imagenette":  # by their indices in ImageNet
        indices = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
        assert module.INFO.class_names == tuple(official[index] for index in indices)


@pytest.mark.parametrize("kind", ["table", "meta.mat", "map_clsloc.txt"])
def test_an_unsorted_val_is_sorted_by_the_official_answers(
    tmp_path: Path, kind: str
) -> None:
    tree = tmp_path / ("ILSVRC/Data/CLS-LOC" if kind == "table" else "imagenet")
    others = ("n00000001", "n99999999")
    write_photographs(tree, (*TEN, *others), train=1, val=2)
    answers = unsorted(tree)
    if kind == "table":
        rows = [
            f"{name.removesuffix('.JPEG')},{wnid} 1 2 3 4" for name, wnid in answers
        ]
        table = tmp_path / "LOC_val_solution.csv"
        table.write_text("\n".join(["ImageId,PredictionString", *rows]))
    else:
        kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
        kit.mkdir(parents=True)
        numbers = {wnid: 100 + number for number, wnid in enumerate((*others, *TEN))}
        truth = kit / "ILSVRC2012_validation_ground_truth.txt"
        truth.write_text("\n".join(str(numbers[wnid]) for _, wnid in answers))
        if kind == "meta.mat":
            fields = [("ILSVRC2012_ID", "O"), ("WNID", "O")]
            synsets = np.array([(n, wnid) for wnid, n in numbers.items()], fields)
            savemat(kit / "meta.mat", {"synsets": synsets})
        else:
            lines = [f"{wnid} {number} a_name" for wnid, number in numbers.items()]
            (kit / kind).write_text("\n".join(lines))
    module = DATASETS.module("imagenet10")
    train, test = module.files(tmp_path)
    assert train.labels.tolist() == list(range(10))
    assert len(test) == 20
    for label, path in zip(test.labels, test.paths(), strict=True):
        assert (Path(path).name, TEN[label]) in answers
    loaded = loading.load("imagenet10@64", tmp_path)
    assert loaded.test.whole().shape == (20, 3, 64, 64)


def test_an_unsorted_val_without_answers_says_what_is_wanted(tmp_path: Path) -> None:
    tree = write_photographs(tmp_path / "imagenet", TEN, train=1, val=1)
    unsorted(tree)
    with pytest.raises(
        DataError, match=r"val: .*LOC_val_solution.csv.*into .*imagenet"
    ):
        loading.load("imagenet10", tmp_path)


def test_answers_of_another_number_are_refused(tmp_path: Path) -> None:
    tree = write_photographs(tmp_path / "imagenet", TEN, train=1, val=1)
    unsorted(tree)
    (tree / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n")
    (tree / "map_clsloc.txt").write_text("n1 1 a\n")
    with pytest.raises(DataError, match="2 lines for 10 images"):
        loading.load("imagenet10", tmp_path)


def test_missing_classes_are_a_missing_data_set(tmp_path: Path) -> None:
    write_photographs(tmp_path / "imagenet", TEN[:9], train=1, val=1)
    with pytest.raises(MissingDataError, match=r"its 10 class folders.*--data-root"):
        loading.load("imagenet10", tmp_path)
    with pytest.raises(DataError, match="9 class folders, not 1000"):
        loading.load("imagenet", tmp_path)


def test_the_own_tree_counts_before_that_of_imagenet(tmp_path: Path) -> None:
    classes = DATASETS.module("imagewoof").CLASSES
    write_photographs(tmp_path / "imagenet", classes, train=2, val=1)
    assert len(loading.load("imagewoof", tmp_path).train) == 20
    write_photographs(tmp_path / "imagewoof2-160", classes, train=1, val=1)
    assert len(loading.load("imagewoof", tmp_path).train) == 10


def test_a_thousand_classes_are_one_data_set(tmp_path: Path) -> None:
    picture = tmp_path / "one.JPEG"
    photograph(20, 16).save(picture)
    for split in ("train", "val"):
        for number in range(1000):
            folder = tmp_path / "imagenet" / split / f"n{number:08}"
            folder.mkdir(parents=True)
            os.link(picture, folder / "a.JPEG")
    loaded = loading.load("imagenet@16", tmp_path)
    assert loaded.train.labels.tolist() == list(range(1000))
    assert loaded.info.name == "imagenet@16"
    assert len(set(loaded.info.class_names)) == 1000
