"""Saved sets, opened together with the data set that they are tested on."""

from pathlib import Path
from typing import Any

import torch

from dcbench_bacon.data import loading
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.running import run, saved_sets


def open_set(
    path: Path,
    stated: ReadingOptions,
    device: torch.device,
    root: Path | None,
    told: set[Any] | None = None,
) -> run.OpenedSet:
    """Read a set and the data set that it is tested on.

    Args:
        path: of the set.
        stated: what the user states about it.
        device: where both are to lie.
        root: the folder of data sets; None for the default one.
        told: tables that were shown before, which are not shown again.

    Raises:
        DataError: the file does not name its data set, or the data do not fit it.
    """
    synthetic = adopt.read(path, stated, root, told).to(device)
    cell, made_for = saved_sets.origin(path, synthetic)
    # A header names no folder of this machine: only --dataset does.
    name = stated.dataset or cell.dataset.partition(":")[0]
    try:
        loaded = loading.load(name, root, device)
    except UsageError as error:
        raise DataError(
            f"{path} was made from {cell.dataset}, and there is no data set of that "
            "name; name it with --dataset, or a folder with --dataset folder:PATH"
        ) from error
    return saved_sets.beside(path, synthetic, cell, made_for, loaded)
