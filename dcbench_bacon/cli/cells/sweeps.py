"""The grids of ``dcbench run`` that run several times, each time with other values.

``--sweep`` makes one for each value of a recipe key, ``--grid`` one for each arm.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dcbench_bacon.errors import UsageError
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan


def plan_each(
    grid: Grid, overrides: Iterable[Mapping[str, str]], data_root: Path | None
) -> list[CellJob]:
    """Return the jobs of a grid with each of several sets of overrides.

    A method that has none of the keys that differ has one job for all.

    Args:
        grid: the grid.
        overrides: all overrides of the grid, by key.
        data_root: the folder of data sets.
    """
    jobs: dict[Any, CellJob] = {}
    for choice in overrides:
        request = msgspec.structs.replace(grid.request, overrides=choice)
        for job in plan(msgspec.structs.replace(grid, request=request), data_root):
            jobs.setdefault((job.cell, job.source, job.digest), job)
    return list(jobs.values())


def swept(grid: Grid, sweeps: Sequence[str]) -> list[dict[str, str]]:
    """Return the overrides of a grid at every combination of swept values.

    Args:
        grid: the grid, with the overrides of ``--set``.
        sweeps: texts such as ``tv_weight=0,0.2,0.8``; none for the grid alone.

    Raises:
        UsageError: a text has no key or no values, or a key is given twice.
    """
    axes, given = parse_sweeps(sweeps), grid.request.overrides
    if twice := [key for key in axes if key in given]:
        raise UsageError(f"--sweep {twice[0]}: leave out --set {twice[0]}")
    return [
        {**given, **dict(zip(axes, values, strict=True))}
        for values in itertools.product(*axes.values())
    ]


def parse_sweeps(sweeps: Sequence[str]) -> dict[str, list[str]]:
    """Return the values by key, without duplicates.

    Raises:
        UsageError: a text has no key or no values, or a key is given twice.
    """
    axes: dict[str, list[str]] = {}
    for text in sweeps:
        key, _, values = (part.strip() for part in text.partition("="))
        choices = [value.strip() for value in values.split(",") if value.strip()]
        if not (key and choices):
            raise UsageError(f"--sweep {text}: write --sweep key=value,value")
        if key in axes:
            raise UsageError(f"--sweep {key}: give all its values in one --sweep")
        axes[key] = list(dict.fromkeys(choices))
    return axes


def names_of(jobs: Sequence[CellJob]) -> dict[str, str]:
    """Return what tells jobs apart: the cell, and what jobs of one cell do not share.

    Returns:
        The names, by ``name_key``.
    """
    shared: dict[str, set[tuple[str, str]]] = {}
    for job in jobs:
        items = set(job.resolved.recipe.overrides.items())
        shared[str(job.cell)] = items & shared.get(str(job.cell), items)
    names = {}
    for job in jobs:
        texts = job.resolved.recipe.overrides.items()
        differences = [
            f"{k}={v}" for k, v in texts if (k, v) not in shared[str(job.cell)]
        ]
        names[name_key(job)] = " ".join([str(job.cell), *differences])
    return names


def name_key(job: CellJob) -> str:
    """Return what identifies a job among those of a grid."""
    return f"{job.cell} {job.digest}"
