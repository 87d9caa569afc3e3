"""The results folder: records, synthetic sets, checkpoints and locks."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_args

import msgspec

from dcbench_bacon import earlier_files
from dcbench_bacon.errors import OutputError, RecordError, UsageError
from dcbench_bacon.field_types import Use
from dcbench_bacon.runtime.disk.files import (
    is_temporary,
    slug,
    temporary_name,
    write_atomically,
)
from dcbench_bacon.runtime.disk.locks import Lock, lock_of
from dcbench_bacon.schema import Cell, Record

STALE_SECONDS = 3600.0  # no write takes this long
FOLDERS = (
    *("records", "failures", "timing", "synthetic", "checkpoints", "shared"),
    *(*get_args(Use), "figures", "inflight"),
)


class Store:
    """A results folder.

    A result is identified by its cell, the digest of its recipe and the fingerprint of
    its data set before whitening. So are its checkpoints, and also its set and its
    lock, but these by the digest of the distillation. The fingerprint is None where the
    data set is not available.

    Args:
        root: the folder, which contains ``records/``, ``failures/`` (runs that ended
            without a result), ``timing/``, ``synthetic/``, ``checkpoints/`` and
            ``shared/`` (content that several cells need, such as a trained network).
    """

    def __init__(self, root: Path) -> None:
        """Keep the path; no folder is made yet."""
        self.root = root

    def open(self) -> "Store":
        """Make the folder, make sure that files can be written to it, and return it.

        Raises:
            UsageError: files cannot be written to it.
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
        """Remove the temporary files of processes that were killed while writing.

        The results folder may also be something else, such as a repository. Therefore
        only files with names that dcbench gives are removed, and only in folders that
        dcbench makes.
        """
        old = time.time() - STALE_SECONDS
        for name in FOLDERS:
            for path in (self.root / name).rglob(".*.dcbench-tmp"):
                with suppress(FileNotFoundError):  # its process has just renamed it
                    if is_temporary(path) and path.stat().st_mtime < old:
                        path.unlink()

    def record_path(self, cell: Cell, digest: str, fingerprint: str | None) -> Path:
        """Return the path of the record of a cell, a recipe and a data set."""
        return self.root / "records" / f"{_name(cell, digest, fingerprint)}.json"

    def synthetic_path(self, cell: Cell, digest: str, fingerprint: str | None) -> Path:
        """Return the path of a set; ``digest`` is the digest of the distillation."""
        name = f"{_name(cell, digest, fingerprint)}.safetensors"
        return self.root / "synthetic" / name

    def checkpoint_folder(
        self, cell: Cell, digest: str, fingerprint: str | None
    ) -> Path:
        """Return the folder of the checkpoints of a cell's stages."""
        return self.root / "checkpoints" / _name(cell, digest, fingerprint)

    @property
    def shared(self) -> Path:
        """The folder of content that several cells need."""
        return self.root / "shared"

    def find(self, cell: Cell, digest: str, fingerprint: str) -> Record | None:
        """Return the finished record of a cell, a recipe and a data set.

        A record that was named without a fingerprint is found as well, if it was made
        from these images or does not contain a fingerprint.

        Returns:
            The record, or None if there is none. Failed runs do not count.

        Raises:
            RecordError: the record cannot be read.
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
        """Return the only finished record of a cell and a recipe, on any images.

        Returns:
            The record, or None if there is none or more than one.
        """
        name = _name(cell, digest, None)
        paths = self.root.joinpath("records").glob(f"{name}*.json")
        records = [record for record in map(_readable, paths) if record]
        records = [result for result in records if _is_result(result, cell, digest)]
        return records[0] if len(records) == 1 else None

    def has_set(self, cell: Cell, digest: str) -> bool:
        """Return whether a set of a cell and a digest of the distillation is stored."""
        name = _name(cell, digest, None)
        return any((self.root / "synthetic").glob(f"{name}*.safetensors"))

    def write(self, record: Record, folder: str | None = None) -> Path:
        """Write a record under its cell, digest and data set, and return its path.

        A record of a failed run is written to ``failures``, and the earlier result
        stays. A record of a finished run replaces the earlier result and removes the
        failures.

        Args:
            record: the record.
            folder: ``timing`` for steps that were only timed; by default ``records`` or
                ``failures``.

        Raises:
            OutputError: the file cannot be written.
            RecordError: its name is taken by the result of another cell or data set.
        """
        folder = folder or ("records" if record.status == "done" else "failures")
        name = _name(record.cell, record.digest, record.dataset_sha256)
        path = self.root / folder / f"{name}.json"
        if folder == "records":
            self.check_name(record.cell, record.digest, record.dataset_sha256)
        encoded = msgspec.json.format(msgspec.json.encode(record), indent=1)
        write_atomically(path, encoded + b"\n")
        if folder == "records":
            self.forgive(record.cell, record.digest, record.dataset_sha256)
        if folder != "timing" and record.dataset_sha256 is not None:
            self.forgive(record.cell, record.digest, None)
            self._supersede(record)
        return path

    def check_name(self, cell: Cell, digest: str, fingerprint: str | None) -> None:
        """Make sure that a result does not have the file name of another result.

        Two data sets whose names differ in special characters, or whose fingerprints
        begin alike, would give one name to two results.

        Raises:
            RecordError: the name is taken by the result of another cell or data set.
        """
        path = self.record_path(cell, digest, fingerprint)
        known = _readable(path)
        if known is None:
            return
        made_from = {known.dataset_sha256, fingerprint} - {None}
        if (known.cell, known.digest) == (cell, digest) and len(made_from) < 2:
            return
        raise RecordError(
            f"{path} is the result of {known.cell}, digest {known.digest}, on the "
            f"images {known.dataset_sha256 or 'of an unknown data set'}; the result of "
            f"{cell}, digest {digest}, on the images {fingerprint} "
            "would have the same name: choose another folder with --output"
        )

    def forgive(self, cell: Cell, digest: str, fingerprint: str | None) -> None:
        """Remove the failure record of a cell, a recipe and a data set."""
        path = self.record_path(cell, digest, fingerprint)
        (self.root / "failures" / path.name).unlink(missing_ok=True)

    def _supersede(self, record: Record) -> None:
        """Remove the record, named without a fingerprint, that this one replaces.

        A record that does not contain a fingerprint may be of other images and stays.
        """
        old = self.record_path(record.cell, record.digest, None)
        before = _readable(old)
        if before is None or before.cell != record.cell:
            return
        same = before.dataset_sha256 == record.dataset_sha256
        if same and (record.status == "done" or before.status != "done"):
            old.unlink(missing_ok=True)

    def records(
        self, broken: list[RecordError] | None = None, folder: str = "records"
    ) -> Iterator[Record]:
        """Yield the readable records of a folder in the order of their names.

        Args:
            broken: receives the errors of unreadable records; without it, the first
                such error is raised.
            folder: ``records``, which includes the failures, or ``timing``.

        Raises:
            RecordError: a record cannot be read, and ``broken`` is None.
        """
        folders = ("records", "failures") if folder == "records" else (folder,)
        paths = [
            path for place in folders for path in (self.root / place).glob("*.json")
        ]
        for path in sorted(paths, key=lambda path: (path.name, path)):
            try:
                yield read(path)
            except RecordError as error:
                if broken is None:
                    raise
                broken.append(error)

    def lock(self, cell: Cell, digest: str, fingerprint: str | None) -> Lock:
        """Return the lock of a set and its records; it ends with the process.

        Args:
            cell: the cell of the set.
            digest: the digest of the distillation, so that processes that make and
                processes that evaluate the set, under any protocol, wait for each
                other.
            fingerprint: the fingerprint of the data set.
        """
        name = _name(cell, digest, fingerprint)
        return lock_of(self.root / "checkpoints" / f".{name}.lock")

    def names_set(self, sha256: str) -> bool:
        """Return whether a record, readable or not, contains the hash of a set."""
        folders = ("records", "failures", *get_args(Use))
        paths = (
            path for folder in folders for path in (self.root / folder).glob("*.json")
        )
        return any(sha256.encode() in path.read_bytes() for path in paths)

    def clear(self, cell: Cell, digest: str, fingerprint: str) -> None:
        """Remove the checkpoints of a cell."""
        folder = self.checkpoint_folder(cell, digest, fingerprint)
        shutil.rmtree(folder, ignore_errors=True)


def _name(cell: Cell, digest: str, fingerprint: str | None) -> str:
    """Return the name of the files of a result, without the suffix."""
    return "-".join([slug(cell), digest, *([fingerprint[:8]] if fingerprint else [])])


def _is_result(record: Record, cell: Cell, digest: str) -> bool:
    """Return whether a record is the finished record of this cell and recipe."""
    asked = (cell, digest, "done")
    return (record.cell, record.digest, record.status) == asked


def _readable(path: Path) -> Record | None:
    """Return the record of a file, or None if it is missing or cannot be read."""
    try:
        return read(path) if path.exists() else None
    except RecordError:
        return None


def read(path: Path) -> Record:
    """Return the record of a file.

    Raises:
        RecordError: the file cannot be read; the message names it and the remedy.
    """
    try:
        return earlier_files.record(path.read_bytes(), Record)
    except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path}: not a record of this version ({error}); delete or move it, and "
            "the cell will run again"
        ) from error
