"""Grids of cells, and the jobs that they consist of."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from dcbench_bacon.contract import cell_of, method_class
from dcbench_bacon.data import loading
from dcbench_bacon.errors import DataError
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.recipes import overlay, protocols
from dcbench_bacon.running.plans.planning import CellJob, resolve


class Grid(Struct, frozen=True, kw_only=True):
    """A grid of cells: all combinations of its values.

    Attributes:
        methods: names of methods as typed.
        datasets: names of data sets as typed, such as ``cifar10`` or ``folder:PATH``.
        ipc: numbers of images per class.
        seeds: seeds of the repetitions.
        request: preset, protocol and overrides.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    ipc: tuple[int, ...]
    seeds: tuple[int, ...]
    request: protocols.Request


def plan(grid: Grid, data_root: Path | None = None) -> list[CellJob]:
    """Return the jobs of a grid, by data set, images per class, method and seed.

    Raises:
        UsageError: a name, a key or a value is wrong; nothing has run.
    """
    methods = [METHODS.resolve(name) for name in grid.methods]
    settings = [method_class(name).Settings for name in methods]
    overlay.check_overrides(grid.request.overrides, settings)
    jobs = {}
    for source, name in _distinct(grid.datasets, data_root).items():
        for ipc in grid.ipc:
            for method in methods:
                for seed in grid.seeds:
                    cell = cell_of(method, name, ipc, seed)
                    # A reference has one cell for all ipc.
                    jobs[cell, source] = CellJob(
                        cell, source, resolve(cell, grid.request)
                    )
    return list(jobs.values())


def _distinct(sources: Sequence[str], data_root: Path | None) -> dict[str, str]:
    """Return the data sets as typed with their names, without duplicates.

    Folders of one name are compared; those with different images are different data
    sets.
    """
    known: dict[str, str] = {}
    fingerprints: set[tuple[str, str]] = set()
    names = {source: loading.cell_name(source, data_root) for source in sources}
    for source, name in names.items():
        if list(names.values()).count(name) > 1:
            try:
                content = (name, _fingerprint(source, data_root))
            except DataError:  # reported when its cells run
                content = (name, source)
            if content in fingerprints:
                continue
            fingerprints.add(content)
        known[source] = name
    return known


def _fingerprint(source: str, data_root: Path | None) -> str:
    known = loading.known_fingerprint(source, data_root)
    return known or loading.load(source, data_root).fingerprint
