"""The loader, the cache and every reader, on small files in the real formats."""

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from dataset_files import (
    IDX_NAMES,
    pixels,
    write_cifar10,
    write_folder,
    write_idx,
    write_tiny,
)
from PIL import ExifTags, Image

from dcbench_bacon.data import dataset, decoded_cache, loading
from dcbench_bacon.data.dataset import class_index, denormalize, split_validation
from dcbench_bacon.data.files import verification
from dcbench_bacon.data.files.source_files import MissingDataError
from dcbench_bacon.data.splits import ResidentSplit
from dcbench_bacon.data.streaming import image_sets
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.plugins import DATASETS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    monkeypatch.setenv("DCBENCH_CACHE", str(root))
    monkeypatch.setenv("DCBENCH_DATA", str(tmp_path / "nowhere"))
    return root / "decoded"


FEW = '''"""Few: a data set of a third party that keeps an account of its reads."""

import time

import numpy as np

from dcbench_bacon.api import DatasetInfo, RawSplit, locate

INFO = DatasetInfo(
    name="few", title="Few", classes=2, channels=1, size=8, mean=(0.5,), std=(0.3,),
    class_names=("one", "other"),
)

def sources(root):
    return [locate("few", root, "few.txt")]

def fetch(root):
    root.mkdir(exist_ok=True)
    (root / "few.txt").write_text("few")

def read(root):
    sources(root)
    with (root / "reads").open("a") as account:
        account.write("read\\n")
    time.sleep(0.3 if (root / "slow").exists() else 0)
    pixels = np.arange(8 * 64, dtype=np.int64).reshape(8, 1, 8, 8).astype(np.uint8)
    split = RawSplit(pixels, np.arange(8, dtype=np.int64) % 2)
    return split, split
'''


@pytest.fixture
def few(tmp_path: Path, install: Callable[..., None]) -> Path:
    """The module of the data set, whose files are in the folder of the test."""
    module = tmp_path / "third party" / "few.py"
    install(DATASETS.group, few="few")
    module.write_text(FEW)
    (tmp_path / "few.txt").write_text("few")
    return module


def reads(root: Path) -> int:
    """How often the data set was read."""
    return len((root / "reads").read_text().splitlines())


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_idx_files_packed_or_not(
    tmp_path: Path, name: str, folder: str, suffix: str
) -> None:
    write_idx(tmp_path / folder / "raw", suffix)
    dataset = loading.load(name, tmp_path)
    assert np.array_equal(dataset.train.images[:, 0], pixels(20, 28, 28))
    assert dataset.test.labels.tolist() == [*range(10)] * 2
    assert dataset.train.images.dtype == torch.uint8


@pytest.mark.slow
def test_real_mnist(shared: Path) -> None:
    dataset = loading.load("mnist", shared / "data")
    assert dataset.train.images.shape == (60_000, 1, 28, 28)
    assert dataset.test.images.shape == (10_000, 1, 28, 28)
    train = dataset.train.images.double() / 255
    assert (train.mean().item(), train.std().item()) == pytest.approx(
        (dataset.info.mean[0], dataset.info.std[0]), abs=5e-5
    )
    assert all(check.ok for check in verification.verify("mnist", shared / "data"))


def test_debian_copy_of_fashion_mnist(tmp_path: Path) -> None:
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    checks = verification.verify("fashion_mnist", tmp_path)
    assert len(checks) == 5
    assert all(check.ok for check in checks)


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_truncated_gzip_is_named(tmp_path: Path, keep: int) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged"):
        loading.load("mnist", tmp_path)
    assert not all(check.ok for check in verification.verify("mnist", tmp_path))


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw, "")
    (raw / IDX_NAMES[1]).write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 19)) + bytes(19))
    with pytest.raises(DataError, match=r"mnist in .*train: .*expected uint8 \(19"):
        loading.load("mnist", tmp_path)


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw, "")
    (raw / IDX_NAMES[3]).write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 20)) + b"\x0a" * 20)
    with pytest.raises(DataError, match="labels 10 to 10; there are 10 classes"):
        loading.load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn"])
