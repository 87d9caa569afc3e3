"""Classes of a file and of a data set are paired by name or number, never by luck."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from commandline import invoke
from PIL import Image
from torch import Tensor

from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import denormalize
from dcbench_bacon.data.sets.class_order import match
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UnstatedError, UsageError
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions, stated_classes
from dcbench_bacon.running import saved_sets
from dcbench_bacon.schema import Cell

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
HERE = Path("set")


def pictures(root: Path, names: list[str]) -> Path:
    """A folder for each name, with one image whose shade is the place in the list."""
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("L", (8, 8), 20 * shade).save(root / name / "a.png")
    return root


def right(found: SyntheticSet) -> Tensor:
    """Which images have the label that their shade says."""
    info = adopt.facts("digits", None)
    shades = denormalize(found.images, info)[:, 0, 0, 0] * 255 / 20
    return shades.round().long() == found.labels.argmax(1)


@pytest.mark.parametrize(
    "names",
    [
        WORDS,
        [word.title() for word in WORDS],
        [f"{number:03}" for number in range(10)],
        [str(number) for number in range(10)],
    ],
)
def test_folders_of_digits_have_their_labels(
    names: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By position only 1 of 10 of the words would: 10.7 % instead of 76.1."""
    path = pictures(tmp_path / "set", names)
    assert right(adopt.read(path, ReadingOptions(dataset="digits"))).all()
    assert f"{names[0]} = 0" in caplog.text


def test_numbered_classes_sort_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels 0 to 11 of a tensor against folders 0 to 11: 100 % instead of 16.7."""
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))
    names = [str(number) for number in range(12)]
    for split in ("train", "test"):
        pictures(tmp_path / "twelve" / split, names)
    dataset = loading.load(f"folder:{tmp_path / 'twelve'}")
    assert dataset.info.class_names == tuple(names)
    for part in (dataset.train, dataset.test):
        assert torch.equal(part.images[:, 0, 0, 0].long() // 20, part.labels)


@pytest.mark.parametrize(
    ("template", "shown", "doubt"),
    [
        ("class{}", "0 = class0, 1 = class1, 2 = class10", "doubtful"),
        ("{}", "0 = 0, 1 = 1, 2 = 2", "doubtful"),
        ("c{:02}", "0 = c00, 1 = c01, 2 = c02", "likely"),
    ],
)
def test_numbers_for_folders_are_told(
    template: str,
    shown: str,
    doubt: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Labels of a tensor count folders, whose order is another one in some tools."""
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))
    for split in ("train", "test"):
        names = [template.format(number) for number in range(12)]
        pictures(tmp_path / "twelve" / split, names)
    values = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.save([values, torch.arange(12)], tmp_path / "a.pt")
    name = f"folder:{tmp_path / 'twelve'}"
    adopt.read(tmp_path / "a.pt", ReadingOptions(dataset=name))
    told = " ".join(caplog.text.split())
    assert f"classes in order: {doubt} ({shown}" in told
    caplog.clear()
    adopt.read(tmp_path / "a.pt", ReadingOptions(dataset=name, classes=("order",)))
    assert "classes in order" not in caplog.text


def test_names_are_matched_whatever_their_spelling() -> None:
    names = ["Truck", "PLANE", "Car", "bird", "cat", "deer", "dog", "frog", "horse"]
    order = match(HERE, [*names, "ship"], CIFAR10)
    assert order.places == (9, 0, 1, 2, 3, 4, 5, 6, 7, 8)
    assert order.how == "by name"
    fashion = adopt.facts("fashion_mnist", None).class_names
    assert match(HERE, ["ankle-boot", "t_shirt_top"], fashion).places == (9, 0)


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["auto", "car"], ("auto", "car")),
        (["Car", "auto"], ("auto", "car")),
        (["7", "seven"], ("seven", "7")),
        (["a-b", "ab"], ("ab", "a-b")),
    ],
)
def test_names_that_are_one_word_are_told_apart_if_they_can_be(
    names: list[str], known: tuple[str, ...]
) -> None:
    places = match(HERE, names, known).places
    assert [known[place] for place in places] == [name.lower() for name in names]


