"""What ``--fresh`` asks for, kept on disk until it is done.

Nothing is deleted to make a cell run anew. A request lies beside the checkpoints of the
cell; while it does, the cell runs although it has a record, and its new record takes
the place of the old one when it is complete. A run that is stopped or killed is
therefore gone on with by any later command for the same cell.
"""

import secrets
import shutil
from pathlib import Path

from dcbench_bacon.errors import OutputError
from dcbench_bacon.runtime.files import write_atomically


class Redo:
    """The request to run a finished cell, evaluation or training anew.

    Args:
        checkpoints: their folder, by which the request is known.
    """

    def __init__(self, checkpoints: Path) -> None:
        """Reads and writes nothing yet."""
        self.checkpoints = checkpoints
        self.request = checkpoints.with_name(f"{checkpoints.name}.redo")
        self.served = b""

    def ask(self) -> None:
        """Leave a request; one that was left before is replaced by it.

        This needs no lock: a process that is at work on the cell goes on, and the
        request is for the next one.

        Raises:
            OutputError: it cannot be written.
        """
        write_atomically(self.request, secrets.token_hex(8).encode())

    def begin(self) -> bool:
        """Return whether the cell is to be run anew; the caller holds its lock.

        Checkpoints of before the request are removed, once; those that were made for
        it stay, so that its run goes on after a kill.

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
        """Remove the request that ``begin`` found; one that came later stays."""
        try:
            if self.served and self.request.read_bytes() == self.served:
                self.request.unlink()
        except FileNotFoundError:
            pass
