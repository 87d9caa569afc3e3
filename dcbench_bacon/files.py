"""Files that are there whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from dcbench_bacon.errors import OutputError


def cache_folder(name: str) -> Path:
    """A folder in the user's cache, which may not exist yet."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "dcbench" / name


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a temporary file beside ``path``, flushes it to disk and renames it.

    Raises:
        OutputError: the file cannot be written; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError.of(path, error) from error
    finally:
        with suppress(OSError):  # renamed by now, unless the write failed
            temporary.unlink()