def test_own_sets_keep_their_classes_in_another_order() -> None:
    """By position every class would have the images of another one."""
    loaded = loading.load("digits")
    info = loaded.info
    back = msgspec.structs.replace(info, class_names=info.class_names[::-1])
    other = msgspec.structs.replace(
        info, class_names=tuple(f"class{i}" for i in range(10))
    )
    cell = Cell("dm", "digits", 1, 0)
    synthetic = SyntheticSet(torch.zeros(10, 1, 8, 8), torch.eye(10), 1, {})
    found = saved_sets.beside("a", synthetic, cell, back, loaded).synthetic
    assert torch.equal(found.labels, torch.eye(10).flip(1))
    with pytest.raises(DataError, match=r"classes are not those.*--dataset"):
        saved_sets.beside("a", synthetic, cell, other, loaded)


def test_a_class_may_be_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = adopt.read(pictures(tmp_path, WORDS[:9]), ReadingOptions(dataset="digits"))
    assert right(found).all()
    assert found.labels.shape == (9, 10)


@pytest.mark.parametrize(
    "names",
    [
        [f"class{number}" for number in range(10)],
        [f"new{number:03}" for number in range(10)],
        [*WORDS[:9], "ten"],
    ],
)
def test_other_names_want_the_option(names: list[str], tmp_path: Path) -> None:
    path = pictures(tmp_path / "set", names)
    with pytest.raises(UnstatedError, match="--classes"):
        adopt.read(path, ReadingOptions(dataset="digits"))
    order = sorted(names)
    stated = tuple(str(names.index(name)) for name in order)
    assert right(
        adopt.read(path, ReadingOptions(dataset="digits", classes=stated))
    ).all()


def test_numbers_of_classes_with_names_want_the_option() -> None:
    numbers = [f"{number:05}" for number in range(10)]
    with pytest.raises(UnstatedError, match="--classes index"):
        match(HERE, numbers, CIFAR10)
    back = match(HERE, numbers[::-1], CIFAR10, ("index",))
    assert back.places == (*range(9, -1, -1),)
    wordnet = ["n01443537", *[f"n0162955{i}" for i in range(9)]]
    assert match(HERE, wordnet, CIFAR10, ("order",)).places == (*range(10),)
    with pytest.raises(UsageError, match="no number from 0 to 9"):
        match(HERE, wordnet, CIFAR10, ("index",))
    with pytest.raises(UsageError, match="names 2 classes"):
        match(HERE, wordnet, CIFAR10, ("cat", "dog"))
    with pytest.raises(DataError, match="two of its classes"):
        match(HERE, ["a", "b"], CIFAR10, ("car", "automobile"))


def test_the_option_moves_the_columns_of_any_labels(tmp_path: Path) -> None:
    rows = torch.eye(10)
    values = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "a.npz", images=values.numpy(), labels=rows.numpy())
    stated = tuple(WORDS[::-1])
    found = adopt.read(
        tmp_path / "a.npz", ReadingOptions(dataset="digits", classes=stated, zca=False)
    )
    assert torch.equal(found.labels, rows.flip(1))
    reading = found.provenance["source"]["reading"]
    assert reading["classes"] == ",".join(map(str, range(9, -1, -1)))


def test_names_come_from_a_list_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("plane\n car \n\nbird\n")
    assert stated_classes(str(tmp_path / "names.txt")) == ("plane", "car", "bird")
    assert stated_classes("plane, car,bird") == ("plane", "car", "bird")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\0")
    refused = invoke("evaluate", "a.pt", "--classes", tmp_path / "bytes")
    assert refused.exit_code == 2
    assert "--classes" in refused.stderr
