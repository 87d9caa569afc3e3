"""How cells run, and the run that a method sees."""

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
class Options:
    """How cells run; nothing here changes their numbers on one kind of device.

    Attributes:
        device: where.
        data_root: where data sets lie.
        download: whether missing data may be fetched.
        fresh: run finished cells again, from the start.
        policy: checkpoints, progress and stopping; its folder is set a cell.
    """

    device: torch.device
    data_root: Path | None = None
    download: bool = False
    fresh: bool = False
    policy: RunPolicy = field(default_factory=RunPolicy)

    @property
    def tell(self) -> Callable[[str], None]:
        """Takes a line for the user."""
        return self.policy.reporter.tell


class CellRun(Clock):
    """The run that a method sees: the clock, and what belongs to the cell.

    Args:
        cell: what is run.
        dataset: what it is run on.
        options: how it runs.
        folder: of its checkpoints; none are written without it.
        shared: where what several cells need is kept; not kept without it.
        key: what the random streams derive from, instead of the cell.
    """

    def __init__(
        self,
        cell: Cell,
        dataset: Dataset,
        options: Options,
        folder: Path | None,
        shared: Path | None = None,
        *,
        key: str | None = None,
    ) -> None:
        """Joins clock and data."""
        policy = replace(options.policy, folder=folder)
        super().__init__(key or str(cell), options.device, policy)
        self.cell = cell
        self.info = dataset.info
        self.train = dataset.train
        self.shared = shared
        self._parts = (cell, dataset, options)

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
    """A set from a file, and the real images that it is judged by.

    Attributes:
        synthetic: the set.
        cell: what it was made as.
        dataset: whitened if the set is; without what is held out.
        validation: held out of train, where the protocol chooses by it.
    """

    synthetic: SyntheticSet
    cell: Cell
    dataset: Dataset
    validation: Split | None = None
