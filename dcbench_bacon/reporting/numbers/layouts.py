"""Arrangements of accuracies: data sets or networks as columns, methods as rows.

``paper`` is the layout of the literature's main tables, one block per number of images
per class; ``networks`` that of tables across networks, one block per data set and
number of images per class. ``methods`` is that of the decoupled methods' tables, whose
columns are methods with the networks trained on their sets, and whose rows are numbers
of images per class. Accuracies of different protocols, presets and selections are never
in one block.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import pandas as pd

from dcbench_bacon.reporting.literature import published
from dcbench_bacon.reporting.literature.metrics import metrics_of
from dcbench_bacon.reporting.literature.published import (
    EVALUATIONS,
    NETWORKS,
    PublishedNumber,
)
from dcbench_bacon.reporting.literature.references import WHOLE
from dcbench_bacon.reporting.numbers import longform, tables
from dcbench_bacon.reporting.numbers.layout_numbers import EVALUATED, VALUES
from dcbench_bacon.reporting.numbers.layout_rows import COLUMNS, gains, ratios
from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.table import Kind, LayoutKind, Table

_LAYOUT_KINDS: tuple[LayoutKind, ...] = get_args(LayoutKind)
LAYOUTS = ("paper", "long", "networks", "methods")
# ``methods`` is labelled by method first, then rows and columns are exchanged.
_COLUMN = {"paper": "dataset", "networks": "architecture", "methods": "ipc"}
_KEYS = {"paper": ["ipc"], "networks": ["dataset", "ipc"], "methods": ["dataset"]}
# What tells rows of one method apart, where it has several in a cell.
_DISTINCTIVE = ("architecture", "distilled_on", "overrides", "recipe")


class Wanted(NamedTuple):
    """The choices of a layout.

    Attributes:
        layout: ``paper``, ``networks`` or ``methods``.
        presets: the presets whose records are used.
        source: a name of ``published.named``; None for the order of preference.
        gain_over: the method of the gain row; None for no such row.
    """

    layout: str
    presets: Sequence[str] = ("paper",)
    source: str | None = None
    gain_over: str | None = None


def measured(long: pd.DataFrame, wanted: Wanted) -> Table:
    """Return measured accuracies beside published ones.

    Methods that nobody has measured have rows as well, where their number was
    published for the same network under the same family of protocols.

    Args:
        long: the long form of ``longform.frame``.
        wanted: what the layout shows.
    """
    rows = tables.summary(long, presets=wanted.presets, source=wanted.source)
    rows = _told(rows.reset_index(), long)
    if wanted.layout == "networks":
        rows = _without_other_networks(rows)
    rows = pd.concat([rows, _published_only(rows, wanted)], ignore_index=True)
    return _table(rows, wanted)


def literature(numbers: Sequence[PublishedNumber], wanted: Wanted) -> Table:
    """Return published accuracies alone.

    Args:
        numbers: accuracies of the sources that are wanted.
        wanted: what the layout shows.
    """
    across = wanted.layout != "paper"
    cells = dict.fromkeys(
        (row.method, row.dataset, row.ipc, row.architecture if across else "")
        for row in numbers
    )
    rows = []
    for method, dataset, ipc, architecture in cells:
        network = architecture or "ConvNet"  # preferred where a table has one column
        row = published.lookup(method, dataset, ipc, network, wanted.source)
        if row and (row.architecture == network or not across):
            rows.append(row)
    frame = pd.DataFrame([_only_published(row) for row in rows], columns=COLUMNS)
    return _table(frame, wanted)


def _told(rows: pd.DataFrame, long: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a summary with what tells recipes apart."""
    facts = ["distilled_on", "family"]
    known = long.groupby(["digest", "architecture"])[facts].first().reset_index()
    rows = rows.merge(
        known.rename(columns={"digest": "recipe"}), on=["recipe", "architecture"]
    )
    rows["preset"] = [str(p).removesuffix(CHANGED) for p in rows["preset"]]
    rows["role"] = ["whole" if m == WHOLE else "measured" for m in rows["method"]]
    return rows.reindex(columns=COLUMNS)


