"""The files of synthetic sets in the results folder, when a set is made anew.

Records name their set by its content (``synthetic_sha256``). A file whose set a record
names is never lost: a new set takes its place, and the earlier file is kept beside it
until no record names that set any more.
"""

from pathlib import Path

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import RecordError
from dcbench_bacon.recipes.digests import distillation_digest
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store


def replace(path: Path, new: Path) -> None:
    """Put a new set in the place of the set in use, which is kept if it differs.

    At every moment both sets are complete on disk.

    Args:
        path: the file of the set in use.
        new: the file of the new set, which is not removed.
    """
    old = _sha256(path)
    if old is not None and old != _sha256(new):
        write_atomically(_kept(path, old), path.read_bytes())
    write_atomically(path, new.read_bytes())


def tidy(store: Store, path: Path) -> None:
    """Remove the sets kept beside ``path`` that no record names."""
    for kept in path.parent.glob(f"{path.stem}-????????{path.suffix}"):
        sha256 = _sha256(kept)
        if sha256 is not None and not store.names_set(sha256):
            kept.unlink(missing_ok=True)


def of_record(store: Store, record: Record) -> tuple[Path, SyntheticSet] | None:
    """Return the set that a record is of, with its file; None if it is not there.

    Args:
        store: the results folder of the record.
        record: the record. An older one that does not name its set by content is of the
            set in use.

    Raises:
        RecordError: a file cannot be read.
    """
    digest = distillation_digest(record.recipe)
    path = store.synthetic_path(record.cell, digest, record.dataset_sha256)
    asked = record.synthetic_sha256
    for file in [path, *([_kept(path, asked)] if asked else [])]:
        if file.exists():
            synthetic = synthetic_file.read(file)
            if asked in (None, synthetic_file.digest(synthetic)):
                return file, synthetic
    return None


def _kept(path: Path, sha256: str) -> Path:
    """Return where a set is kept after another took its place."""
    return path.with_name(f"{path.stem}-{sha256[:8]}{path.suffix}")


def _sha256(path: Path) -> str | None:
    """Return the sha256 of the set in a file; None if no set can be read from it."""
    try:
        return (
            synthetic_file.digest(synthetic_file.read(path)) if path.exists() else None
        )
    except RecordError:
        return None
