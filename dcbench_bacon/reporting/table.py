"""Tables as values: what a table is about, its numbers, and what is printed with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pandas as pd

Content = Literal[
    "accuracy",
    "summary",
    "spread",
    "augmentations",
    "transfer",
    "scores",
    "regimes",
    "cost",
    "timing",
    "unfinished",
]
"""The subjects of tables of records that users name."""
LayoutKind = Literal["paper", "networks", "methods"]
Kind = (
    Content
    | LayoutKind
    | Literal["published", "time_table", "ablation"]
    | Literal["continual", "nas", "slim", "rows"]
)
"""The subject of a table, which decides how it is printed.

``rows`` is any table whose rows are printed as they are.
"""
Emphasis = Literal["", "best", "second"]


@dataclass(frozen=True, eq=False)
class Table:
    """A table before it is printed.

    Attributes:
        kind: what the table is about.
        frame: the numbers, made by the function of that kind.
        notes: sentences below the table, or keys of ``wording.NOTES``, which come after
            those that every table of its kind has.
        caption: a sentence that says what the numbers are; empty for none.
        label: the name that a LaTeX document refers to, such as ``tab:accuracy``.
        titles: the printed names of methods and data sets that records state; the
            installed ones are known without it.
    """

    kind: Kind
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    caption: str = ""
    label: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)


class Marked(NamedTuple):
    """The text of a cell whose first part may be emphasised.

    Attributes:
        text: the first part.
        rest: what follows it, such as a published number in brackets.
        emphasis: whether the first part is the best or the second best of its column.
    """

    text: str
    rest: str = ""
    emphasis: Emphasis = ""

    @property
    def whole(self) -> str:
        """Return both parts, separated by a space."""
        return f"{self.text} {self.rest}".strip()


Text = str | Marked


class Page(NamedTuple):
    """A table as people read it, before any markup.

    Attributes:
        headings: the headings of the columns.
        rows: the texts of the cells.
        notes: the footnotes below the table.
        left: the headings of the columns that are flush left.
        caption: the sentence above the table.
        label: the name that a LaTeX document refers to.
        opening: the rows that start another group of rows; None until that is known.
    """

    headings: list[str]
    rows: list[list[Text]]
    notes: list[str]
    left: frozenset[str] = frozenset()
    caption: str = ""
    label: str = ""
    opening: frozenset[int] | None = None

    @property
    def right(self) -> list[bool]:
        """Return for each column whether it contains numbers."""
        return [heading not in self.left for heading in self.headings]

    def opens(self, row: int) -> bool:
        """Return whether a row starts another data set or number of images."""
        return row in (self.opening or ())


def printable(text: str) -> str:
    """Return a text without line breaks and control characters.

    Names in records may come from strangers.
    """
    plain = " ".join(text.split())
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in plain
    )
