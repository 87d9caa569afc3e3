"""Errors that a user can mend: each message names the thing and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def guess(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as a question, or an empty text if none is near."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class DcbenchError(Exception):
    """Base of all errors that are shown without a traceback."""


class UsageError(DcbenchError):
    """An option, a name or a recipe key is wrong. Nothing has run."""


class DataError(DcbenchError):
    """A data set is missing, incomplete or different from its stated facts."""


class RecordError(DcbenchError):
    """A record or a synthetic set on disk cannot be read."""


class DivergedError(DcbenchError):
    """A loss or an image stopped being finite."""


class InterruptedRunError(DcbenchError):
    """The user pressed Ctrl-C, or the time budget is spent; the state is on disk.

    Args:
        message: the place where the run stopped.
        kept: what has become of the finished work, for the message to the user.
        noted: whether the request of ``--fresh`` is on disk as well, so that the same
            command without ``--fresh`` continues the run.
    """

    def __init__(
        self, message: str, *, kept: str = "nothing is lost", noted: bool = True
    ) -> None:
        """Keep what the user is told about the finished work."""
        super().__init__(message)
        self.kept = kept
        self.noted = noted


class OutputError(DcbenchError):
    """Results cannot be written, because the disk is full or the folder is gone."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "OutputError":
        """Return the error for a file that cannot be written, with the remedy."""
        return cls(
            f"{path}: {error.strerror or error}; make room or choose another folder "
            "with --output, then give the same command again"
        )
