"""Pages of tables: headings, rounded numbers, marks and footnotes, by kind of table."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.published import cite
from dcbench_bacon.reporting.numbers import downstream_tables
from dcbench_bacon.reporting.numbers.accuracies import accuracy
from dcbench_bacon.reporting.printing import layout_pages
from dcbench_bacon.reporting.printing.footnotes import Footnotes
from dcbench_bacon.reporting.table import Kind, Marked, Page, Table, Text, printable
from dcbench_bacon.reporting.wording import HEADINGS, LEFT, MARKS, NOTES, namer, title

_CELL = ("dataset", "ipc", "method", "architecture", "protocol")
_SHOWN = (*_CELL, "preset")
_KEYS = (*_SHOWN, "selection", "seed", "stage")
_PERCENT = ("accuracy_mean", "std_sets", "std_networks")


def _number(value: object, column: str = "") -> str:
    """Return the text of a value: few digits, and a dash where it is missing."""
    if column == "ipc" and value == 0:
        return "all"
    if column.lower() == "protocol":
        return str(value).replace("_", "-")
    if not isinstance(value, float):
        return str(value)
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


def _compare(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of a summary: measured beside published, with footnotes."""
    cited = [str(key) for key in dict.fromkeys(table["published_source"]) if key]
    compared = bool(table["difference"].notna().any())
    headings = [*(HEADINGS[name] for name in _CELL), "Measured (%)"]
    headings += ["Published (%)"] * bool(cited) + ["Difference"] * compared
    reduced, recipe = _reduced(table), _ambiguous(table, (*_SHOWN, "selection"))
    headings += ["Preset"] * bool(reduced) + ["Recipe"] * recipe
    footnotes = Footnotes()
    rows: list[list[Text]] = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts: list[Text] = [_number(row[name], name) for name in _CELL]
        texts.append(_accuracy(row))
        texts += [_published(row, cited, footnotes)] * bool(cited)
        texts += [_difference(row["difference"])] * compared
        texts += [str(row["preset"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    told = ["std", *_chosen(table), *reduced, *["difference"] * compared]
    told.append("published" if cited else "unpublished")
    notes = [NOTES[name] for name in told] + footnotes.lines()
    notes += [f"[{i}] {cite(key)}" for i, key in enumerate(cited, 1)]
    return Page(headings, rows, notes)


def _matrix(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of a transfer: one row per set, one column per network."""
    networks = list(dict.fromkeys(table["architecture"]))
    reduced = _reduced(table)
    shown = ["dataset", "ipc", "method", "distilled_on", "protocol"]
    shown += ["preset"] * bool(reduced)
    sets = table[~table.index.duplicated()]  # each is one row of the page
    recipe = _ambiguous(sets, (*shown, "selection"))
    headings = [HEADINGS[name] for name in shown] + ["Recipe"] * recipe + networks
    rows: list[list[Text]] = []
    groups = table.groupby(["recipe", *shown, "selection"], sort=False)
    for group in (group for _, group in groups):
        cells = {row["architecture"]: row for row in group.to_dict("records")}
        first = group.iloc[0]
        texts: list[Text] = [_number(first[name], name) or "—" for name in shown]
        texts += [str(group.index[0])] * recipe
        texts += [_accuracy(cells[n]) if n in cells else "—" for n in networks]
        rows.append(texts)
    notes = ("transfer", "std", *_chosen(table), *reduced)
    return Page(headings, rows, [NOTES[name] for name in notes])


def _scored(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of scores: differences with intervals, sizes with labels'."""
    reduced, recipe = _reduced(table), _ambiguous(table, (*_SHOWN, "selection"))
    fractions = ("hlr", "ior", "lrs", "ars")
    costs = ("distillation_seconds", "evaluation_seconds")
    headings = [HEADINGS[name] for name in _CELL]
    headings += ["Mean (%)", "Between sets", "Between networks", "Sets", "n"]
    against = table["against"].iloc[0] if len(table) else title("random")
    headings += [
        f"Over {against}",
        *(HEADINGS[name] for name in (*fractions, *costs)),
    ]
    headings += ["Size (kB)"] + ["Preset"] * bool(reduced) + ["Recipe"] * recipe
    rows: list[list[Text]] = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts: list[Text] = [_number(row[name], name) for name in _CELL]
        texts.append(f"{row['accuracy_mean']:.2f}{MARKS.get(row['selection'], '')}")
        texts += [_number(row[name], name) for name in ("std_sets", "std_networks")]
        texts += [str(row["sets"]), str(row["n"]), _interval(row)]
        texts += [_score(row[name]) for name in fractions]
        texts += [_number(row[name]) for name in costs] + [_size(row)]
        texts += [str(row["preset"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    told = ("sets", *_chosen(table), *reduced)
    notes = (*told, "gain", "scores", "references", "cost")
    return Page(headings, rows, [NOTES[name] for name in notes])


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


def _plain(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of rows that are printed as they are, with rounded numbers."""
    table = table.dropna(axis=1, how="all") if len(table) else table
    names = [str(name) for name in table.columns]
    headings = [HEADINGS.get(name, name) for name in names]
    rows: list[list[Text]] = [
        [_number(cell, column) for cell, column in zip(row, names, strict=True)]
        for row in table.itertuples(index=False)
    ]
    if _ambiguous(table, [name for name in names if name in _KEYS]):
        headings.append("Recipe")
        for row, recipe in zip(rows, table.index, strict=True):
            row.append(str(recipe))
    notes = [NOTES["sets"]] if "std_sets" in table else []
    notes += [NOTES["timing"]] if "median_seconds" in table else []
    return Page(headings, rows, notes)


def _downstream(table: Table) -> Page:
    """Return the page of a downstream use."""
    notes = [NOTES.get(note, note) for note in table.notes]
    return _plain(table.frame, table)._replace(notes=notes)


_PAGES: dict[Kind, Callable[[pd.DataFrame, Table], Page]] = {
    **{"accuracy": _compare, "transfer": _matrix, "scores": _scored},
    **dict.fromkeys(("paper", "networks", "methods"), layout_pages.page),
    "published": layout_pages.literature,
    "continual": lambda frame, _: _downstream(downstream_tables.stages(frame)),
    "nas": lambda frame, _: _downstream(downstream_tables.correlations(frame)),
}
_NAMED = ("dataset", "method", "against", "Data set", "Method")


def page_of(table: Table) -> Page:
    """Return a table as people read it: headings, rounded numbers, footnotes."""
    frame, named = table.frame.copy(), cache(namer(table.titles))
    for column in _NAMED:
        if column in frame:
            frame[column] = frame[column].map(named)
    page = _PAGES.get(table.kind, _plain)(frame, table)
    notes = [*page.notes, *(NOTES.get(note, note) for note in table.notes)]
    return page._replace(
        headings=[printable(heading) for heading in page.headings],
        rows=[[_clean(cell) for cell in row] for row in page.rows],
        notes=[printable(note) for note in dict.fromkeys(notes)],
        left=page.left or LEFT,
        caption=printable(table.caption),
        label=table.label,
        opening=_openings(page.rows) if page.opening is None else page.opening,
    )


def _openings(rows: list[list[Text]]) -> frozenset[int]:
    """Return the rows that differ from the one above in their first two cells."""
    pairs = enumerate(itertools.pairwise(rows), 1)
    return frozenset(n for n, (above, row) in pairs if above[:2] != row[:2])


def _clean(cell: Text) -> Text:
    """Return a cell without line breaks and control characters."""
    if isinstance(cell, Marked):
        return cell._replace(text=printable(cell.text), rest=printable(cell.rest))
    return printable(cell)
