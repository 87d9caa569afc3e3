"""The results folder: records, synthetic sets, checkpoints, and who works on what."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from filelock import FileLock

from dcbench_bacon.errors import OutputError, RecordError, UsageError
from dcbench_bacon.runtime.files import (
    is_temporary,
    slug,
    temporary_name,
    write_atomically,
)
from dcbench_bacon.schema import Cell, Record

STALE_SECONDS = 3600.0  # no write takes as long
FOLDERS = (
    *("records", "failures", "timing", "synthetic", "checkpoints", "shared"),
    *("continual", "nas", "figures"),
)


class Store:
    """One results folder.

    A result is known by its cell, the digest of its recipe and the fingerprint of its
    data set, before whitening; so are its set, its checkpoints and its lock, with the
    digest of the distillation for the set and the lock. The fingerprint is None where
    the data are not at hand.

    Args:
        root: holds ``records/``, ``failures/`` (runs that ended without a result),
            ``timing/``, ``synthetic/``, ``checkpoints/`` and ``shared/``: what several
            cells need, such as a trained network.
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
            probe = temporary_name(self.root / "probe")  # no name of a user's
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
        """Removes what a kill in the middle of a write left behind.

        The results folder may be anything, a repository for instance: only names that
        dcbench gives, and only in folders that it makes.
        """
        old = time.time() - STALE_SECONDS
        for name in FOLDERS:
            for path in (self.root / name).rglob(".*.dcbench-tmp"):
                with suppress(FileNotFoundError):  # a neighbour has just renamed it
                    if is_temporary(path) and path.stat().st_mtime < old:
                        path.unlink()

    def record_path(self, cell: Cell, digest: str, fingerprint: str | None) -> Path:
        """Where the record of a cell under a recipe on these images lies."""
        return self.root / "records" / f"{_name(cell, digest, fingerprint)}.json"

    def synthetic_path(self, cell: Cell, digest: str, fingerprint: str | None) -> Path:
        """Where the set of a cell lies; ``digest`` is that of the distillation."""
        name = f"{_name(cell, digest, fingerprint)}.safetensors"
        return self.root / "synthetic" / name

    def checkpoint_folder(
        self, cell: Cell, digest: str, fingerprint: str | None
    ) -> Path:
        """Where the stages of a cell leave their checkpoints."""
        return self.root / "checkpoints" / _name(cell, digest, fingerprint)

    @property
    def shared(self) -> Path:
        """Where what several cells need lies."""
        return self.root / "shared"

    def find(self, cell: Cell, digest: str, fingerprint: str) -> Record | None:
        """Return the finished record of a cell under a recipe on these images.

        Records that were named without a fingerprint are found as well, if they were
        made from these images or do not say from which.

        Returns:
            None if there is none, whatever runs have failed.

        Raises:
            RecordError: there is one, and it cannot be read.
        """
        for named_by in (fingerprint, None):
            path = self.record_path(cell, digest, named_by)
            if path.exists():
                record = read(path)
                made_from = record.dataset_sha256 in (None, fingerprint)
                if made_from and _is_result(record, cell, digest):
                    return record
        return None

    def only(self, cell: Cell, digest: str) -> Record | None:
        """Return the finished record of a cell under a recipe, whatever the images.

        Returns:
            None if there is none, or more than one.
        """
        name = _name(cell, digest, None)
        paths = self.root.joinpath("records").glob(f"{name}*.json")
        found = [record for record in map(_readable, paths) if record]
        found = [each for each in found if _is_result(each, cell, digest)]
        return found[0] if len(found) == 1 else None

    def write(self, record: Record, folder: str | None = None) -> Path:
        """Store a record under its cell, digest and data set.

        One that is not done goes to ``failures`` and leaves the result of before as it
        is. One that is done takes the place of the result and of the failures.

        Args:
            record: what to store.
            folder: ``timing`` for steps that were only timed.
        """
        folder = folder or ("records" if record.status == "done" else "failures")
        name = _name(record.cell, record.digest, record.dataset_sha256)
        path = self.root / folder / f"{name}.json"
        encoded = msgspec.json.format(msgspec.json.encode(record), indent=1)
        write_atomically(path, encoded + b"\n")
        if folder == "records":
            self.forgive(record.cell, record.digest, record.dataset_sha256)
        if folder != "timing" and record.dataset_sha256 is not None:
            self.forgive(record.cell, record.digest, None)
            self._supersede(record)
        return path

    def forgive(self, cell: Cell, digest: str, fingerprint: str | None) -> None:
        """Remove the failure of a cell on these images."""
        path = self.record_path(cell, digest, fingerprint)
        (self.root / "failures" / path.name).unlink(missing_ok=True)

    def _supersede(self, record: Record) -> None:
        """Removes what was named without a fingerprint and has this successor."""
        old = self.record_path(record.cell, record.digest, None)
        before = _readable(old)
        if before is None or before.cell != record.cell:
            return
        same = before.dataset_sha256 in (None, record.dataset_sha256)
        if same and (record.status == "done" or before.status != "done"):
            old.unlink(missing_ok=True)

    def records(
        self, broken: list[RecordError] | None = None, folder: str = "records"
    ) -> Iterator[Record]:
        """All readable records of a folder in the order of their names.

        Args:
            broken: takes the errors of the unreadable ones; without it the first
                is raised.
            folder: ``records``, and the failures with them, or ``timing``.
        """
        folders = ("records", "failures") if folder == "records" else (folder,)
        paths = [path for each in folders for path in (self.root / each).glob("*.json")]
        for path in sorted(paths, key=lambda path: (path.name, path)):
            try:
                yield read(path)
            except RecordError as error:
                if broken is None:
                    raise
                broken.append(error)

    def lock(self, cell: Cell, digest: str, fingerprint: str | None) -> FileLock:
        """A lock on a set and its records that ends with the process, however it ends.

        Args:
            cell: of the set.
            digest: of the distillation: what runs and what evaluates a set, under
                whatever protocol, waits for one another.
            fingerprint: of the data set.
        """
        name = _name(cell, digest, fingerprint)
        return FileLock(self.root / "checkpoints" / f".{name}.lock")

    def names_set(self, sha256: str) -> bool:
        """Return whether any record, readable or not, names a set by its content."""
        folders = ("records", "failures", "continual", "nas")
        paths = (path for each in folders for path in (self.root / each).glob("*.json"))
        return any(sha256.encode() in path.read_bytes() for path in paths)

    def clear(self, cell: Cell, digest: str, fingerprint: str) -> None:
        """Removes the checkpoints of a cell."""
        folder = self.checkpoint_folder(cell, digest, fingerprint)
        shutil.rmtree(folder, ignore_errors=True)


def _name(cell: Cell, digest: str, fingerprint: str | None) -> str:
    """Names the files of a result, without their endings."""
    return "-".join([slug(cell), digest, *([fingerprint[:8]] if fingerprint else [])])


def _is_result(record: Record, cell: Cell, digest: str) -> bool:
    """Whether a record is a finished one of this very cell and recipe."""
    asked = (cell, digest, "done")
    return (record.cell, record.digest, record.status) == asked


def _readable(path: Path) -> Record | None:
    """The record of a file, if there is one and it can be read."""
    try:
        return read(path) if path.exists() else None
    except RecordError:
        return None


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
