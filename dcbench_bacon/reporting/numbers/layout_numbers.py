"""The numbers of a layout as a wide frame, and the order of its columns."""

import itertools

import pandas as pd

from dcbench_bacon.reporting.numbers import longform

EVALUATED = ["protocol", "preset", "selection"]  # never mixed in a block
VALUES = [
    *("accuracy_mean", "accuracy_std", "n", "published_mean", "published_std"),
    *("difference", "gain", "ratio"),
]


def columns_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a layout in the order of all tables.

    Args:
        frame: the frame of a layout.
    """
    if (frame["row"] == frame["ipc"].astype(str)).all():  # methods with networks
        rows = longform.ordered(frame, ["architecture", "method"])
        return list(dict.fromkeys(str(name) for name in rows["column"]))
    names = frame[["column"]].drop_duplicates()
    kind = "dataset" if (frame["column"] == frame["dataset"]).all() else "architecture"
    names = names.rename(columns={"column": kind})
    return [str(name) for name in longform.ordered(names, [kind])[kind]]


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of a layout: one row per printed row, columns by data set.

    Args:
        frame: the frame of a layout.

    Returns:
        A frame indexed by block, role and row. Its columns are pairs of the data set
        (or the network) and ``mean``, ``std``, ``n``, ``published``,
        ``published_std``, ``difference``, ``gain`` or ``ratio``.
    """
    names = dict(
        zip(VALUES, ("mean", "std", "n", "published", "published_std"), strict=False)
    )
    index = ["block", "role", "row"]
    columns = columns_of(frame)
    named_rows = frame.assign(
        row=[str(row).replace("\t", ", ") for row in frame["row"]]
    )
    rows = list(dict.fromkeys(named_rows[index].itertuples(index=False, name=None)))
    cells = named_rows.drop_duplicates([*index, "column"]).set_index([*index, "column"])
    there = [name for name in VALUES if frame[name].notna().any()]
    data = {
        (column, names.get(name, name)): [
            cells[name].get((*row, column)) for row in rows
        ]
        for column, name in itertools.product(columns, there)
    }
    table = pd.DataFrame(
        data, index=pd.MultiIndex.from_tuples(rows, names=index) if rows else None
    )
    return table.dropna(axis=1, how="all")
