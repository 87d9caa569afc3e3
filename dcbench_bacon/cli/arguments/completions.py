"""Completion of names when a user presses the tabulator key in a shell."""

from collections.abc import Callable, Iterable

import click

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def among(names: Callable[[], Iterable[str]]) -> Completer:
    """Return what completes a name.

    Args:
        names: returns all names; called when the user asks.
    """
    return lambda _, __, typed: [name for name in names() if name.startswith(typed)]
