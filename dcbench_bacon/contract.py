"""The contract between the harness and the methods.

A method asks ``Run`` for real images, random generators and timed steps, and returns a
``SyntheticSet``.
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

from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.runtime.compute.cuda_graphs import Function, P, T
from dcbench_bacon.schema import Cell, DatasetInfo, Timing

Made = TypeVar("Made", bound="Configured")
State = dict[str, Any]
"""A checkpoint's content: nested dictionaries and lists of tensors and JSON values."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base class of a method's hyper-parameters; subclasses add typed fields.

    Attributes:
        ADDED: the names of fields that a released method has got since. A recipe
            contains them only if they differ from their defaults, so that earlier
            records keep their digests and their cells stay done.
    """

    ADDED: ClassVar[tuple[str, ...]] = ()


@runtime_checkable
class Learner(Interface):
    """The state of a stage, which a checkpoint contains."""

    def state_dict(self) -> State:
        """Return everything that later steps depend on except the random streams."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned; dtypes and devices stay."""
        ...


@runtime_checkable
class Stages(Interface):
    """The random streams and timed stages of a run, for training and evaluation."""

    @property
    def device(self) -> torch.device:
        """The device of the images and of the work."""
        ...

    @property
    def timings(self) -> Mapping[str, Timing]:
        """The cost of the stages that have ended, by name."""
        ...

    def generator(self, purpose: str, device: str | None = None) -> torch.Generator:
        """Return the cell's random stream for one purpose.

        Args:
            purpose: the name of the stream; streams of different names are independent.
            device: ``"cpu"`` for numbers that the host needs; by default the device of
                the run.
        """
        ...

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that times a part of a step, inside its body."""
        ...

    def count(self, images: int) -> None:
        """Add to the number of images that went through a network."""
        ...

    def compiled(self, function: Callable[P, T], flops: float) -> Callable[P, T]:
        """Return the function, compiled if the user allows it and it saves time.

        Args:
            function: a function that takes and returns tensors of few different shapes.
            flops: the floating-point operations of all its calls in the stage.
        """
        ...

    def graphed(self, function: Function) -> Function:
        """Return the function, recorded as a CUDA graph if the work is on a GPU.

        Args:
            function: a function that takes and returns tensors on the run's device, of
                few different shapes. It must not change a tensor, draw random numbers
                or copy values to the host. Other tensors that it reads must stay at
                their addresses.
        """
        ...

    def steps(
        self, stage: str, count: int, state: Learner | None = None
    ) -> Iterator[int]:
        """Yield the indices of the steps that are still to run.

        The loop times each body, shows progress, writes checkpoints of ``state`` and of
        all random streams, resumes after a kill, runs the scheduled evaluations (if the
        state has a method ``synthetic``) and stops cleanly on Ctrl-C.

        Args:
            stage: the name of the loop, unique in the run.
            count: the total number of steps, those of an interrupted run included.
            state: the state that a checkpoint must contain to resume; None if there is
                none besides the random streams.
        """
        ...

    def spent(self, stage: str, seconds: float) -> None:
        """Set the time of a stage that an earlier run did in part or in whole.

        Args:
            stage: the name of a stage of this run that has ended.
            seconds: the total time of the stage.
        """
        ...

    def watch(self, name: str, value: Tensor) -> None:
        """Register a value that must stay finite and not explode, such as a loss.

        The value is read at the next checkpoint or progress report and not immediately,
        so that a step does not wait for the device.
        """
        ...


@runtime_checkable
class Run(Stages, Interface):
    """The services of the harness to a method, for one cell."""

    @property
    def cell(self) -> Cell:
        """The method, the data set, the number of images per class and the seed."""
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
        """Return content that several cells need; only the first cell makes it.

        The other cells read it from disk. The cost of making it is part of the cost of
        each cell. If two processes ask at the same time, one makes it and the other
        waits. After a kill, the next process to ask resumes from the checkpoint.

        Args:
            name: the name of the file in the results folder. It must identify
                everything that decides the content.
            make: a function that makes the content. It receives a run of the same cell,
                whose random streams derive from ``name`` alone.

        Returns:
            The result of ``make``, with its tensors on the CPU.
        """
        ...


class Configured(ABC):
    """The base class of methods and references, which have hyper-parameters."""

    Settings: ClassVar[type[Settings]]
    timed_with: ClassVar[Mapping[str, Any]] = {}
    """The settings that replace others when steps are timed. They shorten the work
    before the steps and do not change the cost of a step."""

    def __init__(self, settings: Any) -> None:
        """Keep the hyper-parameters.

        Args:
            settings: an instance of the class's ``Settings``.
        """
        self.settings = settings

    @classmethod
    def create(cls: type[Made], settings: Mapping[str, Any]) -> Made:
        """Return an instance with the settings of a recipe.

        Raises:
            msgspec.ValidationError: a key is unknown, or a value does not fit.
        """
        return cls(msgspec.convert(dict(settings), cls.Settings))


class Method(Configured):
    """A way to make a synthetic set; one subclass per module of ``methods/``."""

    @abstractmethod
    def distill(self, run: Run) -> SyntheticSet:
        """Return a set of ``run.cell.ipc`` images per class, in class order."""


class Reference(Configured):
    """A row of the tables for real images, which are not stored as a set.

    It has one cell per data set and seed, with ``ipc`` 0 for every value of ``--ipc``.
    """

    @abstractmethod
    def images(self, run: Run) -> SyntheticSet:
        """Return the images to train on under the protocol of the cell."""


def method_class(name: str) -> type[Configured]:
    """Return the ``Method`` or the ``Reference`` that a module of ``methods/`` defines.

    Raises:
        UsageError: the module defines none or several.
    """
    module = METHODS.module(name)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method | Reference)
        and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise UsageError(
            f"{module.__name__} defines {len(classes)} methods, not one; define one "
            "subclass of Method or Reference in it"
        )
    return classes[0]


def cell_of(method: str, dataset: str, ipc: int, seed: int = 0) -> Cell:
    """Return the cell of a method, or of a reference, whose ``ipc`` is always 0."""
    reference = issubclass(method_class(method), Reference)
    return Cell(method, dataset, 0 if reference else ipc, seed)
