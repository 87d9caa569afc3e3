"""Locks that end with their process.

They are those of the file system, which hold across machines on NFS 4 and on most other
shared file systems. A process can be told to use others where they do not.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from dcbench_bacon.errors import OutputError


class Lock(Protocol):
    """A lock, which a file stands for."""

    @property
    def lock_file(self) -> str:
        """The path of the file."""
        ...

    def acquire(self, timeout: float = -1) -> object:
        """Take the lock.

        Args:
            timeout: seconds to wait for it; negative for as long as it takes.

        Raises:
            Timeout: another process has it.
            OSError: the file cannot be written.
        """
        ...

    def release(self) -> None:
        """Give the lock back."""
        ...


MakeLock = Callable[[Path], Lock]
_kind: list[MakeLock] = [FileLock]  # the kind in use


def lock_of(path: Path) -> Lock:
    """Return the lock that a file stands for."""
    return _kind[-1](path)


def use(kind: MakeLock) -> None:
    """Let another kind of lock serve this process from now on."""
    _kind[:] = [kind]


def acquire(lock: Lock, patience: float) -> bool:
    """Return whether a lock was acquired within ``patience`` seconds.

    Raises:
        OutputError: the lock file cannot be written.
    """
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return False
    except OSError as error:
        raise OutputError.of(Path(lock.lock_file), error) from error
    return True


def holder(lock: Lock) -> str:
    """Return who holds a lock, as far as this machine knows.

    Returns:
        The number of the process and its command, or ``another process`` if it runs on
        another machine or the system does not list its locks.
    """
    with suppress(OSError, ValueError):
        place = Path(lock.lock_file).stat()
        device = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}"
        for line in Path("/proc/locks").read_text().splitlines():
            number, file = line.replace("-> ", "").split()[4:6]
            if file == f"{device}:{place.st_ino}" and "->" not in line:
                return f"process {number}{_command(number)}"
    return "another process"


def _command(process: str) -> str:
    """Return the command of a process of this machine in brackets, if it is known."""
    with suppress(OSError):
        words = Path("/proc", process, "cmdline").read_bytes().split(b"\0")
        text = " ".join(Path(word.decode(errors="replace")).name for word in words[:3])
        return f" ({text.strip()} ...)"
    return ""
