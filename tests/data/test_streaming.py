"""Image files that are decoded when they are needed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import photograph, write_folder, write_photographs
from PIL import ExifTags, Image
from torchvision.transforms import CenterCrop, Compose, Resize

from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import split_validation
from dcbench_bacon.data.files.image_files import Square, read_image
from dcbench_bacon.data.files.verification import verify
from dcbench_bacon.data.splits import ResidentSplit
from dcbench_bacon.data.streaming import decoding, image_sets, streamed_split
from dcbench_bacon.data.streaming.streamed_split import StreamedSplit
from dcbench_bacon.data.whitening import whiten
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.plugins import DATASETS
from dcbench_bacon.training.task import enlarge

NETTE = DATASETS.module("imagenette").CLASSES


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder / "imagenette2", NETTE)
    return folder


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "0")
    monkeypatch.setenv("DCBENCH_WORKERS", "0")


@pytest.mark.parametrize("shape", [(500, 375), (333, 500), (224, 224), (91, 640)])
@pytest.mark.parametrize(("size", "shorter"), [(224, 256), (64, 64)])
def test_resizing_and_the_middle_are_torchvisions(
    tmp_path: Path, shape: tuple[int, int], size: int, shorter: int
) -> None:
    path = tmp_path / "a.JPEG"
    photograph(*shape).save(path)
    theirs = Compose([Resize(shorter), CenterCrop(size)])(Image.open(path))
    ours = read_image(str(path), Square(size, shorter))
    assert np.array_equal(ours.transpose(1, 2, 0), np.asarray(theirs))


def turned(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def sixteen_bits(image: Image.Image, path: Path) -> None:
    levels = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(levels).save(path)


FORMATS: dict[str, Callable[[Image.Image, Path], None]] = {
    "turned.png": turned,
    "palette.png": lambda image, path: image.quantize(256).save(path),
    "clear.png": lambda image, path: image.convert("RGBA").save(path),
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path, quality=100),
    "grey.jpg": lambda image, path: image.convert("L").save(path, quality=100),
    "16bit.png": sixteen_bits,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_its_picture(tmp_path: Path, name: str) -> None:
    image = photograph(40, 32)
    FORMATS[name](image, tmp_path / name)
    found = read_image(str(tmp_path / name), Square(32)).astype(int)
    grey = name.startswith(("grey", "16"))
    wanted = image.convert("L").convert("RGB") if grey else image
    if name.startswith("palette"):
        wanted = image.quantize(256).convert("RGB")
    wanted = wanted.resize((32, 32), Image.Resampling.BILINEAR)
    assert abs(found - np.asarray(wanted).transpose(2, 0, 1)).max() <= 12
    one = read_image(str(tmp_path / name), Square(32, channels=1))
    assert abs(one[0] - np.asarray(wanted.convert("L")).astype(int)).max() <= 12


def test_streamed_and_decoded_images_are_equal(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = loading.load("imagenette@64", root)
    assert type(decoded.train) is ResidentSplit
    assert decoded.info.name == "imagenette@64"
    assert loading.cell_name("imagenette@64", root) == "imagenette@64"
    assert loading.cell_name("imagenette@224", root) == "imagenette"
    assert decoded.identified_by == "content"
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "990KB")
    assert type(loading.load("imagenette@64", root).train) is ResidentSplit
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "980KB")
    monkeypatch.setenv("DCBENCH_WORKERS", "0")
    monkeypatch.setattr(streamed_split, "BATCH", 7)
    loaded = loading.load("imagenette@64", root)
    assert loaded.identified_by == "sizes and times"
    assert loaded.info == decoded.info
    assert loaded.fingerprint != decoded.fingerprint
    assert loading.known_fingerprint("imagenette@64", root) == loaded.fingerprint
    for split, wanted in ((loaded.train, decoded.train), (loaded.test, decoded.test)):
        assert isinstance(split, StreamedSplit)
        assert split.shape == wanted.shape
        assert torch.equal(split.labels, wanted.labels)
        assert torch.equal(split.whole(), wanted.whole())
        assert torch.equal(split.resident().images, wanted.images)
        index = torch.tensor([[3, 19], [19, 0]])
        assert torch.equal(split.take(index), wanted.take(index))
        order = torch.arange(20).flip(0)
        pairs = zip(split.batches(8, order), wanted.batches(8, order), strict=True)
        for ours, theirs in pairs:
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)
        mask = split.labels == 4
        assert torch.equal(split.subset(mask).whole(), wanted.subset(mask).whole())
        assert torch.equal(enlarge(split, 70).whole(), enlarge(wanted, 70).whole())
    with pytest.raises(UsageError, match=r"split\.take.*--stream-above"):
        _ = loaded.train.images
    rest, held = split_validation(loaded.train, 0.3, torch.Generator().manual_seed(0))
    assert (len(rest), len(held)) == (40, 20)
    assert rest.sha256() != held.sha256()


@pytest.mark.usefixtures("streaming")
def test_the_number_of_workers_changes_no_bit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    found = []
    before = torch.get_rng_state()
    for workers in (0, 1, 2):
        monkeypatch.setenv("DCBENCH_WORKERS", str(workers))
        train = loading.load("imagenette@64", root).train
        # A pass that goes on while other images are taken, and one that is left.
        iterator = train.batches(25, order)
        next(train.batches(10, order))
        first = next(iterator)
        some = [train.take(order[:30]), train.take(order[:3])]
        found.append(torch.cat([first.images, *some, *(b.images for b in iterator)]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("above", ["0", "1TB"], ids=["streamed", "decoded"])
def test_a_bad_file_is_named_or_left_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    above: str,
) -> None:
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", above)
    monkeypatch.setenv("DCBENCH_WORKERS", "2")
    tree = write_photographs(tmp_path / "imagenette2", NETTE, train=3, val=1)
    bad = tree / "train" / NETTE[2] / f"{NETTE[2]}_1.JPEG"
    bad.write_bytes(bad.read_bytes()[:-400])
    with pytest.raises(DataError, match=rf"{bad.name} is damaged"):
        loading.load("imagenette@64", tmp_path).train.whole()
    monkeypatch.setenv("DCBENCH_BAD_FILES", "skip")
    for _ in range(2):
        loaded = loading.load("imagenette@64", tmp_path)
        told = "1 of 40 image files cannot be decoded and are left out"
        assert caplog.text.count(told) == caplog.text.count(str(bad)) == 1
        assert loaded.train.whole().shape[0] == 29
        assert loaded.train.labels.bincount().tolist() == [3, 3, 2, *[3] * 7]
        monkeypatch.setattr(decoding.Decoder, "bad", None)  # what was found is kept
    monkeypatch.setenv("DCBENCH_BAD_FILES", "stop")
    with pytest.raises(DataError, match=rf"{bad.name} is damaged"):
        loading.load("imagenette@64", tmp_path).train.whole()


@pytest.mark.parametrize("above", ["0", "1TB"], ids=["streamed", "decoded"])
def test_verification_names_each_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: str
) -> None:
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", above)
    monkeypatch.setenv("DCBENCH_WORKERS", "0")
    tree = write_photographs(tmp_path / "imagenette2", NETTE, train=2, val=1)
    bad = [tree / "val" / name / f"{name}_0.JPEG" for name in NETTE[:2]]
    for path in bad:
        path.write_bytes(b"no image")
    *each, last = verify("imagenette@64", tmp_path)
    assert [(check.mark, check.file) for check in each] == [
        ("BAD", str(path)) for path in bad
    ]
    assert "(20, 10) images, officially (9469, 3925), 2 of them bad" in last.message


@pytest.mark.usefixtures("streaming")
def test_sizes_and_times_identify_streamed_files(tmp_path: Path, root: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)  # keeps times
    known = loading.known_fingerprint("imagenette@64", root)
    assert loading.known_fingerprint("imagenette@64", copy) == known
    assert loading.known_fingerprint("imagenette@65", copy) != known
    path = next((copy / "imagenette2" / "train").rglob("*.JPEG"))
    os.utime(path, (1, 1))
    assert loading.known_fingerprint("imagenette@64", copy) != known


@pytest.mark.usefixtures("streaming")
def test_a_folder_is_streamed_with_statistics_of_some_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "insects", sizes=((8, 8), (10, 12), (20, 11)))
    loaded = loading.load(f"folder:{folder}")
    assert isinstance(loaded.train, StreamedSplit)
    assert (loaded.info.size, loaded.info.channels) == (10, 3)
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "1GB")
    decoded = loading.load(f"folder:{folder}")
    assert torch.equal(loaded.train.whole(), decoded.train.whole())
    assert loaded.info == decoded.info
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "0")
    monkeypatch.setattr(image_sets, "SAMPLE", 2)
    assert loading.load(f"folder:{folder}").info.mean != loaded.info.mean


@pytest.mark.usefixtures("streaming")
def test_what_needs_all_images_in_memory_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loading.load("imagenette@8", root)
    assert isinstance(whiten(loaded).train, ResidentSplit)
    monkeypatch.setattr(streamed_split, "room", lambda _: 1000.0)
    for act in (loaded.train.whole, loaded.train.resident):
        with pytest.raises(UsageError, match=r"60 images in memory.*smaller --size"):
            act()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DCBENCH_STREAM_ABOVE", "much", "4GB or 500MB"),
        ("DCBENCH_BAD_FILES", "ignore", "stop or skip"),
        ("DCBENCH_WORKERS", "-1", "number from 0"),
    ],
)
def test_wrong_options_are_refused(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "0")
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=message):
        loading.load("imagenette@64", root).train.whole()


PASS = """
import sys
from pathlib import Path
import torch
from dcbench_bacon.data import loading
from dcbench_bacon.data.streaming.streamed_split import StreamedSplit
from dcbench_bacon.plugins import DATASETS

