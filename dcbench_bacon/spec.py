"""The contract between the harness, the methods and the data sets.

A method is plain code over the harness's steps: it asks ``Run`` for real images,
generators and the clock, and returns a ``SyntheticSet``. The structs that reach the
disk live in ``schema`` and are named here too, so that a plug-in imports one module.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar, runtime_checkable
from typing import Protocol as Interface

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from msgspec import Struct
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.graphs import Function, P, T
from dcbench_bacon.schema import Cell, DatasetInfo, Evaluation, Protocol, Timing

__all__ = [
    "Cell",
    "Configured",
    "DatasetInfo",
    "Evaluation",
    "Learner",
    "Method",
    "Protocol",
    "Reference",
    "Run",
    "Settings",
    "Split",
    "Stages",
    "State",
    "SyntheticSet",
]

Made = TypeVar("Made", bound="Configured")
State = dict[str, Any]
"""Nested dictionaries and lists of tensors and JSON values: a checkpoint's content."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a method's hyper-parameters; subclasses add typed fields."""


@dataclass(frozen=True)
class Split:
    """Images and labels of train or test, resident on one device.

    Attributes:
        images: pixels as they are on disk, 0 to 255; or whitened.
        labels: class indices.
    """

    images: UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class SyntheticSet:
    """What a method returns, what is saved and what is evaluated.

    Attributes:
        images: normalised with the data set's mean and std.
        labels: rows sum to 1; a hard label is one-hot.
        partition: each image holds ``partition**2`` smaller ones (IDM, section 3.2).
        provenance: JSON values that say where the set comes from.
    """

    images: Float32[Tensor, "m c h w"]
    labels: Float32[Tensor, "m k"]
    partition: int = 1
    provenance: dict[str, Any] = field(default_factory=dict)

    def decode(self) -> "SyntheticSet":
        """Cuts every image into its parts and enlarges them to the full size.

        Returns:
            A set of ``partition**2`` times as many images, ordered part by part: all
            top-left parts, all bottom-left, all top-right, all bottom-right.
        """
        if self.partition == 1:
            return self
        return replace(
            self,
            images=decode(self.images, self.partition),
            labels=self.labels.repeat(self.partition**2, 1),
            partition=1,
        )

    def to(self, device: torch.device) -> "SyntheticSet":
        """The same set on another device."""
        return replace(
            self, images=self.images.to(device), labels=self.labels.to(device)
        )


def decode(
    images: Float[Tensor, "n c h w"], partition: int
) -> Float[Tensor, "m c h w"]:
    """Cuts images into ``partition**2`` parts, each enlarged bilinearly (IDM, 3.2).

    Args:
        images: the stored images; gradients flow through.
        partition: parts along each side; must divide the size.

    Returns:
        The parts, columns outermost: for 2, all TL, then all BL, all TR, all BR.
    """
    if partition == 1:
        return images
    *_, height, width = images.shape
    rows, columns = height // partition, width // partition
    parts = [
        images[..., y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
        for x in range(partition)
        for y in range(partition)
    ]
    return F.interpolate(
        torch.cat(parts), size=(height, width), mode="bilinear", align_corners=False
    )


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
        import msgspec

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
