"""The records of the downstream uses of sets. This module does not import torch.

Each record contains the networks of one training: on the memory of one stage of
continual learning, or on one set with one candidate of an architecture search. Its file
is named by a digest of everything that decides its numbers. A changed set, data set or
recipe therefore makes another file, and a finished training is found again.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any, ClassVar, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from dcbench_bacon import earlier_files
from dcbench_bacon.errors import RecordError
from dcbench_bacon.field_types import Preset, Use, more_reduced
from dcbench_bacon.protocol import LATER_FIELDS
from dcbench_bacon.runtime.disk import files
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.runtime.disk.locks import Lock, lock_of
from dcbench_bacon.runtime.disk.redo import Redo
from dcbench_bacon.schema import Cell, Environment, Evaluation, Recipe
from dcbench_bacon.store import Store


class SetIdentity(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The properties of a synthetic set that the numbers depend on.

    Attributes:
        cell: the cell that made the set.
        recipe: eight hex digits that identify how the set was distilled.
        preset: the preset of the recipe that it was distilled with; in files, this
            field is called ``profile``.
        sha256: the hash of its images, labels and partition.
        name: the name that tables print instead of the method, for a set from a file of
            another tool; empty, and not in the record, for others and older records.
    """

    cell: Cell
    recipe: str
    preset: Preset = field(name="profile")
    sha256: str
    name: str = ""

    @property
    def method(self) -> str:
        """The name of the set in tables."""
        return self.name or self.cell.method

    @property
    def made(self) -> str:
        """Eight hex digits that identify how the set was made.

        A set of another tool has no recipe, so that its content identifies it.
        """
        return self.recipe or self.sha256[:8]


class Trained(Struct, frozen=True, kw_only=True):
    """Networks trained on the same images, or the plan of such a training.

    Attributes:
        version: the version of this layout.
        dataset: the name of the data set that they are tested on.
        dataset_sha256: the hash of the pixels and labels of train and test.
        source: the set that they are trained on; None for the whole train split.
        recipe: how they are trained; its settings are those of the downstream use.
        evaluations: one evaluation per network; empty in a plan.
        environment: the software and the machine; None in a plan.
    """

    version: Literal[2] = 2
    dataset: str
    dataset_sha256: str
    source: SetIdentity | None
    recipe: Recipe
    evaluations: tuple[Evaluation, ...] = ()
    environment: Environment | None = None

    MEASURED: ClassVar[tuple[str, ...]] = ()  # further fields that a plan lacks

    @property
    def label(self) -> str:
        """The name of the training, from which every random stream derives."""
        return str(self.source.cell) if self.source else f"{self.dataset}-whole"

    @property
    def preset(self) -> str:
        """The preset of the set or of the recipe, whichever is more reduced."""
        of_set = self.source.preset if self.source else "paper"
        return more_reduced(self.recipe.preset, of_set)

    @property
    def digest(self) -> str:
        """Twelve hex digits that identify everything that decides the evaluations."""
        recipe = msgspec.structs.replace(self.recipe, overrides={})
        measured: dict[str, None] = dict.fromkeys(self.MEASURED)
        plan = msgspec.structs.replace(
            self, recipe=recipe, evaluations=(), environment=None, **measured
        )
        content = msgspec.to_builtins(plan)
        protocol = earlier_files.first_protocol(self.recipe.protocol, LATER_FIELDS)
        del content["recipe"]["version"]
        content["recipe"]["protocol"] = protocol
        content["version"] = 1
        encoded = msgspec.json.encode(content, order="sorted")
        return hashlib.sha256(encoded).hexdigest()[:12]


