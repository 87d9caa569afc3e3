"""Locks that end with their process."""

from pathlib import Path

from filelock import FileLock, Timeout

from dcbench_bacon.errors import OutputError


def acquire(lock: FileLock, patience: float) -> bool:
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
