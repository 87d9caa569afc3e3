"""The tables of recipe files: read, laid over each other, their values checked."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from dcbench_bacon import schema
from dcbench_bacon.errors import UsageError

PROTOCOL_PREFIX = "protocol."
_ABOUT = ("source", "sources", "inherited")  # what a table says of its values
Document = Mapping[str, Any]
T = TypeVar("T", bound=Struct)


class Origin(NamedTuple):
    """Where a value in force comes from."""

    table: str
    source: str


@cache
def read(path: Path) -> Document:
    """Parses a recipe file.

    Raises:
        UsageError: the file is missing or is not TOML; the message names the line.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: this recipe file is missing") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error


def tables(document: Document) -> Iterator[tuple[str, str | None, int | None]]:
    """The (label, data set, images per class) of each table in a document."""
    for key, table in document.items():
        if key == "profiles" or not isinstance(table, dict):
            continue
        dataset = None if key in ("defaults", "*") else key
        yield key, dataset, None
        for ipc, inner in table.items():
            if isinstance(inner, dict) and ipc != "sources":
                if not ipc.isdigit():
                    raise UsageError(f"[{key}.{ipc}]: {ipc!r} is no image count")
                yield f"{key}.{ipc}", dataset, int(ipc)


def _layers(document: Document, cell: schema.Cell) -> Iterator[tuple[str, Document]]:
    """The tables that apply to a cell, the weakest first."""
    yield "defaults", document.get("defaults", {})
    for key in ("*", cell.dataset):
        table = document.get(key, {})
        flat = {
            name: value
            for name, value in table.items()
            if name == "sources" or not isinstance(value, dict)
        }
        yield key, flat
        cited = {"source": table["source"]} if "source" in table else {}
        inner = table.get(str(cell.ipc), {})
        yield f"{key}.{cell.ipc}", {**cited, **inner} if inner else {}


def merge(
    documents: list[tuple[str, Document]], cell: schema.Cell, profile: str
) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Lays the tables over each other and remembers who set what."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    singly: set[str] = set()  # keys that have a source of their own
    reduced = [
        (f"{name} profiles.{profile}", each.get("profiles", {}).get(profile, {}))
        for name, each in documents
    ]
    for name, document in documents + reduced:
        for label, table in _layers(document, cell):
            where, sources = f"{name} [{label}]", table.get("sources", {})
            if unset := sorted(set(sources) - set(table)):
                raise UsageError(f"{where}: sources of {unset}, which it does not set")
            if "inherited" in table:
                for key in set(origins) - singly:
                    origins[key] = origins[key]._replace(source=table["inherited"])
            for key, value in table.items():
                if key not in _ABOUT:
                    values[key] = value
                    source = sources.get(key, table.get("source", ""))
                    origins[key] = Origin(where, source)
            singly = singly - set(table) | set(sources)
    return values, origins


def is_protocol(key: str) -> bool:
    """Tell whether a key is one of the protocol's."""
    return key.startswith(PROTOCOL_PREFIX)


def where_to_look(path: Path, overrides: Mapping[str, Any]) -> str:
    """What to look at when a value does not fit."""
    options = "".join(f", --set {key}" for key in overrides)
    return f"{path}{options}"


def convert(values: Document, struct: type[T], where: str) -> T:
    """Validates values; the error names the file, the key and what was expected."""
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(struct))
        raise UsageError(f"{where}: {error}. The keys are: {known}") from error


def literal(text: str) -> Any:
    """Reads an override as TOML would; what is no TOML value is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
