"""The ends of the program that are no success, and what the user is told."""

import shlex
import sys
from typing import NoReturn

import click

INTERRUPTED = 130  # the exit status after Ctrl-C or a time budget


def going_on(*, noted: bool) -> str:
    """Return the command that continues an interrupted one.

    Args:
        noted: whether the request of ``--fresh`` is on disk. The command then leaves
            ``--fresh`` out, since that would start everything again.
    """
    words = [word for word in sys.argv[1:] if not (noted and word == "--fresh")]
    return f"To go on:\n  {shlex.join(['dcbench', *words])}"


def fail(message: str, code: int) -> NoReturn:
    """Print a message and end the program with an exit code."""
    click.echo(f"error: {message}", err=True)
    raise SystemExit(code)
