"""The store of expert trajectories, which MTT matches (Cazenavette et al., CVPR 2022).

An expert is a network in training on real images, and its trajectory is the sequence of
its parameters. Expert ``n`` depends on the real images, the training and ``n`` alone.
All cells therefore share one store, for all images per class and seeds, and more
experts can be added later.

A store is a folder in the user's cache (``~/.cache/dcbench/experts``, or the folder
``DCBENCH_EXPERTS``). It contains one safetensors file per expert, which appears by one
rename when the training of the expert has ended, and ``index.json``, which describes
the experts.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from jaxtyping import Float32
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dcbench_bacon.contract import Run
from dcbench_bacon.data.splits import Split
from dcbench_bacon.errors import OutputError, RecordError
from dcbench_bacon.runtime.disk.caches import EXPERTS
from dcbench_bacon.runtime.disk.files import is_temporary, write_atomically
from dcbench_bacon.runtime.disk.locks import acquire, lock_of
from dcbench_bacon.training.settings import Training

logger = logging.getLogger(__name__)


FORMAT = 1  # raise it when the same training makes other snapshots
INDEX = "index.json"
SNAPSHOTS = "snapshots"  # the tensor of a file, with one row per snapshot


class Index(Struct, frozen=True, kw_only=True):
    """The content of ``index.json``.

    Attributes:
        format: the version of the store's layout.
        dataset: the name of the data set.
        split_sha256: the hash of the images and labels that the experts saw.
        training: how the experts are trained, at a constant learning rate and with
            one more snapshot than epochs.
        device: the type of the device, because types of devices round differently.
        parameters: the number of parameters per expert.
        complete: the number of first experts that a stage has trained to its end.
        seconds: the duration of the training of each expert, by its number.
    """

    format: int
    dataset: str
    split_sha256: str
    training: Training
    device: str
    parameters: int
    complete: int = 0
    seconds: dict[int, float] = {}


class Pair(NamedTuple):
    """Two snapshots of one expert."""

    start: Float32[Tensor, "p"]
    target: Float32[Tensor, "p"]


def size_bytes(experts: int, epochs: int, parameters: int) -> int:
    """Return the bytes on disk of the snapshots of experts, without headers.

    Args:
        experts: the number of experts.
        epochs: the number of epochs per expert.
        parameters: the number of parameters per expert.
    """
    return experts * (epochs + 1) * parameters * 4


def split_sha256(split: Split) -> str:
    """Return the SHA-256 of the images, labels and shape of a train split."""
    return split.sha256(start=f"{split.shape}")


class ExpertStore:
    """The experts of one train split and one training, on disk.

    Args:
        index: the description of the experts before any is trained.
    """

    def __init__(self, index: Index) -> None:
        """Name the store; no file is read or written yet."""
        self.index = index
        encoded = msgspec.json.encode(index, order="sorted")
        self.key = hashlib.sha256(encoded).hexdigest()[:16]
        name = f"{index.dataset}-{index.training.architecture}-{self.key}"
        self.folder = EXPERTS.folder / name

    @classmethod
    def of(cls, run: Run, training: Training, parameters: int) -> "ExpertStore":
        """Return the store of a run's train split and a training.

        Args:
            run: the run, whose train split the experts see.
            training: how the experts are trained.
            parameters: the number of parameters per expert.
        """
        index = Index(
            format=FORMAT,
            dataset=run.info.name,
            split_sha256=split_sha256(run.train),
            training=training,
            device=run.device.type,
            parameters=parameters,
        )
        return cls(index)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other processes that train the same experts, and lock them out.

        Raises:
            OutputError: files cannot be written to the folder.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError.of(self.folder, error) from error
        lock = lock_of(self.folder / ".lock")
        if not acquire(lock, patience=0.0):
            logger.warning("waiting for another process, which trains %s", self.folder)
            lock.acquire()
        try:
            for left in filter(is_temporary, self.folder.iterdir()):
                left.unlink(missing_ok=True)  # left by a process that was killed
            self.index = self._read_index()
            yield
        finally:
            lock.release()

    def path(self, expert: int) -> Path:
        """Return the path of the file of an expert."""
        return self.folder / f"expert-{expert:04d}.safetensors"

    def missing(self, count: int) -> list[int]:
        """Return those of the first ``count`` experts that have no readable file."""
        return [expert for expert in range(count) if not self._readable(expert)]

    def check_room(self, count: int) -> None:
        """Log the disk space that ``count`` more experts need, and make sure of it.

        Raises:
            OutputError: the disk has less space.
        """
        epochs, parameters = self.index.training.epochs, self.index.parameters
        needed = size_bytes(count, epochs, parameters)
        logger.warning(
            "%d experts x %d snapshots x %d parameters x 4 bytes: %.3g GB in %s",
            *(count, epochs + 1, parameters, needed / 1e9, self.folder),
        )
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OutputError(
                f"{self.folder}: the experts need {needed / 1e9:.3g} GB and there are "
                f"{free / 1e9:.3g}; make room, set DCBENCH_EXPERTS to another folder, "
                "or train fewer with --set experts=N"
            )

    def write(
        self, expert: int, snapshots: Float32[Tensor, "s p"], seconds: float
    ) -> None:
        """Write the snapshots of a trained expert, and enter it in the index.

        Args:
            expert: the number of the expert, from 0.
            snapshots: the parameters at the start and after each pass.
            seconds: the duration of the training.

        Raises:
            OutputError: a file cannot be written.
        """
        content = save({SNAPSHOTS: snapshots.contiguous()}, metadata={"key": self.key})
        write_atomically(self.path(expert), content)
        self._write_index(seconds={**self.index.seconds, expert: seconds})

    def finish(self, count: int) -> None:
        """Enter in the index that a stage has trained the first ``count`` experts."""
        if count > self.index.complete:
            self._write_index(complete=count)

    def pair(self, expert: int, start: int, end: int) -> Pair:
        """Return two snapshots of an expert, on the CPU; only these are read.

        Args:
            expert: the number of the expert.
            start: the index of the first snapshot.
            end: the index of the second snapshot.

        Raises:
            RecordError: the file cannot be read.
        """
        try:
            with safe_open(self.path(expert), framework="pt") as file:
                rows = file.get_slice(SNAPSHOTS)
                # Copied because the rows share the file's memory.
                return Pair(rows[start].clone(), rows[end].clone())
        except (SafetensorError, OSError) as error:
            raise RecordError(
                f"{self.path(expert)} cannot be read ({error}); give the same command "
                "again, and the expert will be trained again"
            ) from error

    def origin(self, count: int) -> dict[str, Any]:
        """Return JSON values that describe the first ``count`` experts of a set."""
        epochs, parameters = self.index.training.epochs, self.index.parameters
        spent = [self.index.seconds.get(expert, 0.0) for expert in range(count)]
        return {
            "count": count,
            "key": self.key,
            "training": msgspec.to_builtins(self.index.training),
            "split_sha256": self.index.split_sha256,
            "bytes": size_bytes(count, epochs, parameters),
            "seconds": sum(spent),
        }

    def _readable(self, expert: int) -> bool:
        """Return whether an expert's file is complete; a damaged file is removed."""
        path = self.path(expert)
        if not path.exists():
            return False
        wanted = [self.index.training.epochs + 1, self.index.parameters]
        try:
            with safe_open(path, framework="pt") as file:
                shape = file.get_slice(SNAPSHOTS).get_shape()
                if (file.metadata() or {}).get("key") == self.key and shape == wanted:
                    return True
                reason: object = f"snapshots of shape {shape} or of another training"
        except (SafetensorError, OSError) as error:
            reason = error
        logger.warning("%s is damaged (%s); the expert is trained again", path, reason)
        with suppress(FileNotFoundError):
            path.unlink()
        return False

    def _read_index(self) -> Index:
        """Return the index on disk, or the index of an empty store."""
        try:
            content = (self.folder / INDEX).read_bytes()
            return msgspec.json.decode(content, type=Index)
        except FileNotFoundError:
            return self.index
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("%s is made anew: %s", self.folder / INDEX, error)
            return self.index

    def _write_index(self, **changes: Any) -> None:
        self.index = msgspec.structs.replace(self.index, **changes)
        encoded = msgspec.json.format(msgspec.json.encode(self.index), indent=1)
        write_atomically(self.folder / INDEX, encoded + b"\n")
