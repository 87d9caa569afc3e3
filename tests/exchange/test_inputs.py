"""A table of inputs as people have them, and what ``adopt.read`` gives for each.

The table in docs/formats.md lists the same kinds. Each entry makes a file or a folder;
the words are part of the message, or None if the set is read.
"""

import argparse
import gzip
import json
import logging
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import foreign_files as files
import numpy as np
import pytest
import torch
from foreign_files import images, labels
from PIL import ExifTags, Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DcbenchError
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions

LFS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0\n"
    b"size 12345\n"
)
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>GitHub</title></head></html>"


class Case(NamedTuple):
    """A kind of input.

    Attributes:
        make: makes the input in a folder and returns its path.
        words: part of the message that refuses it; None if it is read.
    """

    make: Callable[[Path], Path]
    words: str | None = None


def saved(name: str, value: Any, **options: Any) -> Callable[[Path], Path]:
    """Return a maker of a file of ``torch.save``."""

    def make(root: Path) -> Path:
        torch.save(value, root / name, **options)
        return root / name

    return make


def pickled(name: str, value: Any, protocol: int = 4) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        (root / name).write_bytes(pickle.dumps(value, protocol=protocol))
        return root / name

    return make


def content(name: str, value: bytes) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        (root / name).write_bytes(value)
        return root / name

    return make


def arrays(name: str, labels_name: str | None) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        np.save(root / name, images().numpy())
        if labels_name:
            np.save(root / labels_name, labels().numpy())
        return root / name

    return make


def npz(**named: Any) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        np.savez(root / "a.npz", **named)
        return root / "a.npz"

    return make


def tensors(**named: torch.Tensor) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        save_file(named, root / "a.safetensors")
        return root / "a.safetensors"

    return make


def of_objects(root: Path) -> Path:
    np.save(root / "a.npy", np.array([{}], object), allow_pickle=True)
    return root / "a.npy"


def pictures(
    change: Callable[[Path], Path | None] = lambda path: None, mode: str = "L"
) -> Callable[[Path], Path]:
    """Return a maker of class folders, which are changed afterwards."""

    def make(root: Path) -> Path:
        path = files.folder(root / "set")
        if mode != "L":
            for file in path.glob("*/*.png"):
                Image.open(file).convert(mode).save(file)
        return change(path) or path

    return make


def litter(path: Path) -> None:
    """What macOS, Windows, Synology and Linux leave behind."""
    (path / ".DS_Store").write_bytes(b"\0")
    (path / "Thumbs.db").write_bytes(b"\0")
    (path / "desktop.ini").write_text("[.ShellClassInfo]")
    for name in ("__MACOSX", "@eaDir", "System Volume Information", "$RECYCLE.BIN"):
        (path / name).mkdir()
        (path / name / "a.png").write_bytes(b"no picture")
    for folder in path.glob("0*"):
        (folder / "._0.png").write_bytes(b"\0\5\26\7")
        (folder / "Thumbs.db").write_bytes(b"\0")


def nested(path: Path) -> Path:
    """An archive unpacked into a folder of its own name."""
    outer = path.parent / "outer"
    outer.mkdir()
    shutil.move(path, outer / "set")
    return outer


def deeper(path: Path) -> None:
    """One more level below the classes, as in archives of ImageNet."""
    for folder in list(path.iterdir()):
        (folder / "images").mkdir()
        for file in list(folder.glob("*.png")):
            shutil.move(file, folder / "images" / file.name)


def splits(path: Path) -> Path:
    """A data set instead of a set."""
    outer = path.parent / "whole"
    for split in ("train", "test"):
        shutil.copytree(path, outer / split)
    return outer


def flat(path: Path) -> Path:
    """All pictures in one folder."""
    outer = path.parent / "flat"
    outer.mkdir()
    for file in path.glob("*/*.png"):
        shutil.copy(file, outer / file.name)
    return outer


