"""What the downstream uses of sets leave on disk; no torch is imported here.

Each record holds the networks of one training: on the memory of one stage of continual
learning, or on one set with one candidate of an architecture search. Its file is named
by a digest of all that decides its numbers, so that a changed set, data set or recipe
is another file and a finished training is found again.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Generic, Literal, TypeVar

import msgspec
from filelock import FileLock
from msgspec import Struct

from dcbench_bacon.errors import RecordError
from dcbench_bacon.field_types import Profile, more_reduced
from dcbench_bacon.runtime import files
from dcbench_bacon.runtime.files import write_atomically
from dcbench_bacon.runtime.redo import Redo
from dcbench_bacon.schema import Cell, Environment, Evaluation, Recipe
from dcbench_bacon.store import Store


class SetIdentity(Struct, frozen=True, kw_only=True):
    """A synthetic set, as far as its numbers depend on it.

    Attributes:
        cell: what it was made as.
        recipe: eight hex digits that identify how it was distilled.
        profile: of the recipe it was distilled with.
        sha256: of its images, labels and partition.
    """

    cell: Cell
    recipe: str
    profile: Profile
    sha256: str


class Trained(Struct, frozen=True, kw_only=True):
    """Networks trained on the same images; without evaluations a plan.

    Attributes:
        dataset: the data set they were tested on.
        dataset_sha256: of the pixels and labels of train and test.
        source: the set they were trained on; None for the whole train split.
        recipe: how they were trained; its settings are those of the use.
        evaluations: one a network.
        environment: where.
    """

    version: Literal[1] = 1
    dataset: str
    dataset_sha256: str
    source: SetIdentity | None
    recipe: Recipe
    evaluations: tuple[Evaluation, ...] = ()
    environment: Environment | None = None

    @property
    def label(self) -> str:
        """Names the training; every random stream derives from it."""
        return str(self.source.cell) if self.source else f"{self.dataset}-whole"

    @property
    def profile(self) -> str:
        """The more reduced one of the set's profile and the recipe's."""
        own = self.source.profile if self.source else "paper"
        return more_reduced(self.recipe.profile, own)

    @property
    def digest(self) -> str:
        """Twelve hex digits that identify all that decides the evaluations."""
        recipe = msgspec.structs.replace(self.recipe, overrides={})
        plan = msgspec.structs.replace(
            self, recipe=recipe, evaluations=(), environment=None
        )
        encoded = msgspec.json.encode(plan, order="sorted")
        return hashlib.sha256(encoded).hexdigest()[:12]


class Stage(Trained, frozen=True, kw_only=True):
    """One stage of class-incremental learning.

    Attributes:
        order: which of the orders in which classes arrive.
        classes: those that have arrived, in their order.
    """

    order: int
    classes: tuple[int, ...]

    @property
    def label(self) -> str:
        """Names set, order and stage."""
        tasks = self.recipe.settings["tasks"]
        return f"{super().label}-t{tasks}-o{self.order}-k{len(self.classes)}"


class Candidate(Trained, frozen=True, kw_only=True):
    """One architecture of a search.

    ``Evaluation.validation`` is the accuracy on the half of the test images that
    architectures are ranked by, ``accuracy`` that on the other half.

    Attributes:
        architecture: the network.
    """

    architecture: str

    @property
    def label(self) -> str:
        """Names set and network."""
        return f"{super().label}-{self.architecture}"


R = TypeVar("R", bound=Trained)


class Folder(Generic[R]):
    """The records of one use, in a folder of the results.

    Args:
        store: the results folder.
        name: of the folder in it: ``continual`` or ``nas``.
        kind: of the records.
    """

    def __init__(self, store: Store, name: str, kind: type[R]) -> None:
        """Makes nothing yet."""
        self.root = store.root
        self.name = name
        self.kind = kind

    def path(self, plan: R) -> Path:
        """Where the record of a plan lies."""
        return self.root / self.name / f"{self._slug(plan)}.json"

    def checkpoint_folder(self, plan: R) -> Path:
        """Where the training leaves its checkpoints."""
        return self.root / "checkpoints" / f"{self.name}-{self._slug(plan)}"

    def lock(self, plan: R) -> FileLock:
        """A lock on a training that ends with the process, however it ends."""
        folder = self.checkpoint_folder(plan)
        return FileLock(folder.with_name(f".{folder.name}.lock"))

    def find(self, plan: R) -> R | None:
        """The record of a plan, or None when there is none.

        Raises:
            RecordError: there is one, and it cannot be read.
        """
        path = self.path(plan)
        return self._read(path) if path.exists() else None

    def write(self, record: R) -> None:
        """Stores a record, in the place of the one of before if there is one."""
        encoded = msgspec.json.format(msgspec.json.encode(record), indent=1)
        write_atomically(self.path(record), encoded + b"\n")

    def redo(self, plan: R) -> Redo:
        """The request to train anew what has a record."""
        return Redo(self.checkpoint_folder(plan))

    def clear(self, plan: R) -> None:
        """Removes the checkpoints of a training."""
        rmtree(self.checkpoint_folder(plan), ignore_errors=True)

    def records(self, broken: list[RecordError]) -> Iterator[R]:
        """All readable records in the order of their names.

        Args:
            broken: takes the errors of the others.
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
            return msgspec.json.decode(path.read_bytes(), type=self.kind)
        except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
            raise RecordError(
                f"{path}: not a record of this version ({error}); delete or move it, "
                "and the networks will be trained again"
            ) from error


def continual_folder(store: Store) -> Folder[Stage]:
    """The records of ``dcbench continual``."""
    return Folder(store, "continual", Stage)


def search_folder(store: Store) -> Folder[Candidate]:
    """The records of ``dcbench nas``."""
    return Folder(store, "nas", Candidate)
