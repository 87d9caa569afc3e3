"""Sets of other tools: what they hold is kept, what they leave open is asked for."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import commandline
import foreign_files as files
import numpy as np
import pytest
import torch
from commandline import invoke, settable
from foreign_files import MAKERS, REPEATABLE, SOFT, Bomb, images, labels, mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data import dataset
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import (
    DataError,
    DcbenchError,
    RecordError,
    UnstatedError,
    UsageError,
)
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import FORMATS, ReadingOptions
from dcbench_bacon.exchange.image_folder import ImageFiles
from dcbench_bacon.exchange.interpretation.recognition import guess
from dcbench_bacon.exchange.pickles.archives import load_arrays
from dcbench_bacon.exchange.pickles.stored import Storage
from dcbench_bacon.exchange.readers import READERS
from dcbench_bacon.plugins import DATASETS

DIGITS = adopt.facts("digits", None)
QUIET = ReadingOptions(dataset="digits", partition=1, zca=False, pixels=False)


def read(path: Path, **stated: Any) -> SyntheticSet:
    """Reads a file that was made from digits."""
    return adopt.read(path, ReadingOptions(**{"dataset": "digits", **stated}))


def standardized(pixels: Tensor) -> Tensor:
    """From [0, 1] to the statistics of digits."""
    return (pixels - DIGITS.mean[0]) / DIGITS.std[0]


EXPECTED: dict[str, Callable[[], Tensor]] = {
    "idc": lambda: standardized(images().sigmoid()),
    "dd": lambda: images(2),
    "folder": lambda: standardized((images().sigmoid() * 255).to(torch.uint8) / 255),
}


def test_every_format_has_its_reader() -> None:
    known = {name for name, each in FORMATS.items() if each.reads}
    assert {*READERS, "dcbench"} == known
    assert set(MAKERS) == set(READERS)


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("stated", [True, False])
def test_a_set_is_read_as_it_is(format: str, stated: bool, tmp_path: Path) -> None:
    path = MAKERS[format](tmp_path)
    assert guess(path) == format
    found = read(path, format=format if stated else None)
    expected = EXPECTED.get(format, images)()
    if format == "folder":
        torch.testing.assert_close(found.images, expected)
    else:
        assert torch.equal(found.images, expected)
    assert torch.equal(found.labels, F.one_hot(labels(), 10).float())
    assert found.partition == (2 if format in ("best", "idc") else 1)
    source = found.provenance["source"]
    assert source["format"] == format
    assert ("format" in source["guessed"]) == (not stated)
    assert found.provenance["cell"]["ipc"] == 2
    synthetic_file.check(found)
    json.dumps(found.provenance)


def test_the_source_is_recorded(tmp_path: Path) -> None:
    import hashlib

    path = MAKERS["vico"](tmp_path)
    source = read(path, partition=2, index=3).provenance["source"]
    assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source["files"] == [path.name]
    assert source["given"] == {"dataset": "digits", "partition": 2, "index": 3}
    guessed = {"format": "vico", "zca": False, "pixels": "normalised"}
    guessed["statistics"] = "digits"
    assert source["guessed"] == guessed


@pytest.mark.parametrize(("index", "seed"), [(0, 0), (3, 3), (-1, 4), (None, 0)])
def test_one_of_several(
    index: int | None, seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = read(MAKERS["vico"](tmp_path), index=index)
    assert torch.equal(found.images, images(seed))
    told = "contains 5 sets; number 0 is used; choose with --index" in caplog.text
    assert told == (index is None)
    seed_of_cell = {None: 0, -1: 4}.get(index, index)
    assert found.provenance["cell"]["seed"] == seed_of_cell


@pytest.mark.parametrize("format", ["vico", "mtt"])
def test_an_index_out_of_range(format: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--index"):
        read(MAKERS[format](tmp_path), index=5)


def test_old_files_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "res_DC_digits.pt"
    value = {"data": [[images(), labels()]]}
    torch.save(value, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read(path).images, images())


@pytest.mark.parametrize(
    ("name", "partition"),
    [
        ("res_DM_digits_ConvNet_2ipc.pt", 1),
        ("res_BACON_digits_ConvNet_2ipc.pt", 2),
        ("res_IDM_digits_ConvNet_2ipc.pt", 2),
        ("res_DSA_digits_ConvNet_2ipc.pt", 1),
        ("anything.pt", 1),
    ],
)
def test_a_partition_is_asked_for(
    name: str, partition: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = files.res(tmp_path / name)
    assert read(path).partition == partition
    assert "state it with --partition" in caplog.text
    caplog.clear()
    assert read(path, partition=4).partition == 4
    assert "--partition" not in caplog.text


@pytest.mark.parametrize("format", READERS)
def test_parts_and_whitening_are_never_taken_in_silence(
    format: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = MAKERS[format](tmp_path)
    pixels = format in ("idc", "folder")  # which whitened images are not
    read(path)
    assert "state it with --partition" in caplog.text
    assert ("state it with --zca or --no-zca" in caplog.text) != pixels
    caplog.clear()
    read(path, partition=2, zca=not pixels)
    assert "--partition" not in caplog.text
    assert "--zca" not in caplog.text


@pytest.mark.parametrize("facts", [{"partition": 2}, {"zca": True}, {}])
def test_what_arrays_say_is_no_guess(
    facts: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "a.npz", images=images().numpy(), labels=labels(), **facts)
    found = read(tmp_path / "a.npz")
    assert found.partition == facts.get("partition", 1)
    assert bool(found.provenance["zca"]) == facts.get("zca", False)
    assert ("--partition" in caplog.text) == ("partition" not in facts)
    assert ("--zca" in caplog.text) == ("zca" not in facts)


def test_zca_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)  # away from this test's name
    path = MAKERS["mtt"](folder)
    assert read(path).provenance["zca"] is None
    assert "whitened no: doubtful" in caplog.text
    assert "learned rate unknown: doubtful" in caplog.text
    assert "--zca or --no-zca" in caplog.text
    caplog.clear()
    assert read(path, zca=True).provenance["zca"] == {"assumed": "MTT"}
    assert read(path, zca=False).provenance["zca"] is None
    assert "--zca" not in caplog.text


@pytest.mark.parametrize(
    ("name", "zca"),
    [("kip_digits_zca.npz", True), ("kip_nozca.npz", False), ("no_zca.npz", False)],
)
def test_a_name_that_says_zca(name: str, zca: bool, tmp_path: Path) -> None:
    found = read(files.kip(tmp_path / name))
    assert (found.provenance["zca"] is not None) == zca


def test_whitened_images_are_left_alone(tmp_path: Path) -> None:
    path = saved([images(), labels()], tmp_path / "a.pt")
    mnist = read(path, zca=True, statistics="mnist")
    assert torch.equal(mnist.images, images())
    with pytest.raises(DataError, match=r"are pixels.*leave out --zca"):
        read(MAKERS["idc"](tmp_path), zca=True)


@pytest.mark.parametrize("whole", [True, False])
def test_mtt_in_parts_and_by_folder(whole: bool, tmp_path: Path) -> None:
    path = files.mtt(tmp_path / "mtt", rate=0.03, parts=1 if whole else 5)
    for place in (path, path.parent):
        found = read(place)
        assert torch.equal(found.images, images())
        assert found.provenance["learning_rate"] == pytest.approx(0.03)
        assert "learning_rate" not in found.provenance["source"]["guessed"]
        assert len(found.provenance["source"]["files"]) == (3 if whole else 7)


def test_mtt_images_to_look_at(tmp_path: Path) -> None:
    torch.save(images().sigmoid(), tmp_path / "images_zca_500.pt")
    torch.save(labels(), tmp_path / "labels_500.pt")
    found = read(tmp_path / "images_zca_500.pt")
    assert torch.equal(found.images, standardized(images().sigmoid()))
    assert found.provenance["zca"] is None


def test_statistics_of_another_set(tmp_path: Path) -> None:
    mnist = adopt.facts("mnist", None)
    pixels = images().sigmoid()
    torch.save((pixels - mnist.mean[0]) / mnist.std[0], tmp_path / "a.pt")
    found = read(tmp_path / "a.pt", statistics="mnist").images
    torch.testing.assert_close(found, standardized(pixels))


@pytest.mark.parametrize("use", ["stored", "softmax", "hard", None])
def test_soft_labels(use: Any, tmp_path: Path) -> None:
    path = MAKERS["dd_ranking"](tmp_path)
    torch.save(SOFT, tmp_path / "labels.pt")
    expected = {
        "softmax": SOFT.softmax(1),
        "hard": F.one_hot(SOFT.argmax(1), 10).float(),
    }
    assert torch.equal(read(path, labels=use).labels, expected.get(use, SOFT))


def test_logits_must_be_named(tmp_path: Path) -> None:
    path = MAKERS["dd_ranking"](tmp_path)
    torch.save(SOFT * 9 - 3, tmp_path / "labels.pt")
    with pytest.raises(UnstatedError, match="--labels softmax"):
        read(path)
    assert torch.equal(read(path, labels="softmax").labels, (SOFT * 9 - 3).softmax(1))


def test_kip_labels_may_be_kept_soft(tmp_path: Path) -> None:
    with pytest.raises(UnstatedError, match="--labels softmax or hard"):
        read(MAKERS["kip"](tmp_path), labels="stored")


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.float32])
def test_labels_of_any_number_type(kind: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "res_DC_digits.pt"
    for given_labels in (labels().to(kind), labels().to(kind)[:, None]):
        torch.save({"data": [[images(), given_labels]]}, path)
        assert torch.equal(read(path).labels, F.one_hot(labels(), 10).float())


def test_folders_by_name_or_in_order(tmp_path: Path) -> None:
    names = [*"1032456789"]
    for name in names:
        (tmp_path / name).mkdir()
        shade = Image.new("L", (8, 8), 10 * int(name))
        shade.save(tmp_path / name / "a.png")
    found = read(tmp_path)
    pixels = dataset.denormalize(found.images, DIGITS)[:, 0, 0, 0] * 255 / 10
    assert torch.equal(pixels.round().long(), found.labels.argmax(1))


def test_the_name_tells_the_data_set(tmp_path: Path) -> None:
    names = {
        "res_DM_CIFAR10_ConvNet_10ipc.pt": "cifar10",
        "res_DM_CIFAR100_ConvNet_10ipc.pt": "cifar100",
        "res_DM_FashionMNIST_ConvNet_1ipc.pt": "fashion_mnist",
        "res_DM_MNIST_ConvNet_1ipc.pt": "mnist",
        "res_DM_TinyImageNet_ConvNet_1ipc.pt": "tiny_imagenet",
        "tiny-imagenet/IPC50/images_best.pt": "tiny_imagenet",
        "SVHN_ipc_1_aug_True/acc_0.6.pkl": "svhn",
    }
    for name, expected in names.items():
        found = adopt.dataset_of(tmp_path / name, ReadingOptions())
        assert found
        assert found[0] == expected
    assert adopt.dataset_of(Path("/nowhere/at/all.pt"), ReadingOptions()) is None


def test_all_that_is_missing_is_asked_for_in_one_message(tmp_path: Path) -> None:
    """Each thing with its option, and nothing that the values tell."""
    stream = torch.Generator().manual_seed(0)
    grey = torch.randn(10, 1, 28, 28, generator=stream)
    path = saved({"images": grey, "labels": torch.arange(10)}, tmp_path / "plain.pt")
    with pytest.raises(UsageError) as plain:
        adopt.read(path, ReadingOptions())
    assert "fits fashion_mnist, mnist;" in " ".join(str(plain.value).split())
    needed, doubtful = str(plain.value).split("and, unless")
    for known in ("--labels", "--pixels", "--zca"):
        assert known not in needed
    assert "--no-zca" in doubtful
    logits = torch.randn(10, 10, generator=stream)
    faint = 0.2 * torch.randn(10, 3, 32, 32, generator=stream)
    path = saved({"images": faint, "labels": logits}, tmp_path / "faint.pt")
    with pytest.raises(UsageError) as several:
        adopt.read(path, ReadingOptions())
    words = " ".join(str(several.value).split())
    assert "fits cifar10, svhn;" in words
    for option in ("--dataset NAME", "--labels softmax or hard", "--zca or --no-zca"):
        assert words.count(option) == 1
    odd = torch.rand(3, 3, 30, 30, generator=stream)
    path = saved({"images": odd, "labels": torch.arange(3)}, tmp_path / "odd.pt")
    with pytest.raises(UsageError, match=r"fits none\s+here; folder:PATH"):
        adopt.read(path, ReadingOptions())


def saved(value: Any, path: Path) -> Path:
    torch.save(value, path)
    return path


def spoilt(place: tuple[int, ...], value: float) -> Tensor:
    bad = images()
    bad[place] = value
    return bad


BAD: dict[str, tuple[Any, str]] = {
    "NaN": ([spoilt((3, 0, 1, 1), float("nan")), labels()], "1 pixels are not finite"),
    "infinite": ([spoilt((0, 0, 0, 0), float("inf")), labels()], "not finite"),
    "label too large": ([images(), labels() + 1], "labels from 1 to 10.*--dataset"),
    "negative label": ([images(), labels() - 1], "labels from -1 to 8"),
    "huge label": ([images(), labels() + 2**62], "labels from"),
    "fraction": ([images(), labels() + 0.5], "no class indices"),
    "NaN label": ([images(), labels() + float("nan")], "no class indices"),
    "bool labels": ([images(), labels() > 3], "no class indices"),
    "fewer labels": ([images(), labels()[:-1]], "20 images and 19 labels"),
    "other classes": ([images(), SOFT[:, :9]], "labels of 9 classes.*--dataset"),
    "soft NaN": ([images(), SOFT * float("nan")], "labels are not finite"),
    "below zero": ([images(), SOFT - 0.1 + 0.01], "no probabilities"),
    "labels of three axes": ([images(), SOFT[:, :, None]], "labels of"),
    "larger": ([torch.zeros(20, 1, 9, 9), labels()], r"\(20, 1, 9, 9\).*--dataset"),
    "coloured": ([torch.zeros(20, 3, 8, 8), labels()], "--dataset"),
    "flat": ([torch.zeros(20, 64), labels()], r"\(20, 64\)"),
    "whole numbers": ([torch.zeros(20, 1, 8, 8).long(), labels()], "int64"),
    "none": ([torch.zeros(0, 1, 8, 8), labels()[:0]], "holds no image"),
    "numbers": ([1, 2], "no pair of tensors"),
    "one": ([images()], "no pair of tensors"),
    "three": ([images(), labels(), labels()], "no pair of tensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_set_is_refused(name: str, tmp_path: Path) -> None:
    entry, reason = BAD[name]
    path = saved({"data": [entry]}, tmp_path / "res_DC_digits.pt")
    with pytest.raises((DataError, UnstatedError), match=reason) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", [{}, {"data": []}, {"data": 3}, [], 7, "a", None])
def test_other_objects_are_refused(value: Any, tmp_path: Path) -> None:
    path = saved(value, tmp_path / "a.pt")
    for format in (None, *READERS):
        with pytest.raises(DataError, match=r"a\.pt"):
            read(path, format=format)


def test_normalised_images_are_no_pixels(tmp_path: Path) -> None:
    path = saved([images() * 3, labels()], tmp_path / "data_best.pt")
    refused: tuple[dict[str, Any], ...] = ({"format": "idc"}, {"pixels": True})
    for stated in refused:
        with pytest.raises(DataError, match=r"pixels from -\d.*--normalized"):
            read(path, **stated)
    taken: tuple[dict[str, Any], ...] = ({"format": "idc", "pixels": False}, {})
    for stated in taken:
        assert torch.equal(read(path, **stated).images, images() * 3)


def test_images_that_do_not_divide(tmp_path: Path) -> None:
    path = saved(images()[:-1], tmp_path / "a.pt")
    with pytest.raises(DataError, match="19 images without labels"):
        read(path)


@pytest.mark.parametrize("partition", [3, 16])
def test_a_partition_that_does_not_divide(partition: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--partition {partition}"):
        read(MAKERS["vico"](tmp_path), partition=partition)


def test_labels_that_are_missing(tmp_path: Path) -> None:
    for name in ("images_best.pt", "a_images.pt"):
        with pytest.raises(DataError, match="beside it"):
            read(saved(images(), tmp_path / name))


def test_arrays_that_are_no_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", other=np.ones(3))
    with pytest.raises(DataError, match="no array 'images'"):
        read(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.array([object()]), labels=np.ones(1))
    with pytest.raises(DataError, match="plain numbers"):
        read(tmp_path / "b.npz")


def test_pictures_that_are_none(tmp_path: Path) -> None:
    path = files.folder(tmp_path / "a")
    (path / "003" / "6.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"6\.png"):
        read(path)
    Image.new("L", (9, 8)).save(path / "003" / "6.png")
    with pytest.raises(DataError, match=r"6\.png.*pixels"):
        read(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="0 images"):
        read(tmp_path / "empty")
    (path / "one more").mkdir()
    Image.new("L", (8, 8)).save(path / "one more" / "6.png")
    (path / "003" / "6.png").unlink()
    with pytest.raises(DataError, match="11 classes"):
        read(path)


def test_a_giant_picture_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    Image.new("1", (9000, 9000)).save(tmp_path / "0" / "a.png")
    with pytest.raises(DataError, match="9000"):
        read(tmp_path)


def test_our_own_files(tmp_path: Path) -> None:
    made = read(MAKERS["vico"](tmp_path), partition=2)
    path = tmp_path / "own.safetensors"
    synthetic_file.write(path, made)
    shutil.copy(path, tmp_path / "named otherwise")
    for place in (path, tmp_path / "named otherwise"):
        found = adopt.read(place, ReadingOptions())
        assert torch.equal(found.images, made.images)
        assert found.provenance == json.loads(json.dumps(made.provenance))
        for stated in ({"partition": 1}, {"zca": True}, {"index": 0}):
            with pytest.raises(UsageError, match="states this itself"):
                adopt.read(place, ReadingOptions(**stated))


def test_a_header_of_eight_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for size in (8 * 2**30, 2**63, 2**64 - 1, 99_000_000):
        path.write_bytes(struct.pack("<Q", size) + b'{"images": ' + b" " * 100)
        with pytest.raises(RecordError, match=r"a\.safetensors"):
            adopt.read(path, ReadingOptions())


def test_a_pickle_in_any_format_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "run"
    path = tmp_path / "a.pt"

    def objects(value: Any) -> None:
        with path.open("wb") as file:
            np.savez(file, images=np.array([value], object))

    for write in (
        objects,
        lambda value: torch.save(value, path),
        lambda value: torch.save(value, path, _use_new_zipfile_serialization=False),
        lambda value: path.write_bytes(pickle.dumps(value)),
    ):
        for value in (Bomb(target), {"data": [Bomb(target)]}, [images(), Bomb(target)]):
            write(value)
            for format in (None, *READERS):
                with pytest.raises(DataError):
                    read(path, format=format)
                assert not target.exists()


SEEDS: dict[str, bytes] = {}


@pytest.fixture(scope="module", autouse=True)
def seeds(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One good file of each format that is a file."""
    for format, make in MAKERS.items():
        path = make(tmp_path_factory.mktemp("seed"))
        if path.is_file():
            SEEDS[format] = path.read_bytes()


