"""Errors that a user can mend: each message names the thing and the remedy."""

import errno
import re
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple


def guess(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as a question, or an empty text if none is near."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def reason_of(error: BaseException) -> str:
    """Return why something failed, in words for a user.

    The addresses of objects in memory are left out, and a reason without words is
    replaced by the kind of the error.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(
        re.sub(r"<[^<>]* object at 0x[0-9a-fA-F]+>", "", str(error)).split()
    )
    if type(error).__name__ == "UnidentifiedImageError":
        return "no picture in a format that is read"
    if isinstance(error, OSError | ValueError) and text:
        return text
    name = type(error).__name__
    return f"{name}: {text}" if text else name


class DcbenchError(Exception):
    """Base of all errors that are shown without a traceback."""


class UsageError(DcbenchError):
    """An option, a name or a recipe key is wrong. Nothing has run."""


def unknown(kind: str, name: str, known: Iterable[str], more: str = "") -> UsageError:
    """Return the error about a name that does not exist.

    Args:
        kind: what the name should be of, such as ``method``.
        name: the name as typed.
        known: the names that exist; the message has the nearest one, and all of them.
        more: is appended to the message.
    """
    names = list(known)
    listed = ", ".join(names)
    near = guess(name, names)
    return UsageError(f"unknown {kind} {name!r}.{near} There are: {listed}{more}")


class Question(NamedTuple):
    """A fact about a file that the user must state, or had better state.

    Attributes:
        option: the option that states it, with its choices.
        why: what was seen, and what the choices mean.
        answer: the option with a value that is possible, for an example; empty if
            there is none.
        taken: the value that is taken without an answer; empty if there is none.
    """

    option: str
    why: str
    answer: str
    taken: str = ""


class UnstatedError(UsageError):
    """A file does not state all that it takes to read it; one message asks for it all.

    Args:
        path: the file.
        questions: what the user must state.
        doubtful: what is taken without an answer, but is doubtful.
        given: the options that the user has given, for the example.
    """

    def __init__(
        self,
        path: Path,
        questions: Sequence[Question],
        doubtful: Sequence[Question] = (),
        given: Sequence[str] = (),
    ) -> None:
        """Write the message: the options, and a command that has all of them."""
        self.questions = tuple(questions)
        lines = [f"{path} does not say all that it is; state", *map(_row, questions)]
        if doubtful:
            lines += ["and, unless the value that is taken is right,"]
            lines += map(_row, doubtful)
        answers = [
            question.answer for question in (*questions, *doubtful) if question.answer
        ]
        words = ["dcbench evaluate", shlex.quote(str(path)), *given, *answers]
        super().__init__("\n".join([*lines, "for example", f"  {' '.join(words)}"]))


def _row(question: Question) -> str:
    """Return an option and the reason for it, in lines that fit 80 columns."""
    taken = f"taken: {question.taken}; " if question.taken else ""
    return textwrap.fill(
        taken + question.why,
        80,
        initial_indent=f"  {question.option:<24}  ",
        subsequent_indent=" " * 28,
        break_long_words=False,
        break_on_hyphens=False,
    )


class DataError(DcbenchError):
    """A data set is missing, incomplete or different from its stated facts."""


class UnsuitableImageError(ValueError):
    """An image is sound but cannot be used; the message has the remedy."""


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


_ROOM = "make room or choose another folder with --output"
_RIGHTS = "choose a folder that you may write to with --output"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _RIGHTS),
    errno.ENAMETOOLONG: "choose a shorter path with --output",
    errno.ENOTDIR: "a part of this path is a file; choose another with --output",
    errno.EEXIST: "a file has the name of a folder; choose another with --output",
    errno.EISDIR: "a folder has the name of the file; choose another with --output",
    errno.ENOENT: "the folder is gone; make it again or choose another with --output",
    errno.EINVAL: "the file system refuses this name; choose another with --output",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit `ulimit -n`"),
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE), "see whether the disk is there and sound"
    ),
}


class OutputError(DcbenchError):
    """Results cannot be written: the disk is full, say, or the folder is gone."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "OutputError":
        """Return the error for a file that cannot be written, with the remedy."""
        remedy = _REMEDIES.get(error.errno or 0, "choose another with --output")
        return cls(
            f"{path}: {reason_of(error)}; {remedy}, then give the same command again"
        )
