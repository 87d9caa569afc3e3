"""Read what users decide about image files: streaming, bad files, and workers.

The values are environment variables, which the options of commands set, so that every
process that works for a command reads the same.
"""

import os
import re
from typing import Literal, get_args

from dcbench_bacon.errors import UsageError

STREAM_ABOVE = "DCBENCH_STREAM_ABOVE"
BAD_FILES = "DCBENCH_BAD_FILES"
WORKERS = "DCBENCH_WORKERS"
MOST_DECODED = 4_000_000_000  # bytes of pixels of train and test, unless stated
MOST_WORKERS = 8  # more seldom help, and each takes memory
BadFiles = Literal["stop", "skip"]
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def stream_above() -> int:
    """Return the bytes of decoded pixels above which image files are streamed.

    Raises:
        UsageError: the variable is no number of bytes.
    """
    return bytes_of(os.environ.get(STREAM_ABOVE) or str(MOST_DECODED))


def bytes_of(text: str) -> int:
    """Return the number of bytes of a text such as ``4GB`` or ``500 MB``.

    Raises:
        UsageError: it is no number of bytes.
    """
    amount = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?B?)", text.strip().upper())
    if not amount or amount[2] not in _UNITS:
        raise UsageError(
            f"--stream-above ({STREAM_ABOVE}) {text!r}: write a number of bytes, such "
            "as 4GB or 500MB; 0 streams all image files"
        )
    return int(float(amount[1]) * _UNITS[amount[2]])


def bad_files() -> BadFiles:
    """Return what happens at a file that cannot be decoded.

    Raises:
        UsageError: the variable has another value.
    """
    stated = os.environ.get(BAD_FILES) or "stop"
    if stated not in get_args(BadFiles):
        raise UsageError(f"--bad-files ({BAD_FILES}) {stated!r}: write stop or skip")
    return "skip" if stated == "skip" else "stop"


def workers() -> int:
    """Return the number of processes that decode; 0 decodes in this process.

    Raises:
        UsageError: the variable is no number from 0.
    """
    stated = os.environ.get(WORKERS)
    if stated and not stated.isdecimal():
        raise UsageError(
            f"--decode-workers ({WORKERS}) {stated!r}: write a number from 0"
        )
    return int(stated) if stated else min(MOST_WORKERS, len(os.sched_getaffinity(0)))