FORMS = sorted(set(READERS) - {"folder"})
quickly = settings(REPEATABLE, max_examples=40)


def survives(path: Path, format: str) -> None:
    """Reads a set that is one, or raises our own error; says no more of it."""
    for stated in (format, None):
        with suppress(DcbenchError):
            synthetic_file.check(adopt.read(path, replace(QUIET, format=stated)))


@pytest.mark.parametrize("format", FORMS)
@quickly
@given(data_=st.data())
@pytest.mark.slow
def test_mutated_sets(format: str, data_: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "images_best.pt"
    path.write_bytes(data_.draw(mutated(SEEDS[format])))
    torch.save(labels(), tmp_path / "labels_best.pt")
    survives(path, format)


@pytest.mark.parametrize("format", FORMS)
def test_truncated_sets(format: str, tmp_path: Path) -> None:
    content = SEEDS[format]
    path = tmp_path / "a_images.pt"
    torch.save(labels(), tmp_path / "a_labels.pt")
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=r"a_images\.pt"):
            read(path, format=format)


@quickly
@given(content=st.binary(max_size=200), format=st.sampled_from(FORMS))
def test_random_files(content: bytes, format: str, tmp_path: Path) -> None:
    (tmp_path / "images_best.pt").write_bytes(content)
    torch.save(labels(), tmp_path / "labels_best.pt")
    survives(tmp_path / "images_best.pt", format)


