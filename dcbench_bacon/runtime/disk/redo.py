"""Requests of ``--fresh``, which are kept on disk until they are fulfilled.

``--fresh`` deletes no result. It writes a request beside the checkpoints of the cell.
As long as the request exists, the cell runs although it has a record. The new record
replaces the old one when it is complete. If the run is stopped or killed, the next
command for the same cell therefore continues it.
"""

import secrets
import shutil
from pathlib import Path

from dcbench_bacon.errors import OutputError
from dcbench_bacon.runtime.disk.files import write_atomically


class Redo:
    """A request to run a finished cell, evaluation or training again.

    Args:
        checkpoints: the folder of its checkpoints; the request is a file beside it.
    """

    def __init__(self, checkpoints: Path) -> None:
        """Keep the paths; no file is read or written yet."""
        self.checkpoints = checkpoints
        self.request = checkpoints.with_name(f"{checkpoints.name}.redo")
        self.served = b""

    def ask(self) -> None:
        """Write a request, which replaces an earlier one.

        This needs no lock: a process that works on the cell continues, and the request
        is for the next process.

        Raises:
            OutputError: the request cannot be written.
        """
        write_atomically(self.request, secrets.token_hex(8).encode())

    def begin(self) -> bool:
        """Return whether the cell must run again; the caller holds the cell's lock.

        Checkpoints from before the request are removed once. Checkpoints that were made
        for the request stay, so that its run resumes after a kill.

        Raises:
            OutputError: the checkpoints cannot be removed.
        """
        try:
            self.served = self.request.read_bytes()
        except FileNotFoundError:
            return False
        begun = self.checkpoints / "request"
        try:
            if not begun.exists() or begun.read_bytes() != self.served:
                if self.checkpoints.exists():
                    shutil.rmtree(self.checkpoints)
                write_atomically(begun, self.served)
        except OSError as error:
            raise OutputError.of(self.checkpoints, error) from error
        return True

    def end(self) -> None:
        """Remove the request that ``begin`` found; a later request stays."""
        try:
            if self.served and self.request.read_bytes() == self.served:
                self.request.unlink()
        except FileNotFoundError:
            pass