def first(path: Path) -> Path:
    return min(path.glob("*/*.png"))


def replaced(
    save: Callable[[Path], object], which: Callable[..., Path] = min
) -> Callable[[Path], None]:
    """Return a change of one picture, by default the first."""

    def change(path: Path) -> None:
        save(which(path.glob("*/*.png")))

    return change


def turned(path: Path) -> None:
    """A photograph that its camera stored lying on its side."""
    image = Image.open(path).copy()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def archived(root: Path) -> Path:
    path = files.tuple_(root / "inner.pt")
    with tarfile.open(root / "a.tar", "w") as archive:
        archive.add(path, "inner.pt")
    return root / "a.tar"


def zipped(root: Path) -> Path:
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.write(files.tuple_(root / "inner.pt"), "inner.pt")
    return root / "a.zip"


def compressed(root: Path) -> Path:
    whole = files.tuple_(root / "inner.pt").read_bytes()
    (root / "a.pt.gz").write_bytes(gzip.compress(whole))
    return root / "a.pt.gz"


def cut(root: Path) -> Path:
    path = files.tuple_(root / "a.pt")
    path.write_bytes(path.read_bytes()[:-500])
    return path


def missing(root: Path) -> Path:
    return root / "nothing.pt"


def named(name: str) -> Callable[[Path], Path]:
    """Return a maker of a good file in a folder of a name, with that name."""

    def make(root: Path) -> Path:
        folder = root / name
        folder.mkdir()
        return files.tuple_(folder / f"{name}.pt")

    return make


