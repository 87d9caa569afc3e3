"""Small data sets in the files and folders of the real ones."""

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

IDX_NAMES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


def pixels(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def write_idx(folder: Path, suffix: str = ".gz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(20, dtype=np.uint8) % 10
    for name, array in zip(IDX_NAMES, [pixels(20, 28, 28), labels] * 2, strict=True):
        head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        content = head + array.tobytes()
        (folder / (name + suffix)).write_bytes(
            gzip.compress(content) if suffix else content
        )


def write_cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}" for number in range(1, 6)]
    for name in (*names, "test_batch"):
        batch = {"data": pixels(10, 3072), "labels": list(range(10))}
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
