"""Small data sets in the files and folders of the real ones."""

import gzip
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

IDX_NAMES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


def pixels(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def write_idx(folder: Path, suffix: str = ".gz", count: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = pixels(count, 28, 28)
    for name, array in zip(IDX_NAMES, [images, labels] * 2, strict=True):
        head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        content = head + array.tobytes()
        (folder / (name + suffix)).write_bytes(
            gzip.compress(content) if suffix else content
        )


def write_cifar10(root: Path, count: int = 10) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}" for number in range(1, 6)]
    for name in (*names, "test_batch"):
        labels = [number % 10 for number in range(count)]
        batch = {"data": pixels(count, 3072), "labels": labels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def write_tiny(root: Path) -> Path:
    tree = root / "tiny-imagenet-200"
    (tree / "val" / "images").mkdir(parents=True)
    rows = []
    for number in range(200):
        wnid = f"n{90000000 - number}"
        folder = tree / "train" / wnid / "images"
        folder.mkdir(parents=True)
        image = Image.fromarray(np.full((64, 64, 3), number, np.uint8))
        image.save(folder / f"{wnid}_0.JPEG")
        # Some official images are greyscale.
        image.convert("L").save(tree / "val" / "images" / f"val_{number}.JPEG")
        rows.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    (tree / "val" / "val_annotations.txt").write_text("".join(rows))
    return tree


def write_paper(root: Path, per_class: int, many: int) -> None:
    """The paper's six data sets in the layouts of torchvision, and Tiny-ImageNet's zip.

    Pixels are random, but for those of Tiny-ImageNet, whose images are plain.

    Args:
        root: the folder of data sets.
        per_class: training images per class.
        many: the classes of CIFAR-100 and of Tiny-ImageNet.
    """
    for folder in ("MNIST", "FashionMNIST"):
        write_idx(root / folder / "raw", "", 10 * per_class)
    for split in ("train", "test"):
        digits = (
            np.arange(10 * per_class) % 10 + 1
        )  # the files number the digit 0 as 10
        images = pixels(32, 32, 3, len(digits))
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": digits[:, None]})
    write_cifar10(root, 2 * per_class)
    hundred = root / "cifar-100-python"
    hundred.mkdir()
    for split, count in (("train", per_class), ("test", 10)):
        labels = [*range(many)] * count
        batch = {"data": pixels(len(labels), 3072), "fine_labels": labels}
        (hundred / split).write_bytes(pickle.dumps(batch, protocol=2))
    with ZipFile(root / "tiny-imagenet-200.zip", "w") as archive:
        rows = []
        for number in range(many):
            wnid, image = f"n{90000000 - number}", io.BytesIO()
            Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(image, "JPEG")
            train = f"tiny-imagenet-200/train/{wnid}/images/{wnid}"
            for index in range(per_class):
                archive.writestr(f"{train}_{index}.JPEG", image.getvalue())
            val = f"tiny-imagenet-200/val/images/val_{number}.JPEG"
            archive.writestr(val, image.getvalue())
            rows.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n")
        annotations = "tiny-imagenet-200/val/val_annotations.txt"
        archive.writestr(annotations, "".join(rows))


def write_folder(
    root: Path,
    test: str = "test",
    mode: str = "RGB",
    sizes: Sequence[tuple[int, int]] = ((8, 8),) * 3,
) -> Path:
    for split in ("train", test):
        for label, name in enumerate(("bee", "ant")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number, (width, height) in enumerate(sizes):
                image = Image.fromarray(pixels(height, width, 3) // (label + 1))
                image.convert(mode).save(folder / f"{number}.png")
    return root


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture in colour, whose every part differs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_photographs(
    root: Path, classes: Sequence[str], train: int = 6, val: int = 2
) -> Path:
    """The tree of ImageNet with few photographs of different shapes."""
    for split, count in (("train", train), ("val", val)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                seed = 1000 * label + number + 100 * (split == "val")
                shape = (90 + 7 * number, 80 + 5 * label)
                image = photograph(*(shape if seed % 2 else shape[::-1]), seed)
                image.save(folder / f"{name}_{number}.JPEG", quality=90)
    return root
