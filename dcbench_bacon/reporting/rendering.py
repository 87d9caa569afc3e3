"""Tables as text: CSV for programs; Markdown, LaTeX, HTML and a terminal for people."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from dcbench_bacon.errors import UsageError
from dcbench_bacon.reporting.footnotes import Footnotes
from dcbench_bacon.reporting.markup import Page, hypertext, latex, markdown
from dcbench_bacon.reporting.published import cite
from dcbench_bacon.reporting.wording import HEADINGS, MARKS, NOTES, title

FORMATS = ("md", "csv", "latex", "html")
_CELL = ("dataset", "ipc", "method", "architecture", "protocol")
_SHOWN = (*_CELL, "preset")
_KEYS = (*_SHOWN, "selection", "seed", "stage")
_SHORT = {"Difference": "Diff."}  # headings on a terminal
_PERCENT = ("accuracy_mean", "std_sets", "std_networks")


def _number(value: object, column: str = "") -> str:
    """Return the text of a value: few digits, and a dash where it is missing."""
    if column == "ipc" and value == 0:
        return "all"
    if column.lower() == "protocol":
        return str(value).replace("_", "-")
    if not isinstance(value, float):
        return title(str(value))
    if value != value:
        return "—"
    if column in _PERCENT:
        return f"{value:.2f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _ambiguous(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Return whether rows differ in their recipe and in nothing that is shown."""
    return table.index.name == "recipe" and bool(table.duplicated(list(columns)).any())


def _reduced(table: pd.DataFrame) -> list[str]:
    """Return the words for what differs from the published recipes."""
    presets = " ".join(table["preset"]).split()
    return [name for name in ("quick", "demo", "set") if name in presets]


def _chosen(table: pd.DataFrame) -> list[str]:
    """Return the selections of the records, those with a mark first."""
    return [name for name in (*MARKS, "final") if name in set(table["selection"])]