class Stage(Trained, frozen=True, kw_only=True):
    """One stage of class-incremental learning.

    Attributes:
        order: the index of the order in which classes arrive, from 0.
        classes: the indices of the classes that have arrived, in that order.
    """

    order: int
    classes: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name of the training: its set, order and stage."""
        tasks = self.recipe.settings["tasks"]
        return f"{super().label}-t{tasks}-o{self.order}-k{len(self.classes)}"


class Candidate(Trained, frozen=True, kw_only=True):
    """One architecture of an architecture search.

    ``Evaluation.validation`` is the accuracy on the half of the test images by which
    architectures are ranked, and ``accuracy`` is the accuracy on the other half.

    Attributes:
        architecture: the name of the network.
    """

    architecture: str

    @property
    def label(self) -> str:
        """The name of the training: its set and network."""
        return f"{super().label}-{self.architecture}"


class Slimmed(Trained, frozen=True, kw_only=True, omit_defaults=True):
    """The recovery of one pruned network on a set.

    Attributes:
        architecture: the name of the network before pruning.
        ratio: the share of the channels that was removed, in (0, 1).
        network: the number of the network that was trained on real images, from 0.
        whole_accuracy: the test accuracy of the unpruned network, in [0, 1]; None in a
            plan.
        pruned_accuracy: that of the pruned network before recovery; None in a plan.
        pruned_share: the share of the parameters that was removed; None in a plan.
    """

    architecture: str
    ratio: float
    network: int
    whole_accuracy: float | None = None
    pruned_accuracy: float | None = None
    pruned_share: float | None = None

    MEASURED: ClassVar = ("whole_accuracy", "pruned_accuracy", "pruned_share")

    @property
    def label(self) -> str:
        """The name of the training: its set, network and ratio."""
        where = f"{super().label}-{self.architecture}-n{self.network}"
        return f"{where}-r{self.ratio:g}"


R = TypeVar("R", bound=Trained)


class Folder(Generic[R]):
    """The folder with the records of one downstream use.

    Args:
        store: the results folder that contains it.
        name: the name of the folder: ``continual``, ``nas`` or ``slim``.
        kind: the type of the records.
    """

    def __init__(self, store: Store, name: str, kind: type[R]) -> None:
        """Keep the arguments; no folder is made yet."""
        self.root = store.root
        self.name = name
        self.kind = kind

    def path(self, plan: R) -> Path:
        """Return the path of the record of a plan."""
        return self.root / self.name / f"{self._slug(plan)}.json"

    def checkpoint_folder(self, plan: R) -> Path:
        """Return the folder of the checkpoints of a plan's training."""
        return self.root / "checkpoints" / f"{self.name}-{self._slug(plan)}"

    def lock(self, plan: R) -> Lock:
        """Return the lock of a plan's training; it ends with the process."""
        folder = self.checkpoint_folder(plan)
        return lock_of(folder.with_name(f".{folder.name}.lock"))

    def find(self, plan: R) -> R | None:
        """Return the record of a plan, or None if there is none.

        Raises:
            RecordError: the record cannot be read.
        """
        path = self.path(plan)
        return self._read(path) if path.exists() else None

    def write(self, record: R) -> None:
        """Write a record, which replaces an earlier one.

        Raises:
            OutputError: the file cannot be written.
        """
        encoded = msgspec.json.format(msgspec.json.encode(record), indent=1)
        write_atomically(self.path(record), encoded + b"\n")

    def redo(self, plan: R) -> Redo:
        """Return the request to run a finished training again."""
        return Redo(self.checkpoint_folder(plan))

    def clear(self, plan: R) -> None:
        """Remove the checkpoints of a plan's training."""
        rmtree(self.checkpoint_folder(plan), ignore_errors=True)

    def records(self, broken: list[RecordError]) -> Iterator[R]:
        """Yield the readable records in the order of their names.

        Args:
            broken: receives the errors of the unreadable records.
        """
        for path in sorted((self.root / self.name).glob("*.json")):
            try:
                yield self._read(path)
            except RecordError as error:
                broken.append(error)

    def _slug(self, plan: R) -> str:
        return f"{files.slug(plan.label)}-{plan.digest}"

    def _read(self, path: Path) -> R:
        try:
            return earlier_files.record(path.read_bytes(), self.kind)
        except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
            raise RecordError(
                f"{path}: not a record of this version ({error}); delete or move it, "
                "and the networks will be trained again"
            ) from error


def continual_folder(store: Store) -> Folder[Stage]:
    """Return the folder with the records of ``dcbench continual``."""
    return Folder(store, "continual", Stage)


def search_folder(store: Store) -> Folder[Candidate]:
    """Return the folder with the records of ``dcbench nas``."""
    return Folder(store, "nas", Candidate)


def slimming_folder(store: Store) -> Folder[Slimmed]:
    """Return the folder with the records of ``dcbench slim``."""
    return Folder(store, "slim", Slimmed)


_KINDS: dict[Use, type[Trained]] = {
    "continual": Stage,
    "nas": Candidate,
    "slim": Slimmed,
}


def folder_of(store: Store, use: Use) -> Folder[Any]:
    """Return the folder with the records of a use."""
    return Folder(store, use, _KINDS[use])
