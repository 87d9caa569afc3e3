"""Pages of tables that compare sets: transfer, scores, cost and ranks."""

from collections.abc import Callable

import pandas as pd

from dcbench_bacon.reporting.printing.cell_texts import (
    CELL,
    NOTHING,
    SHOWN,
    ambiguous,
    chosen_in,
    interval,
    measured,
    number,
    recipe_columns,
    recipe_notes,
    recipe_texts,
    reduced_in,
    without_empty,
)
from dcbench_bacon.reporting.table import Page, Table, Text
from dcbench_bacon.reporting.wording import HEADINGS, MARKS, NOTES, title


def transfer(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of a transfer: one row per set, one column per network."""
    networks = list(dict.fromkeys(table["architecture"]))
    shown = ["dataset", "ipc", "method", "distilled_on", "protocol"]
    shown += recipe_columns(table)
    sets = table[~table.index.duplicated()]  # each is one row of the page
    recipe = ambiguous(sets, (*shown, "selection"))
    headings = [HEADINGS[name] for name in shown] + ["Recipe"] * recipe + networks
    rows: list[list[Text]] = []
    groups = table.groupby(["recipe", *shown, "selection"], sort=False)
    for group in (group for _, group in groups):
        cells = {row["architecture"]: row for row in group.to_dict("records")}
        first = group.iloc[0]
        texts: list[Text] = [number(first[name], name) or NOTHING for name in shown[:5]]
        texts += recipe_texts(first.to_dict(), shown[5:])
        texts += [str(group.index[0])] * recipe
        texts += [measured(cells[n]) if n in cells else NOTHING for n in networks]
        rows.append(texts)
    notes = ("transfer", "std", *chosen_in(table), *recipe_notes(table))
    return Page(headings, rows, [NOTES[name] for name in notes])


def scores(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of scores: differences with their intervals."""
    more, recipe = recipe_columns(table), ambiguous(table, (*SHOWN, "selection"))
    fractions = ("hlr", "ior", "lrs", "ars")
    headings = [HEADINGS[name] for name in CELL]
    headings += ["Mean (%)", "Between sets", "Between networks", "Sets", "n"]
    against = table["against"].iloc[0] if len(table) else title("random")
    headings += [
        f"Over {against}",
        *(HEADINGS[name] for name in fractions),
    ]
    headings += [HEADINGS[name] for name in more] + ["Recipe"] * recipe
    rows: list[list[Text]] = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts: list[Text] = [number(row[name], name) for name in CELL]
        texts.append(f"{row['accuracy_mean']:.2f}{MARKS.get(row['selection'], '')}")
        texts += [number(row[name], name) for name in ("std_sets", "std_networks")]
        texts += [str(row["sets"]), str(row["n"]), interval(row)]
        texts += [_score(row[name]) for name in fractions]
        texts += recipe_texts(row, more) + [str(index)] * recipe
        rows.append(texts)
    told = ("sets", *chosen_in(table), *recipe_notes(table))
    notes = (*told, "gain", "scores", "references")
    return without_empty(Page(headings, rows, [NOTES[name] for name in notes]))


def _score(value: float) -> str:
    """Return a score with three decimal places."""
    return NOTHING if value != value else f"{value:.3f}"


def _count(value: float) -> str:
    """Return a number of things, with its thousands apart."""
    return NOTHING if value != value else f"{value:,.0f}"


def _kilobytes(value: float) -> str:
    """Return a number of bytes in thousands."""
    return NOTHING if value != value else f"{value / 1e3:,.1f}"


def _gigabytes(value: float) -> str:
    """Return a number of bytes in thousands of millions."""
    return number(value / 1e9)


_COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "images": ("Images", _count),
    "set_bytes": ("Size (kB)", _kilobytes),
    "label_bytes": ("Labels (kB)", _kilobytes),
    "updates": ("Updates", _count),
    "images_seen": ("Images seen", _count),
    "distillation_seconds": ("Distil (s)", number),
    "evaluation_seconds": ("Evaluate (s)", number),
    "peak_bytes": ("Peak (GB)", _gigabytes),
    "sets": ("Sets", str),
    "device": ("Device", str),
}


def cost(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of costs: bytes, updates, images and seconds."""
    more, recipe = recipe_columns(table), ambiguous(table, (*SHOWN, "selection"))
    headings = [*(HEADINGS[name] for name in CELL), "Mean (%)"]
    headings += [heading for heading, _ in _COSTS.values()]
    headings += [HEADINGS[name] for name in more] + ["Recipe"] * recipe
    rows: list[list[Text]] = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts: list[Text] = [number(row[name], name) for name in CELL]
        texts.append(f"{row['accuracy_mean']:.2f}{MARKS.get(row['selection'], '')}")
        texts += [text(row[name]) for name, (_, text) in _COSTS.items()]
        texts += recipe_texts(row, more) + [str(index)] * recipe
        rows.append(texts)
    notes = ("cost", *chosen_in(table), *recipe_notes(table))
    return without_empty(Page(headings, rows, [NOTES[name] for name in notes]))


def ranking(table: pd.DataFrame, _: Table) -> Page:
    """Return the page of a summary: ranks, and the outcomes of comparisons."""
    counts = [*("best", "cases", "wins", "ties", "losses")]
    counts += ["untested"] * bool(table["untested"].any())
    headings = ["Method", *(HEADINGS[name] for name in ("mean_rank", *counts))]
    rows: list[list[Text]] = [
        [
            ", ".join(filter(None, (row["method"], row["own_overrides"]))),
            *(f"{row['mean_rank']:.2f}", *(str(row[name]) for name in counts)),
        ]
        for row in table.to_dict("records")
    ]
    notes = ["ranks", "paired", *["untested"] * bool(table["untested"].any())]
    notes += [*chosen_in(table), *reduced_in(table)]
    return Page(headings, rows, [NOTES[name] for name in notes], opening=frozenset())
