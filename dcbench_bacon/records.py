"""The results folder: records, synthetic sets, checkpoints, and who works on what."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from dcbench_bacon.errors import OutputError, RecordError, UsageError
from dcbench_bacon.files import write_atomically
from dcbench_bacon.schema import Cell, Record

STALE_SECONDS = 3600.0  # no write takes as long


class Store:
    """One results folder.

    Args:
        root: holds ``records/``, ``timing/``, ``synthetic/``, ``checkpoints/`` and
            ``shared/``: what several cells need, such as a trained network.
    """

    def __init__(self, root: Path) -> None:
        """Remembers the folder; makes nothing yet."""
        self.root = root

    def open(self) -> "Store":
        """Makes the folder and makes sure that it takes files.

        Raises:
            UsageError: it cannot be written to.
        """
        try:
            for name in ("records", "synthetic", "checkpoints"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / ".dcbench"
            write_atomically(probe, b"")
            probe.unlink(missing_ok=True)
            self._sweep()
        except (OSError, OutputError) as error:
            raise UsageError(
                f"cannot write to the output folder {self.root} ({error}); "
                "choose another with --output"
            ) from error
        return self

    def _sweep(self) -> None:
        """Removes what a kill in the middle of a write left behind."""
        old = time.time() - STALE_SECONDS
        for path in self.root.rglob(".*.tmp"):
            with suppress(FileNotFoundError):  # a neighbour has just renamed it
                if path.stat().st_mtime < old:
                    path.unlink()

    def record_path(self, cell: Cell, digest: str) -> Path:
        """Where the record of a cell under a recipe lies."""
        return self.root / "records" / f"{slug(cell)}-{digest}.json"

    def synthetic_path(self, cell: Cell, digest: str) -> Path:
        """Where the set of a cell lies; ``digest`` is that of the distillation."""
        return self.root / "synthetic" / f"{slug(cell)}-{digest}.safetensors"

    def checkpoint_folder(self, cell: Cell, digest: str) -> Path:
        """Where the stages of a cell leave their checkpoints."""
        return self.root / "checkpoints" / f"{slug(cell)}-{digest}"

    @property
    def shared(self) -> Path:
        """Where what several cells need lies."""
        return self.root / "shared"

    def find(self, cell: Cell, digest: str) -> Record | None:
        """The record of a cell, or None when there is none.

        Raises:
            RecordError: there is one, and it cannot be read.
        """
        path = self.record_path(cell, digest)
        return read(path) if path.exists() else None

    def write(self, record: Record, folder: str = "records") -> Path:
        """Stores a record under its cell and digest.

        Args:
            record: what to store.
            folder: ``records``, or ``timing`` for steps that were only timed.
        """
        path = self.root / folder / self.record_path(record.cell, record.digest).name
        encoded = msgspec.json.format(msgspec.json.encode(record), indent=1)
        write_atomically(path, encoded + b"\n")
        return path

    def records(
        self, broken: list[RecordError] | None = None, folder: str = "records"
    ) -> Iterator[Record]:
        """All readable records of a folder in the order of their names.

        Args:
            broken: takes the errors of the unreadable ones; without it the first
                is raised.
            folder: ``records`` or ``timing``.
        """
        for path in sorted((self.root / folder).glob("*.json")):
            try:
                yield read(path)
            except RecordError as error:
                if broken is None:
                    raise
                broken.append(error)

    def lock(self, cell: Cell, digest: str) -> FileLock:
        """A lock on a cell that ends with the process, however it ends."""
        folder = self.root / "checkpoints"
        return FileLock(folder / f".{slug(cell)}-{digest}.lock")

    def forget(self, cell: Cell, digest: str, distillation: str) -> None:
        """Removes all there is of a cell: record, set and checkpoints."""
        self.record_path(cell, digest).unlink(missing_ok=True)
        self.synthetic_path(cell, distillation).unlink(missing_ok=True)
        self.clear(cell, digest)

    def clear(self, cell: Cell, digest: str) -> None:
        """Removes the checkpoints of a cell."""
        shutil.rmtree(self.checkpoint_folder(cell, digest), ignore_errors=True)


def read(path: Path) -> Record:
    """Decodes a record.

    Raises:
        RecordError: the file cannot be read; names it and the remedy.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path}: not a record of this version ({error}); delete or move it, and "
            "the cell will run again"
        ) from error


def acquire(lock: FileLock, patience: float) -> bool:
    """Takes a lock, waiting so many seconds while another process has it."""
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return False
    except OSError as error:
        raise OutputError.of(Path(lock.lock_file), error) from error
    return True


def slug(name: object) -> str:
    """The name of a cell, or of anything, made safe for every file system."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", str(name))
