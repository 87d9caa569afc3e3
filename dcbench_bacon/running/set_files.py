"""The files of synthetic sets in the results folder, when a set is made anew.

Records name their set by its content (``synthetic_sha256``). A file whose set a record
names is never lost: a new set takes its place, and the earlier file is kept beside it
until no record names that set any more.
"""

from pathlib import Path

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.errors import RecordError
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.store import Store


def replace(path: Path, made: Path) -> None:
    """Put a new set in the place of the set in use, which is kept if it differs.

    At every moment both sets are complete on disk.

    Args:
        path: the file of the set in use.
        made: the file of the new set, which is not removed.
    """
    old = _sha256(path)
    if old is not None and old != _sha256(made):
        kept = path.with_name(f"{path.stem}-{old[:8]}{path.suffix}")
        write_atomically(kept, path.read_bytes())
    write_atomically(path, made.read_bytes())


def tidy(store: Store, path: Path) -> None:
    """Remove the sets kept beside ``path`` that no record names."""
    for kept in path.parent.glob(f"{path.stem}-????????{path.suffix}"):
        sha256 = _sha256(kept)
        if sha256 is not None and not store.names_set(sha256):
            kept.unlink(missing_ok=True)


def _sha256(path: Path) -> str | None:
    """Return the sha256 of the set in a file; None if no set can be read from it."""
    try:
        return (
            synthetic_file.digest(synthetic_file.read(path)) if path.exists() else None
        )
    except RecordError:
        return None