_COUNT = """
    import resource, sys
    from pathlib import Path
    import torch
    from dcbench_bacon.exchange import adopt
    from dcbench_bacon.errors import DcbenchError
    from dcbench_bacon.exchange.formats import ReadingOptions
    adopt.facts("digits", None)
    status = Path("/proc/self/status").read_text()
    used = int(status.partition("VmData:")[2].split()[0]) * 1024
    # Mapped files are not counted; what is allocated is, whatever the parent has used.
    resource.setrlimit(resource.RLIMIT_DATA, (used + 2**27, used + 2**27))
    for name in sys.argv[1:]:
        try:
            adopt.read(Path(name), ReadingOptions(dataset="digits"))
        except DcbenchError as error:
            assert name in str(error), str(error)
            assert "memory" not in str(error).lower(), str(error)
        else:
            raise AssertionError(name)
    print("survived")
"""


@pytest.mark.slow
def test_large_sets_that_do_not_fit_are_not_read(tmp_path: Path) -> None:
    big = torch.zeros(64, 3, 512, 512)  # 200 MB
    saved({"data": [[big, torch.zeros(64)]]}, tmp_path / "vico.pt")
    saved(big, tmp_path / "tensor.pt")
    (tmp_path / "best.pkl").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 2**40))
    header = struct.pack("<Q", 8 * 2**30) + b'{"images": {"dtype": "F32"'
    (tmp_path / "header.safetensors").write_bytes(header)
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((2**25, 1, 4, 1), "f4"))
    del big
    program = [sys.executable, "-c", textwrap.dedent(_COUNT)]
    done = subprocess.run(
        [*program, *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "survived" in done.stdout


def test_the_size_as_float32_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_read(*_: object) -> None:
        raise AssertionError("read before its size was checked")

    pixels = (images().sigmoid() * 255).to(torch.uint8)
    saved({"data": [[pixels, labels()]]}, tmp_path / "vico.pt")
    saved(pixels, tmp_path / "tensor.pt")
    np.savez(tmp_path / "a.npz", images=pixels.numpy(), labels=labels().numpy())
    paths = (*sorted(tmp_path.iterdir()), files.folder(tmp_path / "pictures"))
    for path in paths:
        read(path)
    monkeypatch.setattr(synthetic_file, "MOST_BYTES", 4 * 20 * (64 + 10) - 1)
    monkeypatch.setattr(Storage, "read", no_read)
    monkeypatch.setattr(ImageFiles, "read", no_read)
    for path in paths:
        with pytest.raises(DataError, match=r"5920 bytes as float32") as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_arrays_are_read_when_they_are_needed(tmp_path: Path) -> None:
    path = files.npz(tmp_path / "a.npz")
    before = load_arrays(path)["images"]
    path.rename(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError):
        before.read()


@pytest.fixture
def cache(digits_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    monkeypatch.setenv("DCBENCH_DATA", str(tmp_path / "no data"))


PROTOCOL = (
    *("--architectures", commandline.NETWORK, "--device", "cpu"),
    *settable("protocol.epochs", 2),
    *settable("protocol.networks", 1),
)


@pytest.mark.usefixtures("cache")
def test_evaluate_a_foreign_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = MAKERS["vico"](tmp_path)
    result = invoke("evaluate", path, "--index", 1, *PROTOCOL)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{path}  {commandline.NETWORK}  ")
    assert "data set digits: likely (from the name" in caplog.text
    own = tmp_path / "own.safetensors"
    assert invoke("convert", path, "--index", 1, "--to", "dcbench", "--output", own)
    again = invoke("evaluate", own, *PROTOCOL)
    assert again.stdout.split()[1:] == result.stdout.split()[1:]


@pytest.mark.usefixtures("cache")
def test_evaluate_says_what_differs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = files.mtt(tmp_path / "digits", rate=0.03)
    assert invoke("evaluate", path, "--zca", *PROTOCOL).exit_code == 0
    assert "in MTT's way" in caplog.text
    assert "--no-zca" in caplog.text
    assert "--set protocol.use_learned_rate=true" in caplog.text
    caplog.clear()
    rate = settable("protocol.learning_rate", 0.03)
    assert invoke("evaluate", path, "--no-zca", *PROTOCOL, *rate).exit_code == 0
    assert "zca" not in caplog.text
    assert "to use the learned" not in caplog.text
    used = settable("protocol.use_learned_rate", "true")
    assert invoke("evaluate", path, "--no-zca", *PROTOCOL, *used).exit_code == 0
    assert "to use the learned" not in caplog.text


def test_evaluate_refuses_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "digits.pkl"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "run")))
    result = invoke("evaluate", path, *PROTOCOL)
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert "nothing was run" in result.stderr
    assert not (tmp_path / "run").exists()


