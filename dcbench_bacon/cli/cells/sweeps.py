"""The grids of ``dcbench run --sweep``: one for each value of a recipe key."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from dcbench_bacon.errors import UsageError
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan


def plan_sweep(
    grid: Grid, sweeps: Sequence[str], data_root: Path | None
) -> list[CellJob]:
    """Return the jobs of a grid at every combination of swept values.

    A method that has no such key has one job for all values.

    Args:
        grid: the grid, with the overrides of ``--set``.
        sweeps: texts such as ``tv_weight=0,0.2,0.8``; none for the grid alone.
        data_root: the folder of data sets.

    Raises:
        UsageError: a text has no key or no values, or a key is given twice.
    """
    axes = parse_sweeps(sweeps)
    if twice := [key for key in axes if key in grid.request.overrides]:
        raise UsageError(f"--sweep {twice[0]}: leave out --set {twice[0]}")
    jobs: dict[Any, CellJob] = {}
    for values in itertools.product(*axes.values()):
        overrides = {**grid.request.overrides, **dict(zip(axes, values, strict=True))}
        request = msgspec.structs.replace(grid.request, overrides=overrides)
        for job in plan(msgspec.structs.replace(grid, request=request), data_root):
            jobs.setdefault((job.cell, job.source, job.digest), job)
    return list(jobs.values())


def parse_sweeps(sweeps: Sequence[str]) -> dict[str, list[str]]:
    """Return the values by key, without duplicates.

    Raises:
        UsageError: a text has no key or no values, or a key is given twice.
    """
    axes: dict[str, list[str]] = {}
    for text in sweeps:
        key, _, values = (part.strip() for part in text.partition("="))
        found = [value.strip() for value in values.split(",") if value.strip()]
        if not (key and found):
            raise UsageError(f"--sweep {text}: write --sweep key=value,value")
        if key in axes:
            raise UsageError(f"--sweep {key}: give all its values in one --sweep")
        axes[key] = list(dict.fromkeys(found))
    return axes
