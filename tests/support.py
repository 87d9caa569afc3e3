"""What several test files build: runs in memory and fixed real images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcbench_bacon import contract
from dcbench_bacon.contract import Method
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.splits import ResidentSplit
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.running import run
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.schema import Cell, DatasetInfo


@contextmanager
def case(*facts: object) -> Iterator[None]:
    """Name a case of a loop in the report of whatever fails in it."""
    try:
        yield
    except BaseException as error:
        error.add_note("in the case " + " ".join(map(str, facts)))
        raise


def dataset(
    *, classes: int = 3, per_class: int = 12, channels: int = 1, size: int = 8
) -> Dataset:
    """Random images, as many of each class."""
    generator = torch.Generator().manual_seed(1)
    count = classes * per_class
    shape = (count, channels, size, size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    info = DatasetInfo(
        name="random-images",
        title="Random images",
        classes=classes,
        channels=channels,
        size=size,
        mean=(0.5,) * channels,
        std=(0.3,) * channels,
        class_names=tuple(f"class {index}" for index in range(classes)),
    )
    split = ResidentSplit(images, torch.arange(count) % classes, info)
    return Dataset(info, split, split, "0" * 64)


def cell_run(
    source: Dataset,
    folder: Path,
    *,
    method: str = "dm",
    ipc: int = 2,
    device: str = "cpu",
) -> run.CellRun:
    """A run of one cell, with checkpoints in ``folder``."""
    where = torch.device(device)
    moved = Dataset(
        source.info, source.train.to(where), source.test.to(where), source.fingerprint
    )
    cell = Cell(method, source.info.name, ipc)
    return run.CellRun(cell, moved, run.RunConfig(where).here(), folder)


def demand(images: int, size: int = 8) -> float:
    """The memory of a network of which so many images fit into a call on the CPU."""
    fit = images_per_call(torch.device("cpu"), size, demand=1.0)
    return fit / (images + 0.5)  # the middle, so that rounding decides nothing


def method(name: str, settings: dict[str, Any]) -> Method:
    """A method that makes sets, by name."""
    made = contract.method_class(name).create(settings)
    assert isinstance(made, Method)
    return made


class FixedImages(RealImages):
    """Real images that are given, not drawn: index i is image i of the class."""

    def __init__(self, images: Tensor) -> None:
        self.fixed = images

    def take(self, index: Tensor) -> Tensor:
        return self.fixed[int(index[0, 0]) :][: len(index)]

    @staticmethod
    def indices(classes: int, count: int) -> Tensor:
        """Indices whose first column is the class."""
        return torch.arange(classes)[:, None].expand(-1, count)