def moments(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample deviation (n - 1) of fractions, in percent.

    Sums are exact, so that neither order nor precision decides a printed digit. The
    deviation of a single number is NaN.
    """
    count = len(accuracies)
    mean = math.fsum(accuracies) / count
    if count < 2:
        return _tidy(mean), math.nan
    squares = math.fsum((value - mean) ** 2 for value in accuracies)
    return _tidy(mean), 100 * math.sqrt(squares / (count - 1))


def _tidy(mean: float) -> float:
    """Return a fraction in percent, such as 62.06 and not 62.06000000000001."""
    return round(100 * mean, 9)


def accuracy(mean: float, deviation: float, count: int) -> str:
    """Return mean and deviation in percent and n, as all tables and commands print."""
    spread = f" ± {deviation:.2f}" if deviation == deviation else ""
    return f"{mean:.2f}{spread} (n={count})"


def _accuracy(row: Mapping[Any, Any]) -> str:
    """Return mean and deviation, with a mark if the pass was chosen."""
    text = accuracy(row["accuracy_mean"], row["accuracy_std"], row["n"])
    return text + MARKS.get(row["selection"], "")


def _published(row: Mapping[Any, Any], cited: list[str], notes: Footnotes) -> str:
    """Return the published mean and deviation, the source's number, and marks."""
    if not row["published_source"]:
        return "—"
    std, number = row["published_std"], cited.index(row["published_source"]) + 1
    spread = f" ± {std}" if std == std else ""
    return f"{row['published_mean']}{spread} [{number}]{notes.marks(row)}"


def _difference(value: float) -> str:
    """Return a difference with its sign; a dash where none may be given."""
    return "—" if value != value else f"{round(value, 2) + 0.0:+.2f}"


def _compare(table: pd.DataFrame) -> Page:
    """Return the page of a summary: measured beside published, with footnotes."""
    cited = [str(key) for key in dict.fromkeys(table["published_source"]) if key]
    compared = bool(table["difference"].notna().any())
    headings = [*(HEADINGS[name] for name in _CELL), "Measured (%)"]
    headings += ["Published (%)"] * bool(cited) + ["Difference"] * compared
    reduced, recipe = _reduced(table), _ambiguous(table, (*_SHOWN, "selection"))
    headings += ["Preset"] * bool(reduced) + ["Recipe"] * recipe
    footnotes, rows = Footnotes(), []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts = [_number(row[name], name) for name in _CELL] + [_accuracy(row)]
        texts += [_published(row, cited, footnotes)] * bool(cited)
        texts += [_difference(row["difference"])] * compared
        texts += [str(row["preset"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    told = ["std", *_chosen(table), *reduced, *["difference"] * compared]
    told.append("published" if cited else "unpublished")
    notes = [NOTES[name] for name in told] + footnotes.lines()
    notes += [f"[{i}] {cite(key)}" for i, key in enumerate(cited, 1)]
    return Page(headings, rows, notes)


def _matrix(table: pd.DataFrame) -> Page:
    """Return the page of a transfer: one row per set, one column per network."""
    networks = list(dict.fromkeys(table["architecture"]))
    reduced = _reduced(table)
    shown = ["dataset", "ipc", "method", "distilled_on", "protocol"]
    shown += ["preset"] * bool(reduced)
    sets = table[~table.index.duplicated()]  # each is one row of the page
    recipe = _ambiguous(sets, (*shown, "selection"))
    headings = [HEADINGS[name] for name in shown] + ["Recipe"] * recipe + networks
    rows = []
    groups = table.groupby(["recipe", *shown, "selection"], sort=False)
    for _, group in groups:
        cells = {row["architecture"]: row for row in group.to_dict("records")}
        first = group.iloc[0]
        texts = [_number(first[name], name) or "—" for name in shown]
        texts += [str(group.index[0])] * recipe
        texts += [_accuracy(cells[n]) if n in cells else "—" for n in networks]
        rows.append(texts)
    notes = ("transfer", "std", *_chosen(table), *reduced)
    return Page(headings, rows, [NOTES[name] for name in notes])


def _scored(table: pd.DataFrame) -> Page:
    """Return the page of scores: differences with intervals, sizes with labels'."""
    reduced, recipe = _reduced(table), _ambiguous(table, (*_SHOWN, "selection"))
    fractions = ("hlr", "ior", "lrs", "ars")
    costs = ("distillation_seconds", "evaluation_seconds")
    headings = [HEADINGS[name] for name in _CELL]
    headings += ["Mean (%)", "Between sets", "Between networks", "Sets", "n"]
    against = table["against"].iloc[0] if len(table) else "random"
    headings += [
        f"Over {title(against)}",
        *(HEADINGS[name] for name in (*fractions, *costs)),
    ]
    headings += ["Size (kB)"] + ["Preset"] * bool(reduced) + ["Recipe"] * recipe
    rows = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts = [_number(row[name], name) for name in _CELL]
        texts.append(f"{row['accuracy_mean']:.2f}{MARKS.get(row['selection'], '')}")
        texts += [_number(row[name], name) for name in ("std_sets", "std_networks")]
        texts += [str(row["sets"]), str(row["n"]), _interval(row)]
        texts += [_score(row[name]) for name in fractions]
        texts += [_number(row[name]) for name in costs] + [_size(row)]
        texts += [str(row["preset"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    told = ("sets", *_chosen(table), *reduced)
    notes = (*told, "gain", "scores", "references", "cost")
    chosen = table.attrs.get("notes", ())
    return Page(headings, rows, [*(NOTES[name] for name in notes), *chosen])


def _interval(row: Mapping[Any, Any]) -> str:
    """Return a difference in percentage points, with the bounds of its interval."""
    difference, low, high = (row[f"gain{bound}"] for bound in ("", "_low", "_high"))
    if difference != difference:
        return "—"
    bounds = "" if low != low else f" [{low:+.2f}, {high:+.2f}]"
    return f"{difference:+.2f}{bounds}"


def _score(value: float) -> str:
    """Return a score with three decimal places."""
    return "—" if value != value else f"{value:.3f}"


def _size(row: Mapping[Any, Any]) -> str:
    """Return the size in thousands of bytes, that of the labels in brackets."""
    whole, labels = row["set_bytes"], row["label_bytes"]
    if whole != whole:
        return "—"
    return f"{whole / 1e3:.1f}" + (f" ({labels / 1e3:.1f})" if labels == labels else "")


def _page(table: pd.DataFrame) -> Page:
    """Return the page of any table, with headings and rounded numbers."""
    if "published_source" in table:
        return _compare(table)
    if "distilled_on" in table:
        return _matrix(table)
    if "lrs" in table:
        return _scored(table)
    notes = [NOTES.get(note, note) for note in table.attrs.get("notes", ())]
    table = table.dropna(axis=1, how="all") if len(table) else table
    names = [str(name) for name in table.columns]
    headings = [HEADINGS.get(name, name) for name in names]
    rows = [
        [_number(cell, column) for cell, column in zip(row, names, strict=True)]
        for row in table.itertuples(index=False)
    ]
    if _ambiguous(
        table,
        [name for name in names if name in _KEYS],
    ):
        headings.append("Recipe")
        for row, recipe in zip(rows, table.index, strict=True):
            row.append(str(recipe))
    notes += [NOTES["sets"]] if "std_sets" in table else []
    notes += [NOTES["timing"]] if "median_seconds" in table else []
    return Page(headings, rows, notes)


def render(table: pd.DataFrame, format: str) -> str:
    """Return a table as text.

    Args:
        table: made by ``tables``, ``comparison`` or ``evaluation.quality``, or a page
            of ``downstream_tables``.
        format: ``csv`` for programs (plain names, eight digits), ``md``, ``latex``
            or ``html`` for people (titles, marks, footnotes).

    Raises:
        UsageError: there is no such format.
    """
    if format == "csv":
        if table.index.name == "recipe":
            table = table.reset_index()[[*table.columns, "recipe"]]
        text: str = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
        return text
    writers = {"md": markdown, "latex": latex, "html": hypertext}
    if format not in writers:
        raise UsageError(f"unknown format {format!r}; there are: {', '.join(FORMATS)}")
    return writers[format](_page(table))


def _width(texts: Sequence[str], narrow: bool) -> int:
    """Return the width of texts; if narrow, when broken before their brackets."""
    pieces = [re.split(r" (?=[(\[])", text) if narrow else [text] for text in texts]
    return max(len(piece) for row in pieces for piece in row)


def to_rich(table: pd.DataFrame, width: int) -> Table:
    """Return a table for a terminal.

    Args:
        table: as for ``render``.
        width: width of the terminal in columns. In a table that is wider, numbers break
            before their brackets, and words wherever they have to.
    """
    page = _page(table)
    headings = [_SHORT.get(heading, heading) for heading in page.headings]
    columns = [list(column) for column in zip(headings, *page.rows, strict=True)]
    fits = sum(_width(column, narrow=False) + 1 for column in columns) <= width
    printed = Table(
        box=box.SIMPLE_HEAD,  # no lines between columns, because 80 columns are few
        padding=0,
        show_edge=False,
        caption=Text("\n".join(page.notes)),
        caption_justify="left",
    )
    for column, right in zip(columns, page.right, strict=True):
        printed.add_column(
            column[0],
            justify="right" if right else "left",
            overflow="fold",
            width=_width(column, narrow=True) if right and not fits else None,
        )
    for number, row in enumerate(page.rows):
        if page.opens(number):
            printed.add_section()
        printed.add_row(*(Text(cell) for cell in row))
    return printed
