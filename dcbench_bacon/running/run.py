"""The configuration of running cells, and the run that a method sees."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.field_types import CompileMode
from dcbench_bacon.running import made_once
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.runtime.compute.compilation import Compiler
from dcbench_bacon.runtime.monitoring.progress import Reporter, Silent
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell, Timing


@dataclass(frozen=True)
class RunConfig:
    """How cells run, as plain data that another process or machine can receive.

    On one kind of device, no value changes the numbers of a cell.

    Attributes:
        device: the device that cells run on.
        data_root: the folder of data sets; None for the default one.
        download: whether missing data may be downloaded.
        fresh: whether finished cells run again from the start.
        compiling: whether networks are compiled.
        checkpoint_every: seconds between two checkpoints.
        deadline: the time, in seconds since the epoch, at which the run stops.
    """

    device: torch.device
    data_root: Path | None = None
    download: bool = False
    fresh: bool = False
    compiling: CompileMode = "off"
    checkpoint_every: float = 60.0
    deadline: float = math.inf

    def here(
        self,
        reporter: Reporter | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> "RunContext":
        """Return the configuration in this process.

        Args:
            reporter: shows progress and lines; by default lines go to the log.
            stop: is called after each step and returns whether to stop.
        """
        policy = RunPolicy(
            interval=self.checkpoint_every,
            deadline=time.monotonic() + self.deadline - time.time(),
            stop=stop,
            reporter=reporter or Silent(),
            compiler=Compiler(self.compiling),
        )
        return RunContext(self, policy)


@dataclass(frozen=True)
class RunContext:
    """A configuration in the process that runs cells.

    Attributes:
        config: the configuration.
        policy: what this process adds: progress, stopping and the compiler. Its folder
            of checkpoints is set for each cell.
    """

    config: RunConfig
    policy: RunPolicy

    @property
    def device(self) -> torch.device:
        """The device that cells run on."""
        return self.config.device

    @property
    def data_root(self) -> Path | None:
        """The folder of data sets; None for the default one."""
        return self.config.data_root

    @property
    def fresh(self) -> bool:
        """Whether finished cells run again from the start."""
        return self.config.fresh

    @property
    def tell(self) -> Callable[[str], None]:
        """Return the function that shows a line to the user."""
        return self.policy.reporter.tell


class CellRun(Clock):
    """The run that a method sees: the clock, and the data of the cell.

    Args:
        cell: method, data set, images per class and seed.
        dataset: the data set that the cell runs on.
        context: the configuration in this process.
        folder: the folder of its checkpoints; None writes none.
        shared: the folder of results that several cells need; None keeps none.
        key: the name that random streams derive from, instead of the cell's.
    """

    def __init__(
        self,
        cell: Cell,
        dataset: Dataset,
        context: RunContext,
        folder: Path | None,
        shared: Path | None = None,
        *,
        key: str | None = None,
    ) -> None:
        """Join the clock and the data."""
        policy = replace(context.policy, folder=folder)
        super().__init__(key or str(cell), context.device, policy)
        self.cell = cell
        self.info = dataset.info
        self.train = dataset.train
        self.shared = shared
        self._parts = (cell, dataset, context)

    def once(self, name: str, make: Callable[[Run], State]) -> State:
        """See ``Run.once``."""

        def made(folder: Path | None) -> State:
            run = CellRun(*self._parts, folder, key=name)
            content = make(run)
            return {"content": content, "timings": msgspec.to_builtins(run.timings)}

        if self.shared is None:
            result = made(None)
        else:
            result = made_once.once(self.shared, name, self.policy, made)
        self.timings |= msgspec.convert(result["timings"], dict[str, Timing])
        content: State = result["content"]
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
