"""Files that are written completely or not at all."""

import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from dcbench_bacon.errors import OutputError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.dcbench-tmp")


def cache_root() -> Path:
    """Return the folder of all caches, which may not exist yet: ``DCBENCH_CACHE``."""
    chosen = os.environ.get("DCBENCH_CACHE")
    return Path(chosen).expanduser() if chosen else user_folder()


def cache_folder(name: str) -> Path:
    """Return the path of one cache, which may not exist yet."""
    return cache_root() / name


def user_folder() -> Path:
    """Return the folder of dcbench among the user's caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "dcbench"


def existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder is or will be on."""
    return shutil.disk_usage(existing(folder)).free


def temporary_name(path: Path) -> Path:
    """Return a new path beside ``path`` that no other process will choose."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.dcbench-tmp")


def is_temporary(path: Path) -> bool:
    """Return whether a path is a file whose name is from ``temporary_name``."""
    return bool(_TEMPORARY.fullmatch(path.name)) and path.is_file()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary file, which is flushed to disk and renamed.

    Args:
        path: the file; its folder is made if it is missing.
        content: the new content.

    Raises:
        OutputError: the file cannot be written; ``path`` is unchanged.
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
        with suppress(OSError):  # it is renamed by now, unless the write failed
            temporary.unlink()


def printable(name: str) -> str:
    """Return a name without control characters and bytes that are no text.

    They are replaced by their escapes, so that names stay different.
    """
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def slug(name: object) -> str:
    """Return a name with characters that are safe on every file system."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", str(name))
