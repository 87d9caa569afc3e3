"""Tables as text: CSV for programs; Markdown, LaTeX and HTML for people."""

from typing import get_args

import pandas as pd

from dcbench_bacon.errors import unknown
from dcbench_bacon.reporting.numbers.layout_numbers import wide
from dcbench_bacon.reporting.printing.markup import hypertext, latex, markdown
from dcbench_bacon.reporting.printing.pages import page_of
from dcbench_bacon.reporting.table import LayoutKind, Table

FORMATS = ("md", "csv", "latex", "html")


def render(table: Table, format: str) -> str:
    """Return a table as text.

    Args:
        table: the table.
        format: ``csv`` for programs (plain names, eight digits), ``md``, ``latex``
            or ``html`` for people (titles, marks, footnotes).

    Raises:
        UsageError: there is no such format.
    """
    if format == "csv":
        return _csv(table)
    writers = {"md": markdown, "latex": latex, "html": hypertext}
    if format not in writers:
        raise unknown("format", format, FORMATS)
    return writers[format](page_of(table))


def _csv(table: Table) -> str:
    """Return the numbers; a layout has several columns per data set or network."""
    frame = table.frame
    if table.kind in get_args(LayoutKind):
        numbers = wide(frame)
        numbers.columns = pd.Index([" ".join(names) for names in numbers.columns])
        frame = numbers.reset_index()
    elif frame.index.name == "recipe":
        frame = frame.reset_index()[[*frame.columns, "recipe"]]
    text: str = frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    return text
