"""The page of the time table."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.published import cite
from dcbench_bacon.reporting.printing.cell_texts import NOTHING, number
from dcbench_bacon.reporting.table import Page, Table, Text
from dcbench_bacon.reporting.wording import NOTES


def page(frame: pd.DataFrame, _: Table) -> Page:
    """Return the page of ``time_table``: a column per number of images per class."""
    columns = sorted(set(frame["ipc"]))
    headings = ["Data set", "Device", "Method", *(f"IPC {ipc}" for ipc in columns)]
    rows: list[list[Text]] = []
    opening = set()
    for block, group in frame.groupby(["role", "dataset", "device"], sort=False):
        opening.add(len(rows))
        names: list[Text] = [str(block[1]), str(block[2])]
        for method, costs in group.groupby("method", sort=False):
            cells = {row["ipc"]: row for row in costs.to_dict("records")}
            texts: list[Text] = [
                _cost(cells[ipc]) if ipc in cells else NOTHING for ipc in columns
            ]
            rows.append([*names, str(method), *texts])
            names = ["", ""]
    cited = [key for key in dict.fromkeys(frame["source"]) if key]
    notes = [NOTES["time_table"], *map(cite, cited)]
    left = frozenset(headings[:3])
    return Page(headings, rows, notes, left, opening=frozenset(opening - {0}))


def _cost(row: Mapping[Any, Any]) -> str:
    """Return seconds and memory; the memory that was too little after ``>``."""
    if row["out_of_memory"] == row["out_of_memory"]:
        return f"> {row['out_of_memory']:g} GB"
    return f"{number(row['seconds'])} s, {row['peak_gb']:.1f} GB"
