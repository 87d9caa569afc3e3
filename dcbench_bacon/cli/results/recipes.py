"""The output of ``dcbench show`` and ``dcbench check``."""

import itertools
from typing import Any

import msgspec

from dcbench_bacon import contract, plugins
from dcbench_bacon.data import loading
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation import judged
from dcbench_bacon.plugins import DATASETS, METHODS
from dcbench_bacon.recipes import digests, grids, overlay, protocols, toml_tables
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell


def show_recipe(*, method: str, dataset: str, ipc: int, **requested: Any) -> str:
    """Return the recipe of a cell, one line per key with value, table and source."""
    name = loading.cell_name(dataset)
    cell = contract.cell_of(METHODS.resolve(method), name, ipc)
    request = request_of("paper", **requested)
    overlay.check_overrides(
        request.overrides, [contract.method_class(cell.method).Settings]
    )
    resolved = planning.resolve(cell, request)
    configured = contract.method_class(cell.method).create(resolved.recipe.settings)
    values = msgspec.to_builtins(configured.settings)
    fields = msgspec.to_builtins(resolved.recipe.protocol)
    values |= {
        toml_tables.PROTOCOL_PREFIX + key: value for key, value in fields.items()
    }
    lines = [f"{cell.method} on {cell.dataset}, ipc {ipc}, preset {request.preset}"]
    shown = {key: _toml(value) for key, value in values.items()}
    width = max(map(len, shown))
    wide = max(len(value) for value in shown.values())
    for key, value in shown.items():
        origin = resolved.origins.get(key)
        where = f"{origin.table}  {origin.source}" if origin else ""
        lines.append(f"  {key:<{width}}  {value:<{wide}}  {where}".rstrip())
    for sentence in overlay.protocol_departures(request.protocol):
        lines.append(
            f"  protocol {request.protocol} departs from its source: {sentence}"
        )
    lines.append(f"recipe {digests.digest(resolved.recipe)}")
    return "\n".join(lines)


def check_recipes() -> list[str]:
    """Resolve every table of every recipe and protocol; return the problems found."""
    problems = []
    known = list(DATASETS.names())
    for method in METHODS.names():
        path = plugins.recipe_file(method)
        try:
            for cell, preset in _settings_of(method, toml_tables.read(path), known):
                planning.resolve(cell, protocols.Request(preset=preset))
        except UsageError as error:
            problems.append(f"{method}: {error}")
    for name in protocols.protocol_names():
        try:
            for cell, request in protocols.protocol_requests(name):
                if cell.dataset not in known:
                    raise UsageError(f"no data set {cell.dataset!r}")
                judged.check_protocol(protocols.protocol(cell, request))
        except UsageError as error:
            problems.append(f"protocol {name}: {error}")
    for name in grids.grid_titles():
        try:
            _check_grid(grids.ready_grid(name))
        except UsageError as error:
            problems.append(f"grid {name}: {error}")
    return problems


def _check_grid(grid: grids.ReadyGrid) -> None:
    """Resolve the recipes of all arms of a grid.

    Raises:
        UsageError: a name, a key or a value is wrong.
    """
    methods = [METHODS.resolve(name) for name in grid.methods]
    settings = [contract.method_class(method).Settings for method in methods]
    for dataset in grid.datasets:
        DATASETS.resolve(dataset)
    for arm in grid.arms:
        overlay.check_overrides(arm.overrides, settings)
        for method, dataset, ipc in itertools.product(methods, grid.datasets, grid.ipc):
            cell = contract.cell_of(method, dataset, ipc)
            planning.resolve(cell, protocols.Request(overrides=arm.overrides))


def _settings_of(
    method: str, document: toml_tables.Document, known: list[str]
) -> list[tuple[Cell, Any]]:
    """Return a cell for every table of a recipe, in every preset that has it."""
    cells: list[tuple[Cell, Any]] = []
    presets = document.get("presets", {})
    for preset, tables_ in {"paper": document, **presets}.items():
        cells.append((Cell(method, "digits", 10), preset))
        for label, dataset, ipc in toml_tables.tables(tables_):
            if dataset is not None and dataset not in known:
                raise UsageError(f"[{label}]: no data set {dataset!r}")
            cells.append((Cell(method, dataset or "digits", ipc or 10), preset))
    return cells


def _toml(value: Any) -> str:
    return msgspec.json.encode(value).decode()
