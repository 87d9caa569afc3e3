"""The contract between the harness, the methods and the data sets.

A method is plain code over the harness's steps: it asks ``Run`` for real images,
generators and the clock, and returns a ``SyntheticSet``. The structs that reach the
disk live in ``schema`` and are named here too, so that a plug-in imports one module.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar, runtime_checkable
from typing import Protocol as Interface

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from dcbench_bacon.data.synthetic import Split, SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.runtime.cuda_graphs import Function, P, T
from dcbench_bacon.schema import Cell, DatasetInfo, Timing

Made = TypeVar("Made", bound="Configured")
State = dict[str, Any]
"""Nested dictionaries and lists of tensors and JSON values: a checkpoint's content."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a method's hyper-parameters; subclasses add typed fields."""


@runtime_checkable
class Learner(Interface):
    """The state of a stage: what a checkpoint holds, and the set as it stands."""

    def state_dict(self) -> State:
        """Everything that later steps depend on, random streams apart."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned, dtype and device kept."""
        ...


@runtime_checkable
class Stages(Interface):
    """Random streams and timed stages: what training and evaluation need of a run."""

    @property
    def device(self) -> torch.device:
        """Where ``train`` lies and the work is done."""
        ...

    @property
    def timings(self) -> Mapping[str, Timing]:
        """What the stages that have ended cost."""
        ...

    def generator(self, purpose: str, device: str | None = None) -> torch.Generator:
        """The cell's random stream for one purpose.

        Args:
            purpose: names the stream; another name is an independent stream.
            device: ``"cpu"`` for draws the host needs; the run's device by default.
        """
        ...

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Times a part of a step; for use inside a step's body."""
        ...

    def count(self, images: int) -> None:
        """Adds to the images that went through a network."""
        ...

    def compiled(self, function: Callable[P, T], flops: float) -> Callable[P, T]:
        """The function, compiled if the user wants it and there is enough to do.

        Args:
            function: takes and returns tensors of few different shapes.
            flops: floating-point operations that all calls of the stage will need.
        """
        ...

    def graphed(self, function: Function) -> Function:
        """The function, recorded as a CUDA graph where the work is on a GPU.

        Args:
            function: takes and returns tensors, on the run's device and of few
                different shapes. It must change nothing, draw nothing and read nothing
                from the device; other tensors it uses must stay where they are.
        """
        ...

    def steps(
        self, stage: str, count: int, state: Learner | None = None
    ) -> Iterator[int]:
        """Yields the indices of the steps that are still to run.

        Times each body, shows progress, writes checkpoints of ``state`` and of all
        random streams, resumes after a kill, runs the scheduled evaluations (when
        the state has a method ``synthetic``) and stops cleanly on Ctrl-C.

        Args:
            stage: names the loop, unique in the run.
            count: steps in all, those of an interrupted run included.
            state: what a checkpoint must hold to go on.
        """
        ...

    def spent(self, stage: str, seconds: float) -> None:
        """Says what a stage cost that was, in part or whole, done by an earlier run.

        Args:
            stage: of this run, ended.
            seconds: in all.
        """
        ...

    def watch(self, name: str, value: Tensor) -> None:
        """Registers a value that must stay finite and near its size, such as a loss.

        It is read at the next checkpoint or progress report, not at once, so that a
        step does not wait for the device.
        """
        ...


@runtime_checkable
class Run(Stages, Interface):
    """What the harness lends a method for one cell."""

    @property
    def cell(self) -> Cell:
        """What is run: method, data set, images per class and seed."""
        ...

    @property
    def info(self) -> DatasetInfo:
        """The facts of the data set."""
        ...

    @property
    def train(self) -> Split:
        """The real images to distil."""
        ...

    def once(self, name: str, make: Callable[["Run"], State]) -> State:
        """What several cells need: made by the first, read from disk by the others.

        The cost of making it counts for each of them. Two processes that ask at once
        make it once, and after a kill whoever asks next goes on from its checkpoint.

        Args:
            name: of the file in the results folder; must name everything that decides
                the content.
            make: takes a run of the same cell whose random streams derive from
                ``name`` alone.

        Returns:
            What ``make`` returned, its tensors on the CPU.
        """
        ...


class Configured(ABC):
    """What a module of ``methods/`` defines: something with hyper-parameters."""

    Settings: ClassVar[type[Settings]]
    profiled_with: ClassVar[Mapping[str, Any]] = {}
    """Settings in force when steps are timed: they shorten what comes before the steps,
    and a step costs the same."""

    def __init__(self, settings: Any) -> None:
        """Keeps the hyper-parameters in force.

        Args:
            settings: an instance of the class's ``Settings``.
        """
        self.settings = settings

    @classmethod
    def create(cls: type[Made], settings: Mapping[str, Any]) -> Made:
        """Builds an instance from a recipe's settings; raises on an unknown key."""
        return cls(msgspec.convert(dict(settings), cls.Settings))


class Method(Configured):
    """A way to make a synthetic set; one subclass a module of ``methods/``."""

    @abstractmethod
    def distill(self, run: Run) -> SyntheticSet:
        """Makes the set: ``run.cell.ipc`` images of every class, in class order."""


class Reference(Configured):
    """A row of the tables that is no synthetic set: real images, which are not stored.

    It has one cell a data set and seed, of ``ipc`` 0, whatever ``--ipc`` asks for.
    """

    @abstractmethod
    def images(self, run: Run) -> SyntheticSet:
        """The images to train on, by the protocol of the cell."""


def method_class(name: str) -> type[Configured]:
    """What a module of ``methods/`` defines: a ``Method``, or a ``Reference``.

    Raises:
        UsageError: the module defines none, or several.
    """
    module = METHODS.module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method | Reference)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UsageError(f"{module.__name__} defines {len(found)} methods, not one")
    return found[0]


def cell_of(method: str, dataset: str, ipc: int, seed: int = 0) -> Cell:
    """The cell of a method; that of a reference is the same for all ``ipc``."""
    reference = issubclass(method_class(method), Reference)
    return Cell(method, dataset, 0 if reference else ipc, seed)
