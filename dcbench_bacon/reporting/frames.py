"""Frames for notebooks: records of a folder, published numbers, and both together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from dcbench_bacon.errors import UsageError, guess
from dcbench_bacon.reporting import tables
from dcbench_bacon.reporting.published import PublishedNumber, rows
from dcbench_bacon.store import Store


def records(folder: str | Path) -> pd.DataFrame:
    """Return the records in a results folder: a row per evaluated network.

    Args:
        folder: a results folder.

    Returns:
        The columns of ``dcbench table --layout long``; accuracies are fractions.

    Raises:
        RecordError: a record cannot be read.
        UsageError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"{folder} is no folder; name the --output of dcbench run")
    return tables.frame(list(Store(Path(folder)).records()))


def published(**columns: Any) -> pd.DataFrame:
    """Return the numbers of the literature: a row per number.

    Args:
        columns: values to choose rows by, such as ``dataset="cifar10", ipc=10``.

    Returns:
        ``method``, ``dataset``, ``ipc``, ``architecture``, ``metric``, ``mean`` and
        ``std`` (in percent for accuracies), ``source``, ``evaluation`` and
        ``certainty``.

    Raises:
        UsageError: there is no such column.
    """
    there = PublishedNumber.__struct_fields__
    frame = pd.DataFrame([msgspec.to_builtins(row) for row in rows()], columns=there)
    for name, value in columns.items():
        if name not in there:
            near = guess(name, there)
            raise UsageError(f"no column {name!r}.{near} There are: {', '.join(there)}")
        frame = frame[frame[name] == value]
    return frame.reset_index(drop=True)


def table(
    folder: str | Path,
    *,
    presets: Sequence[str] = ("paper",),
    source: str | None = None,
) -> pd.DataFrame:
    """Return measured accuracies beside the published ones, in percent.

    Args:
        folder: a results folder.
        presets: whose records enter: ``paper``, ``quick``, ``demo``.
        source: of published numbers; by default the method's own paper, else the first
            of dcbench's sources that has the cell.

    Returns:
        A row per recipe and network, with mean, standard deviation, number of networks,
        the published number, its source, and their difference or why there is none.

    Raises:
        RecordError: a record cannot be read.
        UsageError: there is no such folder or source.
    """
    return tables.summary(records(folder), presets=tuple(presets), source=source)
