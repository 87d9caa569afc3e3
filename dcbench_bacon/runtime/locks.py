"""Locks that end with their process."""

from pathlib import Path

from filelock import FileLock, Timeout

from dcbench_bacon.errors import OutputError


def acquire(lock: FileLock, patience: float) -> bool:
    """Takes a lock, waiting so many seconds while another process has it."""
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return False
    except OSError as error:
        raise OutputError.of(Path(lock.lock_file), error) from error
    return True