PAIR = {"images": images(), "labels": labels()}
NUMPY = {key: value.numpy() for key, value in PAIR.items()}
OPTIONS = argparse.Namespace(lr=0.1, dataset="digits", device=torch.device("cuda:0"))
BYTES = (images().sigmoid() * 255).to(torch.uint8)
LAST = images().permute(0, 2, 3, 1)
CASES = {
    # Shapes of files that people save.
    "dictionary of images and labels": Case(saved("a.pt", PAIR)),
    "dictionary of data and labels": Case(
        saved("a.pt", {"data": images(), "labels": labels()})
    ),
    "dictionary of x and y": Case(saved("a.pt", {"x": images(), "y": labels()})),
    "dictionary of Images and Targets": Case(
        saved("a.pt", {"Images": images(), "Targets": labels()})
    ),
    "dictionary with a list of labels": Case(
        saved("a.pt", {"images": images(), "labels": labels().tolist()})
    ),
    "dictionary beside options": Case(saved("a.pt", {**PAIR, "args": OPTIONS})),
    "dictionary, pickled by protocol 0": Case(
        pickled("a.pkl", {**NUMPY, "args": argparse.Namespace(lr=0.1)}, 0)
    ),
    "dictionary of NumPy arrays": Case(pickled("a.pkl", NUMPY)),
    "dictionary in the old format of torch": Case(
        saved("a.pt", PAIR, _use_new_zipfile_serialization=False)
    ),
    "dictionary without images": Case(saved("a.pt", {"loss": 0.1}), "loss.*no images"),
    "dictionary whose labels are names": Case(
        saved("a.pt", {"images": images(), "labels": ["cat"] * 20}),
        "tensor of class",
    ),
    "weights of a network": Case(
        saved("a.pt", nn.Linear(2, 2).state_dict() | {"fc.weight": torch.zeros(2)}),
        "weights of a network",
    ),
    "whole network": Case(saved("a.pt", nn.Linear(2, 2)), "nothing was run"),
    "pair": Case(saved("a.pt", [images(), labels()])),
    "pair beside options": Case(saved("a.pt", [images(), labels(), vars(OPTIONS)])),
    "pair of images and images": Case(saved("a.pt", [images(), images()]), "labels"),
    "pair that does not fit": Case(
        saved("a.pt", [images(), labels()[:-1]]), "20 images and 19 labels"
    ),
    "single tensor": Case(saved("a.pt", images())),
    "list of numbers": Case(saved("a.pt", [1, 2, 3]), "no known set"),
    "images of bytes": Case(saved("a.pt", [BYTES, labels()])),
    "images in float64": Case(saved("a.pt", [images().double(), labels()])),
    "images in float16": Case(saved("a.pt", [images().half(), labels()])),
    "images in whole numbers": Case(
        saved("a.pt", [BYTES.long(), labels()]), "no type of images"
    ),
    "images with channels last": Case(saved("a.pt", [LAST.clone(), labels()])),
    "grey images without channels": Case(saved("a.pt", [images()[:, 0], labels()])),
    "grey images in three equal channels": Case(
        saved("a.pt", [images().expand(-1, 3, -1, -1).clone(), labels()])
    ),
    "coloured images for a grey data set": Case(
        saved("a.pt", [torch.randn(20, 3, 8, 8), labels()]), "differ.*are grey"
    ),
    "images of another size": Case(
        saved("a.pt", [torch.randn(20, 1, 28, 28), labels()]), "digits has"
    ),
    "images that are not finite": Case(
        saved("a.pt", [images() / 0, labels()]), "not finite"
    ),
    "no image": Case(saved("a.pt", [images()[:0], labels()[:0]]), "no image"),
    "labels from 1": Case(saved("a.pt", [images(), labels() + 1]), "from 1 to 10"),
    "labels in one column": Case(saved("a.pt", [images(), labels()[:, None]])),
    "labels one-hot": Case(saved("a.pt", [images(), F.one_hot(labels(), 10).float()])),
    "labels of logits": Case(
        saved("a.pt", [images(), torch.randn(20, 10)]), "--labels softmax"
    ),
    "parameters": Case(saved("a.pt", [nn.Parameter(images()), labels()])),
    "arrays images.npy and labels.npy": Case(arrays("images.npy", "labels.npy")),
    "arrays my_images.npy and my_labels.npy": Case(
        arrays("my_images.npy", "my_labels.npy")
    ),
    "arrays X_train.npy and y_train.npy": Case(arrays("X_train.npy", "y_train.npy")),
    "arrays x.npy and y.npy": Case(arrays("x.npy", "y.npy")),
    "array without labels": Case(arrays("images.npy", None)),
    "folder of two arrays": Case(
        lambda root: arrays("images.npy", "labels.npy")(root).parent
    ),
    "array of objects": Case(
        of_objects,
        "plain numbers",
    ),
    "npz of images and labels": Case(npz(**NUMPY)),
    "npz of x and y": Case(npz(x=NUMPY["images"], y=NUMPY["labels"])),
    "npz without images": Case(npz(loss=np.zeros(3)), "this file has loss"),
    "safetensors of another tool": Case(tensors(**PAIR)),
    "safetensors of data and targets": Case(tensors(data=images(), targets=labels())),
    "safetensors of weights": Case(tensors(weight=images()), "dcbench"),
    # Folders of pictures.
    "class folders": Case(pictures()),
    "class folders with what systems leave": Case(pictures(litter)),
    "class folders in a folder": Case(pictures(nested), "outer/set: give that folder"),
    "class folders with folders in them": Case(pictures(deeper), "deeper.*move them"),
    "folders train and test": Case(pictures(splits), "train/.*--dataset folder"),
    "pictures without class folders": Case(pictures(flat), "in no class folders"),
    "empty folder": Case(lambda root: root, "0 images"),
    "grey pictures stored as RGB": Case(pictures(mode="RGB")),
    "grey pictures with a palette": Case(pictures(mode="P")),
    "opaque pictures with transparency": Case(pictures(mode="RGBA")),
    "photograph turned by EXIF": Case(pictures(replaced(turned))),
    "picture of another size": Case(
        pictures(replaced(Image.new("L", (9, 8)).save, which=max)), "make all images"
    ),
    "picture of 16 bits": Case(
        pictures(replaced(Image.new("I;16", (8, 8)).save)), "convert them to 8 bits$"
    ),
    "coloured picture for a grey data set": Case(
        pictures(replaced(Image.new("RGB", (8, 8), "red").save)), "convert it to grey"
    ),
    "damaged picture": Case(
        pictures(replaced(lambda path: path.write_bytes(b"\x89PNG no"))), "no picture"
    ),
    "empty picture": Case(
        pictures(replaced(lambda path: path.write_bytes(b""))), "is empty"
    ),
    "picture that is a pointer of Git LFS": Case(
        pictures(replaced(lambda path: path.write_bytes(LFS))), "git lfs pull"
    ),
    "folder of one picture file": Case(pictures(first), "is one picture"),
    # What is no set at all.
    "pointer of Git LFS": Case(content("a.pt", LFS), "git lfs pull"),
    "pointer of Git LFS, safetensors": Case(
        content("a.safetensors", LFS), "git lfs pull"
    ),
    "saved web page": Case(content("a.pt", PAGE), "saved web page"),
    "empty file": Case(content("a.pt", b""), "is empty"),
    "text": Case(content("a.csv", b"image,label\n0.1,3\n"), "is a text file"),
    "JSON": Case(content("a.json", json.dumps([[1, 2]]).encode()), "is a text file"),
    "HDF5": Case(content("a.h5", b"\x89HDF\r\n\x1a\n\0"), "numpy.savez"),
    "MATLAB": Case(content("a.mat", b"MATLAB 5.0 MAT-file\0\1\2"), "numpy.savez"),
    "gzip": Case(compressed, "gzip; unpack"),
    "tar": Case(archived, "tar archive; unpack"),
    "zip": Case(zipped, r"without data\.pkl"),
    "7z": Case(content("a.7z", b"7z\xbc\xaf\x27\x1c\0\4"), "unpack"),
    "file cut short": Case(cut, "cannot be read"),
    "download that did not end": Case(
        content("a.pt.crdownload", b"PK\x03\x04\0\0"), "did not end"
    ),
    "random bytes": Case(content("a.pt", bytes(range(256))[::-1]), "no synthetic set"),
    "no such file": Case(missing, "No such file"),
    # Names.
    "name with spaces": Case(named("my set of digits")),
    "name in Chinese": Case(named("数据集")),
    "name with accents, decomposed": Case(named("e\u0301te\u0301")),
    "name with an emoji": Case(named("🐈")),
    "name that is markup": Case(named("[red]a")),
    "name with a percent sign": Case(named("100%s{x}")),
    "name with a line break": Case(named("a\nb")),
    "name with a dash first": Case(named("-rf")),
    "name with quotes": Case(named("a'b\"c")),
    "name that is no text": Case(named("a\udcff")),
    "very long name": Case(named("x" * 200)),
}


def read(path: Path) -> SyntheticSet:
    return adopt.read(path, ReadingOptions(dataset="digits"))


def test_the_table_is_large_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("kind", CASES)
def test_what_an_input_gives(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Reports of parallel tests cannot carry a file name that is no text.
    caplog.set_level(logging.CRITICAL, logger="dcbench_bacon")
    case = CASES[kind]
    path = case.make(tmp_path)
    if case.words is not None:
        with pytest.raises(DcbenchError, match=case.words) as found:
            read(path)
        message = str(found.value)
        assert path.name in message
        assert not any(word in message for word in ("object at 0x", "None", "BytesIO"))
        return
    found_set = read(path)
    assert len(found_set.images) == 20
    assert torch.equal(found_set.labels.argmax(1), labels())
    json.dumps(found_set.provenance).encode()
    if "float16" not in kind and path.is_file() and "bytes" not in kind:
        assert torch.equal(found_set.images, images()), kind


def test_the_table_is_documented() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
    text = page.read_text("utf-8")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if "|" in line]
    assert set(CASES) <= set(rows), sorted(set(CASES) - set(rows))
