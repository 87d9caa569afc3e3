"""Frames for notebooks: records of a folder, published numbers, and both together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from dcbench_bacon.errors import UsageError, guess
from dcbench_bacon.reporting.literature.published import PublishedNumber, rows
from dcbench_bacon.reporting.numbers import contents, longform
from dcbench_bacon.reporting.numbers.layout_numbers import wide
from dcbench_bacon.schema import Record
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
    return longform.frame(_records(folder))


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
    known = PublishedNumber.__struct_fields__
    frame = pd.DataFrame([msgspec.to_builtins(row) for row in rows()], columns=known)
    for name, value in columns.items():
        if name not in known:
            near = guess(name, known)
            raise UsageError(f"no column {name!r}.{near} There are: {', '.join(known)}")
        frame = frame[frame[name] == value]
    return frame.reset_index(drop=True)


def table(
    folder: str | Path,
    *,
    what: str = "accuracy",
    layout: str = "long",
    presets: Sequence[str] = ("paper",),
    source: str | None = None,
    gain_over: str | None = None,
    against: str | None = None,
) -> pd.DataFrame:
    """Return a table of the records in a folder, as ``dcbench table`` prints it.

    Args:
        folder: a results folder.
        what: ``accuracy`` (measured beside published, in percent), ``summary`` (ranks,
            wins, ties and losses of methods), ``spread``, ``transfer``, ``scores``,
            ``cost``, ``timing`` or ``unfinished``.
        layout: of accuracies: ``long``, ``paper`` or ``networks``.
        presets: whose records enter: ``paper``, ``quick``, ``demo``.
        source: of published numbers; by default the method's own paper, else the first
            of dcbench's sources that has the cell.
        gain_over: the method of the gain row of a layout; None for no such row.
        against: the method that ``scores`` and ``summary`` compare the others with;
            None for random images in ``scores`` and for all in ``summary``.

    Returns:
        Accuracies with ``long``: a row per recipe and network, with mean, standard
        deviation, number of networks, the published number, its source, and their
        difference or why there is none. With the other layouts, a row per printed row,
        indexed by block, role and method; the columns are pairs of a data set
        (``paper``) or a network (``networks``) and ``mean``, ``std``, ``n``,
        ``published``, ``published_std``, ``difference``, ``gain`` or ``ratio``.

    Raises:
        RecordError: a record cannot be read.
        UsageError: there is no such folder, content, layout or source.
    """
    records = _records(folder)
    table = contents.table_of(
        records,
        what,
        layout=layout,
        presets=presets,
        source=source,
        against=against,
        gain_over=gain_over,
    )
    return table.frame if layout == "long" else wide(table.frame)


def _records(folder: str | Path) -> list[Record]:
    """Return the records in a results folder."""
    if not Path(folder).is_dir():
        raise UsageError(f"{folder} is no folder; name the --output of dcbench run")
    return list(Store(Path(folder)).records())
