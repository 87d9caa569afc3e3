"""Where each value of a record comes from, and the command that makes the record again.

Records contain values and no sources. The sources are those of the recipe tables that
are installed now, for the values that these tables still have.
"""

import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec

from dcbench_bacon.errors import UsageError
from dcbench_bacon.plugins import DATASETS, METHODS, Registry, recipe_file
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import overlay, protocols
from dcbench_bacon.recipes.protocols import DEFAULT, Request
from dcbench_bacon.recipes.toml_tables import PROTOCOL_PREFIX, Origin, is_protocol
from dcbench_bacon.schema import Cell, Recipe, Record

# Facts about how a file was read that one option of ``dcbench evaluate`` states.
_READ_AS = {
    "format": lambda value: ["--from", str(value)],
    "partition": lambda value: ["--partition", str(value)],
    "scale": lambda value: ["--normalized" if value == "normalised" else "--pixels"],
    "statistics": lambda value: ["--statistics", str(value)],
    "zca": lambda value: ["--zca" if value in (True, "True") else "--no-zca"],
}
_FROM_FILE = Origin("the file of the set", "")
# Keys of a protocol that an option of their own states.
_BY_OPTION = ("name", "architectures", "selection")


class Line(NamedTuple):
    """One value of a recipe: its key, the value in TOML, and where it comes from."""

    key: str
    value: str
    table: str
    source: str


