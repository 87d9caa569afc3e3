"""Failures of cells and files, which are recorded while the others go on."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import format_exception
from typing import Any

from dcbench_bacon.errors import (
    DcbenchError,
    DivergedError,
    InterruptedRunError,
    OutputError,
    UsageError,
)
from dcbench_bacon.runtime.disk.files import slug, write_atomically
from dcbench_bacon.store import Store

MOST_TRACEBACK = 20_000  # most characters of a traceback that a record keeps


def fields_of(error: Exception) -> dict[str, Any]:
    """Return the fields of the record of a cell that ended with an error."""
    return {
        "status": "diverged" if isinstance(error, DivergedError) else "failed",
        "error": message_of(error),
        "traceback": traceback_of(error),
    }


def message_of(error: Exception) -> str:
    """Return an error as a line: its message, after its type if it is not dcbench's."""
    known = isinstance(error, DcbenchError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def traceback_of(error: Exception) -> str:
    """Return the traceback of an error, without its middle if it is very long."""
    text = "".join(format_exception(error))
    if len(text) <= MOST_TRACEBACK:
        return text
    half = MOST_TRACEBACK // 2
    return f"{text[:half]}\n[...]\n{text[-half:]}"


class FileFailures:
    """The files of a command that could not be used; the command goes on without them.

    A file that cannot be read names no cell, so that it has no record. Its error and
    traceback are written to ``failures/NAME-HASH.txt``, where the hash is of its path.

    Args:
        store: the results folder.
        tell: shows a line to the user.
    """

    def __init__(self, store: Store, tell: Callable[[str], None]) -> None:
        """Start without failures."""
        self.store = store
        self.tell = tell
        self.count = 0
        self.unusable = 0  # of these, by the options that were given

    @contextmanager
    def noted(self, path: Path) -> Iterator[None]:
        """Show and record an error about a file, instead of raising it.

        Raises:
            InterruptedRunError: the user or a time budget stopped the command.
            OutputError: results can no longer be written.
        """
        try:
            yield
        except (InterruptedRunError, OutputError):
            raise
        except Exception as error:  # noqa: BLE001 - a decoder can raise anything
            self.unusable += isinstance(error, UsageError)
            self.add(path, message_of(error))
            text = f"{path.absolute()}\n\n{traceback_of(error)}"
            write_atomically(self._note(path), text.encode())

    def add(self, path: Path, message: str) -> None:
        """Show an error about a file and count it."""
        self.count += 1
        about = "" if str(path) in message else f"{path}: "
        self.tell(f"error: {about}{message}")

    def forget(self, path: Path) -> None:
        """Remove the note about a file that is usable by now."""
        self._note(path).unlink(missing_ok=True)

    def status(self, files: int) -> int:
        """Return the exit status of the command.

        Args:
            files: the number of files or sets that the user has named.

        Returns:
            0 if every file was usable, 2 if the options fit none of them, 1 otherwise.
        """
        if not self.count:
            return 0
        if files > 1:
            self.tell(
                f"{self.count} of {files} files failed; see the lines above, and "
                f"{self.store.root / 'failures'}"
            )
        return 2 if self.unusable == files else 1

    def _note(self, path: Path) -> Path:
        place = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:8]
        return self.store.root / "failures" / f"{slug(path.name)}-{place}.txt"
