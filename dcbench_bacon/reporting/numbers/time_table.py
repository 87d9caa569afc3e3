"""The time table: seconds per step and peak memory, beside published costs.

A block is a data set on one device; its rows are methods, its columns numbers of images
per class. Published costs have blocks of their own, because their hardware differs.
"""

from collections.abc import Iterable

import pandas as pd

from dcbench_bacon.reporting.literature import published
from dcbench_bacon.reporting.numbers.longform import build, ordered, told_apart
from dcbench_bacon.schema import Record

TIME_TABLE = [
    *("dataset", "device", "role", "method", "ipc", "seconds", "peak_gb"),
    *("out_of_memory", "compilation", "source"),
]
_PUBLISHED = {"seconds_per_step": "seconds", "peak_gb": "peak_gb"}
_LEAST = "peak_gb_at_least"  # the memory that was too little
_NUMBERS = ("seconds", "peak_gb", "out_of_memory")


def time_table(records: Iterable[Record]) -> pd.DataFrame:
    """Return the cost of a step of each method, measured and published.

    ``seconds`` is the median step of the last stage that took steps, which is the one
    that makes the images, and ``peak_gb`` the peak of all stages, in 10^9 bytes. Of
    several records of a cell on one device the newest counts.

    Args:
        records: of runs and of ``dcbench time``; those that are not done are left out.
    """
    known = sorted(told_apart(records), key=lambda record: record.environment.utc)
    newest = {_place(row): row for row in map(_measured, known) if row}
    measured = list(newest.values())
    rows = measured + (_literature() if measured else [])
    table = build(rows, TIME_TABLE).astype(dict.fromkeys(_NUMBERS, float))
    return ordered(table, ["role", "dataset", "device", "method", "ipc"])


def _place(row: dict[str, object]) -> tuple[object, ...]:
    """Return the cell of a row."""
    return tuple(row[key] for key in ("dataset", "device", "method", "ipc"))


def _measured(record: Record) -> dict[str, object] | None:
    """Return the row of a record, or None if no step of it was timed."""
    stages = [stage for stage in record.distillation.values() if stage.steps]
    if record.status != "done" or not stages:
        return None
    where = record.environment.device
    if not record.environment.cuda:
        threads = record.environment.threads
        where += f", {threads} thread{'s' * (threads > 1)}"
    return {
        **{"dataset": record.cell.dataset, "device": where, "role": "measured"},
        **{"method": record.name or record.cell.method, "ipc": record.cell.ipc},
        "seconds": stages[-1].median,
        "peak_gb": max(stage.peak_bytes for stage in stages) / 1e9,
        **{"compilation": stages[-1].compilation, "source": ""},
    }


def _literature() -> list[dict[str, object]]:
    """Return the rows of published costs."""
    cells: dict[tuple[str, str, int], dict[str, object]] = {}
    for row in published.rows():
        name = _PUBLISHED.get(row.metric)
        if name or row.metric == _LEAST:
            key = (row.method, row.dataset, row.ipc)
            about: dict[str, object] = {
                "dataset": row.dataset,
                "device": "as published",
                "role": "published",
            }
            about |= {"method": row.method, "ipc": row.ipc, "compilation": ""}
            cell = cells.setdefault(key, {**about, "source": row.source})
            cell[name or "out_of_memory"] = row.mean
    return list(cells.values())