def _without_other_networks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without the numbers published for another network.

    Under the name of a network they would pass for numbers of that network.
    """
    of_others = [" network " in f" {names} " for names in rows["not_compared"]]
    numbers = ["published_mean", "published_std"]
    rows.loc[of_others, numbers] = math.nan
    texts = ["published_source", "published_architecture", "published_evaluation"]
    rows.loc[of_others, [*texts, "not_compared", "remarks"]] = ""
    return rows


def _only_published(row: PublishedNumber, **evaluated: Any) -> dict[str, Any]:
    """Return the row of a method that has a published number alone."""
    return {
        **{"dataset": row.dataset, "ipc": row.ipc, "method": row.method},
        **{"architecture": row.architecture, "published_mean": row.mean},
        **{"published_std": row.std, "published_source": row.source},
        **{"published_architecture": row.architecture, "distilled_on": ""},
        **{"published_evaluation": row.evaluation, "overrides": "", "recipe": ""},
        **{"not_compared": "", "remarks": "memory" * (row.certainty == "memory")},
        "role": "whole" if row.method == WHOLE else "published",
        **dict.fromkeys(EVALUATED, ""),
        **evaluated,
    }


def _published_only(rows: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    """Return the published numbers of methods that have no row in a cell."""
    lacking = []
    same = ["dataset", "architecture", "family", *EVALUATED]
    columns = rows.loc[rows["ipc"] > 0, [*same, "ipc"]].drop_duplicates()
    have = set(zip(rows["method"], rows["dataset"], rows["ipc"], strict=True))
    where = published.named(wanted.source)
    methods = dict.fromkeys(row.method for row in published.rows())
    wholes = columns[same].drop_duplicates().assign(ipc=0)
    for cell in pd.concat([columns, wholes]).to_dict("records"):
        for method in methods:
            if (method, cell["dataset"], cell["ipc"]) in have:
                continue
            if (method == WHOLE) != (cell["ipc"] == 0):
                continue
            numbers = published.sources(
                *(method, cell["dataset"], cell["ipc"]),
                metrics_of(cell["family"]),
            )
            for row in numbers:
                alike = EVALUATIONS[row.evaluation].protocol == cell["family"]
                if (
                    alike
                    and row.source in where
                    and row.architecture == cell["architecture"]
                ):
                    evaluated = {key: cell[key] for key in EVALUATED}
                    lacking.append(_only_published(row, **evaluated))
                    break
    return pd.DataFrame(lacking, columns=COLUMNS)


def _table(rows: pd.DataFrame, wanted: Wanted) -> Table:
    """Return the table of a layout, its rows in the order in which they are printed."""
    kind: Kind = next(kind for kind in _LAYOUT_KINDS if kind == wanted.layout)
    rows = rows.drop_duplicates(
        [*_KEYS["networks"], "method", *_DISTINCTIVE, *EVALUATED, "role"]
    )
    rows["column"] = rows[_COLUMN[kind]]
    if "ipc" in _KEYS[kind]:
        rows = _with_whole(rows, _KEYS[kind])
    rows["preset"] = rows["preset"].astype(str)
    first = ["ipc"] if kind == "methods" else []
    order = [*_KEYS[kind], *EVALUATED, *first, "method", *_DISTINCTIVE, "column"]
    rows = rows.sort_values(order, key=_rank, ignore_index=True)
    rows["block"] = _blocks(rows, _KEYS[kind])
    rows["row"] = _labels(rows, with_network=kind == "methods")
    if kind == "methods":
        rows["row"], rows["column"] = rows["ipc"].astype(str), rows["row"]
    parts = []
    for _, block in rows.groupby("block", sort=False):
        parts += [block[block["role"].isin(["measured", "published"])]]
        parts += [gains(block, wanted.gain_over)] if wanted.gain_over else []
        parts += [ratios(block)] if kind == "paper" else []
        parts += [block[block["role"] == "whole"]]
    whole = [part for part in parts if len(part)]
    frame = pd.concat(whole, ignore_index=True) if whole else rows
    frame = frame[COLUMNS].astype(dict.fromkeys(VALUES, float))
    return Table(kind, frame, caption=_caption(frame, kind), label=f"tab:{kind}")


def _rank(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the sort key of a column, in the order of all tables."""
    return longform.rank(
        column.rename("dataset") if column.name == "column" else column
    )


def _with_whole(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the rows with those of the whole training set repeated in every block."""
    whole, sets = rows[rows["ipc"] == 0], rows[rows["ipc"] > 0]
    blocks = sets[[*keys, *EVALUATED]].drop_duplicates()
    if blocks.empty:
        return rows
    shared = [key for key in (*keys, *EVALUATED) if key != "ipc"]
    repeated = whole.drop(columns="ipc").merge(blocks, on=shared)
    return pd.concat([sets, repeated[list(sets.columns)]], ignore_index=True)


def _blocks(rows: pd.DataFrame, keys: list[str]) -> list[str]:
    """Return the block of each row, named by what differs between blocks."""
    differing = [key for key in EVALUATED if rows[key].nunique() > 1]
    shown = [*keys, *differing]
    return [
        ", ".join(str(row[key]) for key in shown) for row in rows.to_dict("records")
    ]


def _labels(rows: pd.DataFrame, *, with_network: bool) -> list[str]:
    """Return the label of each row: a method, and what tells its rows apart.

    Args:
        rows: the rows of the table.
        with_network: whether the network that was trained belongs to every label.
    """
    labels = pd.Series(list(rows["method"]), index=rows.index, dtype=object)
    if with_network:
        networks = rows["architecture"].map(lambda name: NETWORKS.get(name, name))
        labels = labels + "\t" + networks
    for name in _DISTINCTIVE:
        keys = [rows["block"], rows["column"], labels, rows["role"] == "published"]
        clash = rows[name].groupby(keys).transform("nunique") > 1
        several = set(zip(rows["block"][clash], labels[clash], strict=True))
        labels = pd.Series(
            [
                f"{label}\t{value}" if (block, label) in several and value else label
                for block, label, value in zip(
                    rows["block"], labels, rows[name], strict=True
                )
            ],
            index=rows.index,
            dtype=object,
        )
    return list(labels)


def _caption(frame: pd.DataFrame, kind: str) -> str:
    """Return what the numbers are."""
    rows = frame[frame["role"].isin(["measured", "published", "whole"])]
    networks = [str(name) for name in dict.fromkeys(rows["architecture"])]
    protocols = [str(name) for name in dict.fromkeys(rows["protocol"]) if name]
    known = len(networks) == 1 and networks[0] != "unstated"
    network = networks[0] if known else "networks"
    per = {"paper": "data set", "networks": "network"}.get(kind, "method and network")
    caption = f"Test accuracy (%) of {network} trained on distilled sets, per {per}"
    if len(protocols) == 1:
        return f"{caption}, protocol {protocols[0].replace('_', '-')}."
    return f"{caption}."