def test_missing_file_names_the_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"`dcbench data get {name}`, or put it under"):
        loading.load(name, tmp_path)
    (check,) = verification.verify(name, tmp_path)
    assert not check.ok


def test_small_files_are_not_the_official_ones(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    checks = verification.verify("mnist", tmp_path)
    assert len(checks) == 5
    assert not any(check.ok for check in checks)


@pytest.mark.usefixtures("offline")
def test_failed_download_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Connection refused.*by other means"):
        loading.load("cifar10", tmp_path, download=True)


@pytest.mark.usefixtures("few")
def test_download_fetches_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        loading.load("few", tmp_path / "there")
    assert len(loading.load("few", tmp_path / "there", download=True).train.labels) == 8


def test_hyphen_is_read_as_underscore(tmp_path: Path) -> None:
    assert loading.find("fashion-mnist", tmp_path) == loading.find(
        "fashion_mnist", tmp_path
    )


def test_cifar10(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    dataset = loading.load("cifar10", tmp_path)
    assert dataset.train.images.shape == (50, 3, 32, 32)
    assert np.array_equal(dataset.test.images.flatten(1), pixels(10, 3072))


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    batch = {
        "data": pixels(100, 3072),
        "fine_labels": list(range(100)),
        "coarse_labels": [0] * 100,
    }
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    assert loading.load("cifar100", tmp_path).train.labels.tolist() == list(range(100))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.dumps({"data": pixels(10, 3072), "labels": [*range(10)]}, 2)[:-100],
        pickle.dumps({"data": pixels(10, 3071), "labels": [*range(10)]}, 2),
        pickle.dumps({"data": pixels(10, 3072), "labels": [*range(9)]}, 2),
        pickle.dumps({"data": pixels(10, 3072)}, 2),
    ],
    ids=["empty", "truncated", "short-rows", "short-labels", "no-labels"],
)
def test_damaged_pickle_is_named(tmp_path: Path, content: bytes) -> None:
    (write_cifar10(tmp_path) / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3 is (damaged|empty)"):
        loading.load("cifar10", tmp_path)


class Malicious:
    """Its pickle creates a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickle_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    batch = pickle.dumps({"data": Malicious(mark), "labels": []})
    (write_cifar10(tmp_path) / "test_batch").write_bytes(batch)
    with pytest.raises(DataError, match="the pickle asks for"):
        loading.load("cifar10", tmp_path)
    assert not mark.exists()
    pickle.loads(batch)
    assert mark.exists()


def test_svhn_reads_ten_as_zero(tmp_path: Path) -> None:
    from scipy.io import savemat

    images, labels = pixels(32, 32, 3, 10), np.arange(1, 11, dtype=np.uint8)[:, None]
    for name in ("train", "test"):
        savemat(tmp_path / f"{name}_32x32.mat", {"X": images, "y": labels})
    dataset = loading.load("svhn", tmp_path)
    assert dataset.train.labels.tolist() == [*range(1, 10), 0]
    assert np.array_equal(dataset.train.images[3], images[..., 3].transpose(2, 0, 1))


def test_tiny_imagenet_tree_and_zip_are_equal(tmp_path: Path) -> None:
    tree = write_tiny(tmp_path)
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    with ZipFile(zipped / "tiny-imagenet-200.zip", "w") as archive:
        for path in tree.rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    from_tree = loading.load("tiny_imagenet", tmp_path)
    from_zip = loading.load("tiny_imagenet", zipped)
    assert from_tree.fingerprint == from_zip.fingerprint
    # Classes are sorted by WordNet id, and the ids here fall as the grey levels rise.
    assert from_tree.train.images[0, 0, 0, 0] == 199
    assert from_tree.test.labels.tolist() == list(range(199, -1, -1))


def test_a_zip_of_a_mac_is_read_as_it_was(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tree")
    shutil.make_archive(
        str(tmp_path / "zip" / "tiny-imagenet-200"), "zip", tmp_path / "tree"
    )
    plain = loading.load("tiny_imagenet", tmp_path / "zip").fingerprint
    with ZipFile(tmp_path / "zip" / "tiny-imagenet-200.zip", "a") as archive:
        for name in ("__MACOSX/tiny-imagenet-200/._a", "tiny-imagenet-200/.DS_Store"):
            archive.writestr(name, b"")
    assert loading.load("tiny_imagenet", tmp_path / "zip").fingerprint == plain


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("tiny-imagenet-200/../../evil.JPEG", b"", "is outside"),
        ("/etc/evil.JPEG", b"", "is outside"),
        ("tiny-imagenet-200/train/n1/images/n1_0.JPEG", b"", "has 1 class folders"),
        ("tiny-imagenet-200/val/val_annotations.txt", b"", "has 0 class folders"),
    ],
)
def test_hostile_zip_is_refused(
    tmp_path: Path, member: str, content: bytes, message: str
) -> None:
    with ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr(member, content)
    with pytest.raises(DataError, match=message):
        loading.load("tiny_imagenet", tmp_path)


def test_bloated_zip_member_is_refused(tmp_path: Path) -> None:
    tree = write_tiny(tmp_path)
    bomb = tree / "val" / "val_annotations.txt"
    bomb.write_bytes(bytes(1_000_001))
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    with ZipFile(zipped / "tiny-imagenet-200.zip", "w") as archive:
        for path in tree.rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    with pytest.raises(DataError, match="unpacks to 1000001 bytes"):
        loading.load("tiny_imagenet", zipped)


def test_digits_are_stratified_and_fixed() -> None:
    dataset = loading.load("digits")
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (1442, 355)
    share = dataset.test.labels.bincount() / (
        dataset.train.labels.bincount() + dataset.test.labels.bincount()
    )
    assert ((share - 0.2).abs() < 0.01).all()
    assert dataset.fingerprint[:8] == "3212dbdf"  # another split is another data set
    assert dataset.train.images.max() == 255
    train = dataset.train.images.double() / 255
    assert (train.mean().item(), train.std().item()) == pytest.approx(
        (dataset.info.mean[0], dataset.info.std[0]), abs=2e-4
    )


@pytest.mark.parametrize("test", ["test", "val"])
def test_folder(tmp_path: Path, test: str) -> None:
    root = write_folder(tmp_path / "My Insects", test)
    dataset = loading.load(f"folder:{root}")
    info = dataset.info
    assert (info.name, info.title) == ("my-insects", "My Insects")
    assert info.class_names == ("ant", "bee")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    train = dataset.train.images.double() / 255
    assert info.mean == pytest.approx(train.mean((0, 2, 3)).tolist())
    assert info.std == pytest.approx(train.std((0, 2, 3), correction=0).tolist())
    assert np.array_equal(dataset.train.images[3], pixels(8, 8, 3).transpose(2, 0, 1))


def test_folder_of_greyscale_images_has_one_channel(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "grey", mode="L")
    assert loading.load(f"folder:{root}").info.channels == 1
    Image.new("RGB", (8, 8), "red").save(root / "test" / "ant" / "red.png")
    assert loading.load(f"folder:{root}").info.channels == 3


def test_folder_stretches_to_the_median(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A first image of 8 pixels once shrank all others to 8."""
    root = write_folder(tmp_path / "mixed", sizes=((8, 8), (10, 12), (20, 11)))
    first = loading.load(f"folder:{root}")
    assert first.train.images.shape == (6, 3, 10, 10)
    assert "8 x 8 to 20 x 11 pixels are resized to 10 x 10" in caplog.text
    assert "--size" in caplog.text
    caplog.clear()
    second = loading.load(f"folder@12:{root}")
    assert second.train.images.shape == (6, 3, 12, 12)
    assert second.fingerprint != first.fingerprint
    assert loading.load(f"folder:{root}").fingerprint == first.fingerprint
    assert "resized" not in caplog.text
    for name in (f"folder@4:{root}", f"folder@x:{root}", "folder@9"):
        with pytest.raises(UsageError, match="@SIZE:PATH with a size of 8 to 1024"):
            loading.load(name)


def test_folder_of_tiny_or_giant_images_wants_a_size(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "tiny", sizes=((3, 3),))
    with pytest.raises(DataError, match=r"3 pixels.*--size"):
        loading.load(f"folder:{root}")
    assert loading.load(f"folder@8:{root}").info.size == 8


def test_photographs_are_turned_as_viewers_show_them(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "photos", sizes=((8, 8),))
    path = root / "train" / "ant" / "0.png"
    upright = Image.open(path).copy()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned right by a quarter
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    images = loading.load(f"folder:{root}").train.images
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), np.asarray(upright))


