"""Images per second of a streamed split beside torchvision's ImageFolder.

    python tests/streaming_throughput.py --workers 2 --images 2000

Both decode the same JPEG files of about 400 pixels to 224, with as many workers and in
the same batches, in turns. ImageFolder resizes and cuts in its workers and makes
normalised floats, as the published code does.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from dataset_files import photograph
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from dcbench_bacon.data import loading

DISTINCT, CLASSES, BATCH = 200, 10, 64


def write_tree(root: Path, count: int) -> None:
    """Write a folder of photographs, with hard links of few distinct files."""
    made = root / "made"
    made.mkdir()
    for number in range(DISTINCT):
        image = photograph(440 + number % 80, 340 + number % 60, number)
        image.save(made / f"{number}.JPEG", quality=90)
    for split, images in (("train", count), ("test", CLASSES)):
        for number in range(images):
            folder = root / "tree" / split / str(number % CLASSES)
            folder.mkdir(parents=True, exist_ok=True)
            source = made / f"{number % DISTINCT}.JPEG"
            os.link(source, folder / f"{number}.JPEG")


def ours(root: Path) -> Callable[[], int]:
    """Return a pass over the streamed split."""
    train = loading.load(f"folder@224:{root}").train

    def run() -> int:
        return sum(len(labels) for _, labels in train.batches(BATCH))

    return run


def theirs(root: Path, workers: int) -> Callable[[], int]:
    """Return a pass over ImageFolder."""
    steps = [
        transforms.Resize((224, 224)),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    folder = ImageFolder(str(root / "train"), transforms.Compose(steps))

    def run() -> int:
        loader = DataLoader(folder, BATCH, num_workers=workers)
        return sum(len(labels) for _, labels in loader)

    return run


def main() -> None:
    """Print the images per second of both, and their ratio in each turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    os.environ["DCBENCH_STREAM_ABOVE"] = "0"
    os.environ["DCBENCH_WORKERS"] = str(given.workers)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tree(root, given.images)
        both = (ours(root / "tree"), theirs(root / "tree", given.workers))
        ratios = []
        for turn in range(given.turns):
            speeds = []
            for run in both if turn % 2 else reversed(both):
                began = time.perf_counter()
                images = run()
                speeds.append(images / (time.perf_counter() - began))
            speed, other = speeds if turn % 2 else reversed(speeds)
            ratios.append(speed / other)
            print(f"turn {turn}: {speed:.0f} and {other:.0f} images per second")
        print(
            f"streamed / ImageFolder: {median(ratios):.2f} (median of {len(ratios)}, "
            f"{min(ratios):.2f} to {max(ratios):.2f}), {given.workers} workers, torch "
            f"{torch.__version__}"
        )


if __name__ == "__main__":
    main()
