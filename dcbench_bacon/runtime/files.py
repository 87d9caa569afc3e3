"""Files that are there whole or not at all."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from dcbench_bacon.errors import OutputError

pass


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.dcbench-tmp")


def cache_folder(name: str) -> Path:
    """A folder in the user's cache, which may not exist yet."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "dcbench" / name


def temporary_name(path: Path) -> Path:
    """Return a new name beside ``path``, which no other process will choose."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.dcbench-tmp")


def is_temporary(path: Path) -> bool:
    """Return whether ``temporary_name`` gave this name, to a file that is one."""
    return bool(_TEMPORARY.fullmatch(path.name)) and path.is_file()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a temporary file beside ``path``, flushes it to disk and renames it.

    Raises:
        OutputError: the file cannot be written; ``path`` is as it was.
    """
    temporary = temporary_name(path)
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


def slug(name: object) -> str:
    """The name of a cell, or of anything, made safe for every file system."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", str(name))
