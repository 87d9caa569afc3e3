"""Plans the cells of a grid."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from dcbench_bacon.contract import cell_of, method_class
from dcbench_bacon.data import loading
from dcbench_bacon.errors import DataError
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.recipes import overlay, protocols
from dcbench_bacon.running.planning import CellJob, resolve


class Grid(Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        methods: names as typed.
        datasets: names as typed, ``folder:PATH`` among them.
        ipc: images per class.
        seeds: repetitions.
        request: profile, protocol and overrides.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    ipc: tuple[int, ...]
    seeds: tuple[int, ...]
    request: protocols.Request


def plan(grid: Grid, data_root: Path | None = None) -> list[CellJob]:
    """The jobs of a grid: by data set, then images per class, method and seed.

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
    """The data sets as typed and their names, without what is there twice.

    Folders of one name are compared; those of different images are different data sets.
    """
    found: dict[str, str] = {}
    fingerprints: set[tuple[str, str]] = set()
    names = {source: loading.cell_name(source, data_root) for source in sources}
    for source, name in names.items():
        if list(names.values()).count(name) > 1:
            try:
                content = (name, _fingerprint(source, data_root))
            except DataError:  # its cells will say so
                content = (name, source)
            if content in fingerprints:
                continue
            fingerprints.add(content)
        found[source] = name
    return found


def _fingerprint(source: str, data_root: Path | None) -> str:
    known = loading.known_fingerprint(source, data_root)
    return known or loading.load(source, data_root).fingerprint