class Tables(NamedTuple):
    """The values that the installed recipes give a cell, with origins, by key."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]


class Command(NamedTuple):
    """A command line, and sentences about what it needs."""

    line: str
    notes: tuple[str, ...]


def lines(record: Record) -> tuple[list[Line], list[Line]]:
    """Return the values of a record with their sources: settings, and protocol."""
    tables, overrides = _tables(record), record.recipe.overrides
    values = _values(record.recipe)
    sourced = [_line(key, value, tables, overrides) for key, value in values.items()]
    if _is_of_a_file(record):
        sourced = [
            line if is_protocol(line.key) else Line(*line[:2], *_FROM_FILE)
            for line in sourced
        ]
    settings = [line for line in sourced if not is_protocol(line.key)]
    return settings, [line for line in sourced if is_protocol(line.key)]


def command(record: Record) -> Command:
    """Return the command that makes a record again, in a folder of its own.

    Values that today's recipe tables do not have, and overrides, are given by ``--set``
    so that the recipe has the same digest.
    """
    cell, recipe, of_file = record.cell, record.recipe, _is_of_a_file(record)
    tables, notes = _tables(record), []
    data, note = _data_set(cell.dataset)
    notes += note
    if of_file:
        digest = recipe.settings.get("sha256")
        words = ["evaluate", "FILE", "--dataset", data, *_reading(recipe)]
        words += ["--name", record.name] if record.name else []
        notes.append(f"FILE is the set with the sha256 {digest}.")
    else:
        words = ["run", "--methods", cell.method, "--datasets", data]
        words += ["--ipc", str(max(cell.ipc, 1)), "--seeds", str(cell.seed)]
    words += ["--preset", recipe.preset, "--protocol", recipe.protocol.name]
    words += _options(recipe.protocol, tables, recipe.overrides)
    for key, text in _changes(record, tables).items():
        words += ["--set", f"{key}={text}"]
    words += ["--device", "cuda" if record.environment.cuda else "cpu"]
    words += ["--output", "again"]
    if not of_file and cell.method not in _names(METHODS):
        notes.append(f"The method {cell.method} is not installed here.")
    return Command(f"dcbench {shlex.join(words)}", (*notes, *_circumstances(record)))


def _circumstances(record: Record) -> list[str]:
    """Return sentences about the code and the threads that the bits depend on."""
    where = record.environment
    notes = []
    if where.git_commit:
        clean = where.git_commit.removesuffix("+")
        changed = where.git_commit != clean
        ending = ", with changes that were not committed" if changed else ""
        notes.append(f"The code was that of commit {clean}{ending}.")
    if not where.cuda:
        notes.append(f"On a CPU, the bits need OMP_NUM_THREADS={where.threads}.")
    return notes


def _is_of_a_file(record: Record) -> bool:
    """Return whether the set was read from a file of another tool."""
    settings = record.recipe.settings
    return "sha256" in settings and "format" in settings


def _data_set(name: str) -> tuple[str, list[str]]:
    """Return a data set as it is typed, and a note where the path is not known."""
    if name in _names(DATASETS):
        return name, []
    return "folder:PATH", [f"PATH is the folder of the data set {name}."]


def _reading(recipe: Recipe) -> list[str]:
    """Return the options that state how a file was read."""
    known = {key: recipe.settings.get(key) for key in _READ_AS}
    return [
        word
        for key, value in known.items()
        if value is not None
        for word in _READ_AS[key](value)
    ]


def _values(recipe: Recipe) -> dict[str, Any]:
    """Return all values of a recipe, those of the protocol with their prefix."""
    return {**recipe.settings, **_prefixed(recipe.protocol)}


def _prefixed(protocol: Protocol) -> dict[str, Any]:
    """Return the values of a protocol by the keys that recipes have for them."""
    values = msgspec.to_builtins(protocol)
    return {f"{PROTOCOL_PREFIX}{key}": value for key, value in values.items()}


def _tables(record: Record) -> Tables:
    """Return what the installed recipes state for the cell of a record."""
    cell = msgspec.structs.replace(record.cell, seed=0)
    return _stated(cell, record.recipe.preset, record.recipe.protocol.name)


@cache
def _names(registry: Registry) -> frozenset[str]:
    """Return the names in a registry, which is asked once for all records."""
    return frozenset(registry.names())


@cache
def _stated(cell: Cell, preset: Any, name: str) -> Tables:
    """Return the tables for a cell; empty where a name is not installed here."""
    request = Request(preset=preset, protocol=name)
    try:
        if cell.method in _names(METHODS):
            values, judged, origins = overlay.stated(recipe_file, cell, request)
            return Tables({**values, **_prefixed(judged.protocol)}, origins)
        protocol, origins = protocols.protocol_in_force(cell, request)
    except UsageError:
        return Tables({}, {})
    return Tables(_prefixed(protocol), origins)


def _line(key: str, value: Any, tables: Tables, overrides: Mapping[str, str]) -> Line:
    """Return a value with its origin, or with what is known instead of one."""
    if key in overrides:
        origin = Origin("--set", "")
    elif key not in tables.values:
        origin = Origin("" if is_protocol(key) else DEFAULT, "")
    elif _same(tables.values[key], value):
        origin = tables.origins.get(key, Origin(DEFAULT, ""))
    else:
        now = _text(tables.values[key])
        origin = Origin(f"the record; the recipe installed now has {now}", "")
    return Line(key, _text(value), *origin)


def _options(
    protocol: Protocol, tables: Tables, overrides: Mapping[str, str]
) -> list[str]:
    """Return the options of a protocol that differ from the installed recipes."""
    words = []
    for key in ("architectures", "selection"):
        prefixed, value = f"{PROTOCOL_PREFIX}{key}", getattr(protocol, key)
        if prefixed in overrides or _same(tables.values.get(prefixed), value):
            continue
        text = value if isinstance(value, str) else ",".join(value)
        words += [f"--{key}", text]
    return words


def _changes(record: Record, tables: Tables) -> dict[str, str]:
    """Return the values that ``--set`` must state, as typed, by key."""
    overrides = record.recipe.overrides
    by_option = {PROTOCOL_PREFIX + key for key in _BY_OPTION}
    differing = {
        key: _text(value)
        for key, value in _values(record.recipe).items()
        if key in tables.values
        and key not in by_option
        and value is not None
        and not _same(tables.values[key], value)
    }
    of_file = _is_of_a_file(record)
    kept = {k: v for k, v in overrides.items() if is_protocol(k) or not of_file}
    return differing | kept


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal once written, as 1 and 1.0 are."""
    return bool(msgspec.to_builtins(one) == msgspec.to_builtins(other))


def _text(value: Any) -> str:
    """Return a value in TOML, as a recipe and ``--set`` write it."""
    if isinstance(value, dict):
        given = {key: item for key, item in value.items() if item is not None}
        inner = [f"{key} = {_text(item)}" for key, item in given.items()]
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return msgspec.json.encode(value).decode()