def peak():
    # Not getrusage, whose peak is at least that of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if "VmHWM" in line)

DATASETS.module("folder")  # what is imported is not counted
before = peak()
loaded = loading.load("folder@224:" + sys.argv[1])
assert isinstance(loaded.train, StreamedSplit)
order = torch.randperm(len(loaded.train), generator=torch.Generator().manual_seed(0))
seen = sum(len(labels) for _, labels in loaded.train.batches(16, order))
print(seen, peak() - before)
"""


def growth(tmp_path: Path, classes: int, per_class: int, distinct: int) -> list[int]:
    """Return the images seen, and the bytes by which the process has grown."""
    made = tmp_path / "made"
    made.mkdir()
    for number in range(distinct):
        photograph(400, 400, number).save(made / f"{number}.JPEG", quality=90)
    for split, count in (("train", per_class), ("test", 1)):
        for label in range(classes):
            folder = tmp_path / "tree" / split / str(label)
            folder.mkdir(parents=True)
            for number in range(count):
                source = made / f"{(label * per_class + number) % distinct}.JPEG"
                os.link(source, folder / f"{number}.JPEG")
    environment = {
        **os.environ,
        "DCBENCH_STREAM_ABOVE": "0",
        "DCBENCH_WORKERS": "2",
        # glibc then returns what is freed, and what is in use is counted.
        "MALLOC_MMAP_THRESHOLD_": "1000000",
    }
    done = subprocess.run(
        [sys.executable, "-c", PASS, str(tmp_path / "tree")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return list(map(int, done.stdout.split()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "per_class", "most"), [(100, 20, 1.5e8), (1000, 20, 1.5e9)]
)
def test_a_pass_over_many_files_takes_little_memory(
    tmp_path: Path, classes: int, per_class: int, most: float
) -> None:
    """The pixels alone would take 0.3 GB, and 3 GB."""
    seen, grown = growth(tmp_path, classes, per_class, distinct=200)
    assert seen == classes * per_class
    assert grown < most
