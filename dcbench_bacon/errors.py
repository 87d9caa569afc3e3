"""Errors that a user can mend: each message names the thing and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def guess(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names as a question; nothing if none is near."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class DcbenchError(Exception):
    """Base of all errors that are shown without a traceback."""


class UsageError(DcbenchError):
    """An option, a name or a recipe key is wrong; nothing has run."""


class DataError(DcbenchError):
    """A data set is missing, incomplete or not what its facts say."""


class RecordError(DcbenchError):
    """A record or a synthetic set on disk cannot be read."""


class DivergedError(DcbenchError):
    """A loss or an image stopped being finite."""


class InterruptedRunError(DcbenchError):
    """The user pressed Ctrl-C, or a time budget is spent; the state is on disk.

    Args:
        message: where the run stopped.
        kept: what became of the work that was done.
        noted: whether what ``--fresh`` asks for is on disk as well, so that the same
            command without it goes on.
    """

    def __init__(
        self, message: str, *, kept: str = "nothing is lost", noted: bool = True
    ) -> None:
        """Takes what the user is to be told."""
        super().__init__(message)
        self.kept = kept
        self.noted = noted


class OutputError(DcbenchError):
    """Results cannot be written: the disk is full, or the folder is gone."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "OutputError":
        """The error of writing a file, with what to do."""
        return cls(
            f"{path}: {error.strerror or error}; make room or choose another folder "
            "with --output, then give the same command again"
        )
