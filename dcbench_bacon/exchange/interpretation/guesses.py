"""The table of what a file left open and dcbench guessed."""

import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dcbench_bacon.exchange.interpretation.content import Guess
from dcbench_bacon.exchange.interpretation.settling import OPTIONS

WIDTH = 80
_KEPT = "\0"  # a space at which no line breaks, so that an option can be copied
_NAMES = {
    "dataset": "data set",
    "index": "set",
    "pixels": "values",
    "zca": "whitened",
    "learning_rate": "learned rate",
}
_ORDER = ("format", "dataset", "index", "pixels", "zca", "partition")


def tell(
    path: Path,
    guesses: Mapping[str, Guess],
    notes: Sequence[str],
    say: Any,
    told: set[Any] | None = None,
) -> None:
    """Show what was not stated: a table on a terminal, plain lines elsewhere.

    The sets of one file share a table, unless values or doubts differ.

    Args:
        path: the file.
        guesses: the guessed values, by the names of ``ReadingOptions``.
        notes: further lines.
        say: prints plain lines, as a logger's method does.
        told: what was shown before, which is not shown again; this is added to it.
    """
    values = sorted(
        (key, str(guess.value), guess.doubt) for key, guess in guesses.items()
    )
    shown = (path, *values, len(notes))
    if told is not None:
        if shown in told:
            return
        told.add(shown)
    rows = [_row(key, guesses[key]) for key in sorted(guesses, key=_rank)]
    console = Console(stderr=True)
    if rows and console.is_terminal and sys.stderr.isatty():
        console.print(_table(path, rows))
    elif rows:
        say("%s", "\n".join([f"{path}: not stated, so taken:", *map(_line, rows)]))
    for note in notes:
        say("%s: %s", path, note)


def _rank(key: str) -> tuple[int, str]:
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER)), key


def _row(key: str, guess: Guess) -> tuple[str, str, str, str, str]:
    """Return name, value, doubt, evidence, and the option that states the value."""
    names = {True: "yes", False: "no", None: "unknown"}
    value = guess.value
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    shown = names[value] if value is None or isinstance(value, bool) else text
    option = "" if guess.doubt == "certain" else OPTIONS[key]
    return _NAMES.get(key, key), shown, guess.doubt, guess.reason, option


def _line(row: tuple[str, str, str, str, str]) -> str:
    name, value, doubt, reason, option = row
    whole = f"state it with {option}".replace(" ", _KEPT)
    text = f"{name} {value}: {doubt} ({reason})" + (f"; {whole}" if option else "")
    lines = textwrap.wrap(
        text, WIDTH - 4, break_long_words=False, break_on_hyphens=False
    )
    return "\n    ".join(["  " + lines[0], *lines[1:]]).replace(_KEPT, " ")


def _table(path: Path, rows: Sequence[tuple[str, str, str, str, str]]) -> Table:
    """Return the rows as a table for a terminal."""
    title = Text(f"{path}: not stated, so taken:")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("what", "taken", "doubt", "evidence", "state it with"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        style = "bold" if row[2] == "doubtful" else ""
        table.add_row(*map(Text, row), style=style)
    return table