def test_folder_named_like_a_data_set_is_told_apart(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "Fashion-MNIST")
    assert loading.load(f"folder:{root}").info.name == "fashion-mnist-folder"


def test_folder_leaves_out_hidden_and_foreign_files(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects")
    for name in (".DS_Store", "Thumbs.db", "notes.txt"):
        (root / "train" / "ant" / name).write_text("no image")
    assert len(loading.load(f"folder:{root}").train.labels) == 6


def test_empty_class_folder_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects")
    (root / "train" / "cricket").mkdir()
    (root / "test" / "cricket").mkdir()
    with pytest.raises(DataError, match=r"no image in .*train/cricket"):
        loading.load(f"folder:{root}")


def test_class_without_test_folder_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects")
    (root / "train" / "cricket").mkdir()
    with pytest.raises(DataError, match="differ in classes: cricket"):
        loading.load(f"folder:{root}")


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    root = write_folder(tmp_path / "insects")
    path = root / "train" / "bee" / "1.png"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(DataError, match=r"train/bee/1.png is (damaged|empty)") as found:
        loading.load(f"folder:{root}")
    assert "object at" not in str(found.value)
    with pytest.raises(DataError, match="copy"):
        loading.load(f"folder:{root}")


def test_sixteen_bit_image_is_scaled_not_clipped(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", mode="L")
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 257 * 4
    Image.fromarray(levels).save(root / "train" / "bee" / "1.png")
    images = loading.load(f"folder:{root}").train.images
    assert np.array_equal(images[4, 0], levels // 257)


def test_image_of_floats_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects")
    path = root / "train" / "bee" / "1.tiff"
    Image.fromarray(np.zeros((8, 8), np.float32)).save(path)
    with pytest.raises(DataError, match=r"1.tiff: .*convert them to 8 bits"):
        loading.load(f"folder:{root}")


def test_folder_without_splits_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold train/ and test/"):
        loading.load(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ["folder", "mnist:/tmp", "minst"])
def test_wrong_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        loading.load(name)


def refuse(*_: object) -> None:
    raise AssertionError("the sources were read again")


def test_second_start_decodes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "insects")
    first = loading.load(f"folder:{root}")
    monkeypatch.setattr(image_sets, "decode_images", refuse)
    second = loading.load(f"folder:{root}")
    assert first.fingerprint == second.fingerprint
    assert first.info == second.info
    assert torch.equal(first.train.images, second.train.images)


def test_cached_images_can_be_written_without_changing_the_cache() -> None:
    loading.load("digits")
    loading.load("digits").train.images.zero_()
    assert loading.load("digits").train.images.any()


def test_decoded_and_cached_sets_have_the_same_strides() -> None:
    decoded, cached = loading.load("digits"), loading.load("digits")
    assert decoded.train.images.stride() == cached.train.images.stride()
    assert cached.train.images.stride() == (64, 64, 8, 1)


def test_changed_source_is_decoded_again_and_replaces_the_old(
    tmp_path: Path, cache: Path
) -> None:
    root = write_folder(tmp_path / "insects")
    first = loading.load(f"folder:{root}")
    Image.new("RGB", (8, 8)).save(root / "train" / "ant" / "0.png")
    assert loading.load(f"folder:{root}").fingerprint != first.fingerprint
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_content_of_equal_size_and_time_is_noticed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects")
    path = root / "train" / "ant" / "9.bmp"
    Image.new("RGB", (8, 8)).save(path)
    first = loading.load(f"folder:{root}")
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert loading.load(f"folder:{root}").fingerprint != first.fingerprint


def test_verification_removes_a_copy_of_other_images(tmp_path: Path) -> None:
    """A file system may keep no time of changes, so that the stamp stays the same."""
    root = write_folder(tmp_path / "insects")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoded_cache, "_stamp", lambda paths: "0" * 16)
        name = f"folder:{root}"
        first = loading.load(name)
        assert all(check.ok for check in verification.verify(name))
        Image.new("RGB", (8, 8)).save(root / "train" / "ant" / "0.png")
        assert loading.load(name).fingerprint == first.fingerprint
        assert "other images" in verification.verify(name)[-1].message
        assert loading.load(name).fingerprint != first.fingerprint


def test_installations_share_a_cache(
    few: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of the reader is another in each; another version has its own entry."""
    copy = tmp_path / "copy" / "few.py"
    copy.parent.mkdir()
    copy.write_text(few.read_text())

    def load(module: Path) -> None:
        monkeypatch.syspath_prepend(module.parent)
        sys.modules.pop("few", None)
        loading.load("few", tmp_path)
        assert DATASETS.module("few").__file__ == str(module)

    load(few)
    load(copy)
    assert reads(tmp_path) == 1
    copy.write_text(copy.read_text() + "# another version")
    for place in (copy, few, copy):
        load(place)
    assert reads(tmp_path) == 2
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "sidecar"])
def test_damaged_cache_is_decoded_again(cache: Path, damage: str) -> None:
    first = loading.load("digits")
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    array = entry / "train_images.npy"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    if damage == "flip":
        array.write_bytes(content)
    elif damage == "truncate":
        array.write_bytes(content[:-1000])
    elif damage == "remove":
        array.unlink()
    else:
        (entry / "sidecar.json").write_text("{")
    again = loading.load("digits")
    assert torch.equal(first.train.images, again.train.images)
    assert bytearray(array.read_bytes())[-1] == content[-1] ^ 1


@pytest.mark.usefixtures("few")
def test_half_written_cache_is_ignored_and_cleaned(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            loading.load("few", tmp_path)
    assert list(cache.glob("few-*.partial"))
    loading.load("few", tmp_path)
    assert not list(cache.glob("few-*.partial"))
    assert reads(tmp_path) == 2
    loading.load("few", tmp_path)
    assert reads(tmp_path) == 2


@pytest.mark.usefixtures("few")
def test_concurrent_starts_decode_once(tmp_path: Path) -> None:
    (tmp_path / "slow").touch()  # so that all have begun when the first has read it
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(loading.load, ["few"] * 4, [tmp_path] * 4))
    assert reads(tmp_path) == 1
    assert len({dataset.fingerprint for dataset in loaded}) == 1


def test_unwritable_cache_costs_time_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert len(loading.load("digits", cache=blocked / "cache").train.labels) == 1442


def test_class_index_lists_each_class() -> None:
    labels = torch.tensor([2, 0, 2, 0, 0])
    index, counts = class_index(labels, 4)
    assert index.tolist() == [[1, 3, 4], [-1] * 3, [0, 2, -1], [-1] * 3]
    assert counts.tolist() == [3, 0, 2, 0]


def test_normalize_is_torchvisions_and_can_be_undone(device: torch.device) -> None:
    from torchvision.transforms.functional import normalize

    info = DATASETS.module("cifar10").INFO
    images = torch.from_numpy(pixels(4, 3, 32, 32)).to(device)
    ours = dataset.normalize(images, info)
    theirs = normalize(images / 255, list(info.mean), list(info.std))
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(denormalize(ours, info), images / 255)


def test_validation_split_is_stratified_and_seeded() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([40, 20, 2]))
    images = torch.arange(62, dtype=torch.uint8)[:, None, None, None]
    split = ResidentSplit(images, labels, loading.load("digits").info)
    halves = [
        split_validation(split, 0.1, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    rest, held = halves[0]
    assert held.labels.bincount().tolist() == [4, 2, 1]
    assert len(set(torch.cat([rest.images, held.images]).flatten().tolist())) == 62
    assert torch.equal(labels[held.images.flatten().long()], held.labels)
    assert torch.equal(held.images, halves[1][1].images)
    assert not torch.equal(held.images, halves[2][1].images)


@pytest.mark.parametrize("name", sorted(set(DATASETS.names()) - {"folder"}))
def test_facts_are_consistent(name: str) -> None:
    info = DATASETS.module(name).INFO
    assert info.name == name
    assert len(info.mean) == len(info.std) == info.channels
    assert len(info.class_names) == info.classes
    assert DATASETS.summary(name)
