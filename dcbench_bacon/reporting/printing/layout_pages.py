"""Pages of the layouts: cells with their published numbers, marks and footnotes."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.published import (
    EVALUATIONS,
    NETWORKS,
    cite,
)
from dcbench_bacon.reporting.numbers.layout_numbers import EVALUATED, columns_of
from dcbench_bacon.reporting.printing.footnotes import Footnotes
from dcbench_bacon.reporting.table import Emphasis, Marked, Page, Table, Text
from dcbench_bacon.reporting.wording import MARKS, NOTES, REMARKS, namer

NOTHING = "-"
_FIRST = {  # the headings of the two columns before the numbers
    "paper": ("IPC", "Method"),
    "networks": ("Data set, IPC", "Method"),
    "methods": ("Data set", "IPC"),
}
_ROLE_NOTES = {"gain": "gain_row", "ratio": "ratio"}  # key of the note of a role
_Row = Mapping[Any, Any]
_Name = Callable[[str], str]


def page(frame: pd.DataFrame, table: Table) -> Page:
    """Return the page of ``layouts.measured`` or ``layouts.literature``."""
    named = cache(namer(table.titles))
    columns = columns_of(table.frame)
    differing = [key for key in EVALUATED if frame[key].dropna().nunique() > 1]
    first, second = _FIRST[table.kind]
    heading = _labelled if table.kind == "methods" else _heading
    headings = [first, second, *(heading(column, named) for column in columns)]
    alone = bool(frame["accuracy_mean"].isna().all())
    rows: list[list[Text]] = []
    opening, footnotes = set(), Footnotes()
    for _, block in frame.groupby("block", sort=False):
        opening.add(len(rows))
        best = _emphasised(block, table.kind)
        about = _about(block, table.kind, differing)
        for (role, label), group in block.groupby(["role", "row"], sort=False):
            cells = {row["column"]: row for row in group.to_dict("records")}
            texts: list[Text] = [
                _cell(cells.get(column), str(role), footnotes, best, alone=alone)
                for column in columns
            ]
            rows.append(
                [about, _label(str(role), str(label), table.kind, named), *texts]
            )
            about = ""
    notes = [*_notes(frame), *footnotes.lines(), *_sources(frame, named)]
    left = frozenset((first, second))
    return Page(headings, rows, notes, left, opening=frozenset(opening - {0}))


def literature(frame: pd.DataFrame, _: Table) -> Page:
    """Return the page of published numbers, a row per number and source."""
    cited = [str(key) for key in dict.fromkeys(frame["source"])]
    arms = "arm" in frame
    headings = ["Data set", "IPC", "Method", "Network"]
    headings += ["Arm"] * arms + ["Published (%)"]
    footnotes, rows = Footnotes(), []
    for row in frame.to_dict("records"):
        number = deviating(f"{float(row['mean'])}", row["std"])
        marks = footnotes.mark(f"Evaluation: {EVALUATIONS[row['evaluation']].title}.")
        if row["certainty"] == "memory":
            marks += footnotes.mark(REMARKS["memory"])
        network = NETWORKS.get(row["architecture"], row["architecture"])
        texts: list[Text] = [row["dataset"], str(row["ipc"] or "all"), row["method"]]
        texts += [network, *[row["arm"]] * arms]
        rows.append([*texts, f"{number} [{cited.index(row['source']) + 1}]{marks}"])
    notes = footnotes.lines() + [f"[{i}] {cite(key)}" for i, key in enumerate(cited, 1)]
    return Page(headings, rows, notes, frozenset(headings[:-1]) - {"IPC"})


def _about(block: pd.DataFrame, kind: str, differing: list[str]) -> str:
    """Return what a block is about, and how it was evaluated where blocks differ."""
    row = block.iloc[0]
    ipc = str(int(row["ipc"]) or "all")
    words = [ipc] if kind == "paper" else [str(row["dataset"]), ipc]
    words = words[:1] if kind == "methods" else words
    evaluated = block[differing].dropna().iloc[0] if differing else ()
    words += [str(word).replace("_", "-") for word in evaluated if word]
    return ", ".join(words)


def _label(role: str, label: str, kind: str, named: _Name) -> str:
    """Return the second cell of a row."""
    if role == "ratio":
        return "Ratio (%)"
    if kind == "methods":
        return "all" if label == "0" else label
    text = _labelled(label, named)
    return f"Gain over {text}" if role == "gain" else text


def _labelled(label: str, named: _Name) -> str:
    """Return a method, and what tells its numbers apart, as they are printed."""
    method, *more = label.split("\t")
    return ", ".join([named(method), *more])


def _heading(column: str, named: _Name) -> str:
    """Return the heading of a data set or a network."""
    return NETWORKS.get(column, column) if ":" in column else named(column)


def _emphasised(block: pd.DataFrame, kind: str) -> dict[tuple[str, str], Emphasis]:
    """Return the two best measured methods of each cell, equal ones included.

    A cell is a column, or a network in a row of the layout ``methods``. Numbers are
    compared as they are printed.
    """
    emphasis: dict[tuple[str, str], Emphasis] = {}
    ours = block[block["role"] == "measured"]
    cell = ["row", "architecture"] if kind == "methods" else ["column"]
    for _, group in ours.groupby(cell, sort=False):
        means = group["accuracy_mean"].round(1)
        if len(means) < 2:
            continue
        places: list[Emphasis] = ["best", "second"]
        for value, place in zip(sorted(set(means))[::-1], places, strict=False):
            for column, row in group[["column", "row"]][means == value].to_numpy():
                emphasis[str(column), str(row)] = place
    return emphasis


def _cell(
    row: _Row | None,
    role: str,
    footnotes: Footnotes,
    best: Mapping[tuple[str, str], Emphasis],
    *,
    alone: bool,
) -> Text:
    """Return the text of a cell; ``-`` where there is nothing.

    Published numbers are in brackets, unless they are ``alone`` in the table.
    """
    if row is None:
        return NOTHING
    if role == "gain":
        return signed(row["gain"])
    if role == "ratio":
        return f"{row['ratio']:.2g}" if row["ratio"] == row["ratio"] else NOTHING
    printed = _published(row, footnotes)
    if row["accuracy_mean"] != row["accuracy_mean"]:
        return (printed if alone else f"({printed})") if printed else NOTHING
    mark = MARKS.get(row["selection"], "")
    text = deviating(f"{row['accuracy_mean']:.1f}", row["accuracy_std"]) + mark
    beside = f"({printed}, {signed(row['difference'])})" if printed else ""
    return Marked(text, beside, best.get((row["column"], row["row"]), ""))


def deviating(text: str, deviation: float) -> str:
    """Return a number with its deviation, if it has one."""
    return f"{text}±{deviation:.1f}" if deviation == deviation else text


def _published(row: _Row, footnotes: Footnotes) -> str:
    """Return the published number as it was printed, with its marks."""
    if not isinstance(row["published_source"], str) or not row["published_source"]:
        return ""
    text = f"{float(row['published_mean'])}"
    if row["published_std"] == row["published_std"] and row["role"] != "measured":
        text += f"±{float(row['published_std'])}"
    return text + footnotes.marks(row) + _alone(row, footnotes)


def _alone(row: _Row, footnotes: Footnotes) -> str:
    """Return the marks of a number that stands beside no protocol of ours."""
    if row["protocol"]:
        return ""
    behind, network = EVALUATIONS[row["published_evaluation"]], row["architecture"]
    marks = footnotes.mark(f"Evaluation: {behind.title}.")
    if network == "ConvNet" or NETWORKS.get(network, network) in (
        NETWORKS.get(row["column"], row["column"]),
        *str(row["column"]).split("\t")[1:],
    ):
        return marks
    told = "is not stated" if network == "unstated" else f"is {network}"
    return marks + footnotes.mark(f"The network {told}.")


def signed(value: float) -> str:
    """Return a difference with its sign; ``-`` where there is none."""
    return NOTHING if value != value else f"{round(value, 1) + 0.0:+.1f}"


def _notes(frame: pd.DataFrame) -> list[str]:
    """Return what the cells are."""
    ours = frame[frame["accuracy_mean"].notna()]
    notes = []
    if len(ours):
        low, high = int(ours["n"].min()), int(ours["n"].max())
        n = str(low) if low == high else f"{low} to {high}"
        notes.append(f"{NOTES['layout']} n = {n}.")
        notes.append(NOTES["emphasis"])
    presets = set(ours["preset"]) | {"set" for text in ours["overrides"] if text}
    named = [*MARKS, "final"] if len(ours) else []
    notes += [NOTES[name] for name in named if name in set(ours["selection"])]
    notes += [NOTES[name] for name in ("quick", "demo", "set") if name in presets]
    roles = set(frame["role"])
    notes += [NOTES[key] for role, key in _ROLE_NOTES.items() if role in roles]
    if frame["published_source"].fillna("").any():
        notes.append(NOTES["brackets" if len(ours) else "published"])
    return notes


def _sources(frame: pd.DataFrame, named: _Name) -> list[str]:
    """Return each source with the methods, or the cells, whose numbers it has."""
    rows = frame[frame["published_source"].fillna("") != ""]
    methods: dict[str, set[str]] = {}
    for method, source in zip(rows["method"], rows["published_source"], strict=True):
        methods.setdefault(method, set()).add(source)
    notes = []
    for source, group in rows.groupby("published_source", sort=False):
        words = []
        for name, cells in group.groupby("method", sort=False):
            method = str(name)
            where = dict.fromkeys(
                _labelled(column, named) for column in cells["column"]
            )
            several = len(methods[method]) > 1
            words.append(f"{method} ({', '.join(where)})" if several else method)
        notes.append(f"{', '.join(words)}: {cite(str(source))}")
    return notes
