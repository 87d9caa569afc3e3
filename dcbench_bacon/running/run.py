"""Options of running cells, and the run that a method sees."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.synthetic import Split, SyntheticSet
from dcbench_bacon.running import made_once
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell, Timing


@dataclass(frozen=True)
class RunConfig:
    """Options of running cells; on one kind of device, none changes their numbers.

    Attributes:
        device: the device that cells run on.
        data_root: the folder of data sets; None for the default one.
        download: whether missing data may be downloaded.
        fresh: whether finished cells run again from the start.
        policy: checkpoints, progress and stopping; its folder is set for each cell.
    """

    device: torch.device
    data_root: Path | None = None
    download: bool = False
    fresh: bool = False
    policy: RunPolicy = field(default_factory=RunPolicy)

    @property
    def tell(self) -> Callable[[str], None]:
        """Return the function that shows a line to the user."""
        return self.policy.reporter.tell


class CellRun(Clock):
    """The run that a method sees: the clock, and the data of the cell.

    Args:
        cell: method, data set, images per class and seed.
        dataset: the data set that the cell runs on.
        config: device, data and policy.
        folder: the folder of its checkpoints; None writes none.
        shared: the folder of results that several cells need; None keeps none.
        key: the name that random streams derive from, instead of the cell's.
    """

    def __init__(
        self,
        cell: Cell,
        dataset: Dataset,
        config: RunConfig,
        folder: Path | None,
        shared: Path | None = None,
        *,
        key: str | None = None,
    ) -> None:
        """Join the clock and the data."""
        policy = replace(config.policy, folder=folder)
        super().__init__(key or str(cell), config.device, policy)
        self.cell = cell
        self.info = dataset.info
        self.train = dataset.train
        self.shared = shared
        self._parts = (cell, dataset, config)

    def once(self, name: str, make: Callable[[Run], State]) -> State:
        """See ``Run.once``."""

        def made(folder: Path | None) -> State:
            run = CellRun(*self._parts, folder, key=name)
            content = make(run)
            return {"content": content, "timings": msgspec.to_builtins(run.timings)}

        if self.shared is None:
            found = made(None)
        else:
            found = made_once.once(self.shared, name, self.policy, made)
        self.timings |= msgspec.convert(found["timings"], dict[str, Timing])
        content: State = found["content"]
        return content


class OpenedSet(NamedTuple):
    """A set from a file, and the real images that it is evaluated on.

    Attributes:
        synthetic: the set.
        cell: the cell that it was made for.
        dataset: the data set, whitened if the set is, without the validation images.
        validation: images held out of the train split, if the protocol selects by them.
    """

    synthetic: SyntheticSet
    cell: Cell
    dataset: Dataset
    validation: Split | None = None