UNFIT: dict[str, dict[str, Any]] = {
    "classes": {"classes": 9},
    "size": {"size": 16},
    "channels": {"channels": 3},
    "mean": {"mean": []},
    "deviation": {"std": [1.0, 1.0]},
    "names": {"class_names": ["0"]},
    "gigantic": {"classes": 2**40},
}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("facts", UNFIT.values(), ids=list(UNFIT))
def test_own_files_whose_header_does_not_fit(
    facts: dict[str, Any], tmp_path: Path
) -> None:
    made = read(MAKERS["vico"](tmp_path), index=0)
    told = {**made.provenance, "dataset": {**made.provenance["dataset"], **facts}}
    path = tmp_path / "own.safetensors"
    synthetic_file.write(path, replace(made, provenance=told))
    for format in ("picture", "folder"):
        out = tmp_path / format
        result = invoke("convert", path, "--to", format, "--output", out)
        assert result.exit_code == 1
        assert "fit" in result.stderr
        assert str(path) in result.stderr
        assert not out.exists()
    result = invoke("evaluate", path, *PROTOCOL)
    assert result.exit_code == 1
    assert str(path) in result.stderr


@pytest.mark.usefixtures("cache")
def test_own_files_of_other_tensors_than_the_data_set(tmp_path: Path) -> None:
    made = read(MAKERS["vico"](tmp_path), index=0)
    eleven = F.pad(made.labels, (0, 1))
    twice = made.images.repeat(1, 1, 2, 2)
    for wrong in (replace(made, labels=eleven), replace(made, images=twice)):
        path = tmp_path / "own.safetensors"
        synthetic_file.write(path, wrong)
        result = invoke("evaluate", path, *PROTOCOL)
        assert result.exit_code == 1
        assert "do not fit digits" in result.stderr
        assert str(path) in result.stderr


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["folder:/", "folder:\0", "", "..", "a" * 5000])
def test_a_header_opens_no_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = read(MAKERS["vico"](tmp_path), index=0, zca=True)
    told = {
        **made.provenance,
        "cell": {**made.provenance["cell"], "dataset": name},
        "dataset": {**made.provenance["dataset"], "name": name[:99]},
    }
    path = tmp_path / "own.safetensors"
    synthetic_file.write(path, replace(made, provenance=told))
    opened: list[Path] = []
    monkeypatch.setattr(DATASETS.module("folder"), "files", opened.append)
    out = ("--output", tmp_path / "a.png")
    for command in (("evaluate", path), ("convert", path, "--to", "picture", *out)):
        assert invoke(*command).exit_code in (1, 2)
    assert not opened


def test_more_parts_than_any_method_makes(tmp_path: Path) -> None:
    path = MAKERS["vico"](tmp_path)
    assert invoke("evaluate", path, "--partition", 8).exit_code == 2
    result = invoke("show", "idm", "digits", 1, *settable("partition", 8))
    assert result.exit_code == 2
    assert "<= 4" in result.stderr
    with pytest.raises(UsageError, match=r"--partition 8.*at most 4"):
        read(path, partition=8)
    found = {"images": images().numpy(), "partition": np.int64(8)}
    np.savez(tmp_path / "a.npz", **found)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"--partition 8.*at most 4"):
        read(tmp_path / "a.npz")


def test_formats_are_listed() -> None:
    result = invoke("list", "formats")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(FORMATS)
    assert all("read" in line or "written" in line for line in lines)
