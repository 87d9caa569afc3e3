"""The tables of recipe files: how they are read, merged and checked."""

import logging
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
logger = logging.getLogger(__name__)
_ABOUT = ("source", "sources", "inherited")  # keys that describe a table's values
Document = Mapping[str, Any]
T = TypeVar("T", bound=Struct)


class Origin(NamedTuple):
    """The origin of a value.

    Attributes:
        table: the file and the table, or the option, that set it.
        source: the paper or code that it comes from.
    """

    table: str
    source: str


@cache
def read(path: Path) -> Document:
    """Return the content of a recipe file.

    Raises:
        UsageError: the file is missing or is not TOML; the message names the line.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: this recipe file is missing; install its package again"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error
    if "profiles" in document:  # their name until version 0.1
        logger.warning("%s: rename the tables [profiles. ...] to [presets. ...]", path)
        document["presets"] = document.pop("profiles")
    return document


def tables(document: Document) -> Iterator[tuple[str, str | None, int | None]]:
    """Yield the label, data set and images per class of each table in a document.

    Raises:
        UsageError: the name of a table is not a number of images per class.
    """
    for key, table in document.items():
        if key == "presets" or not isinstance(table, dict):
            continue
        dataset = None if key in ("defaults", "*") else key
        yield key, dataset, None
        for ipc, inner in table.items():
            if isinstance(inner, dict) and ipc != "sources":
                if not ipc.isdigit():
                    raise UsageError(
                        f"[{key}.{ipc}]: {ipc!r} is not a number of images per class; "
                        f"write, for example, [{key}.10]"
                    )
                yield f"{key}.{ipc}", dataset, int(ipc)


def _layers(document: Document, cell: schema.Cell) -> Iterator[tuple[str, Document]]:
    """Yield the labels and tables that apply to a cell; later ones override earlier."""
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
    documents: list[tuple[str, Document]], cell: schema.Cell, preset: str
) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Return the values of a cell from merged tables, and the origin of each value.

    Args:
        documents: the names and contents of files; later ones override earlier ones.
        cell: the data set and the images per class.
        preset: the name of the preset.

    Raises:
        UsageError: a table states the source of a key that it does not set.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    singly: set[str] = set()  # keys that have a source of their own
    reduced = [
        (f"{name} presets.{preset}", content.get("presets", {}).get(preset, {}))
        for name, content in documents
    ]
    for name, document in documents + reduced:
        for label, table in _layers(document, cell):
            where, sources = f"{name} [{label}]", table.get("sources", {})
            if unset := sorted(set(sources) - set(table)):
                raise UsageError(
                    f"{where}: the table states sources of {unset}, which it does not "
                    "set; set them or remove their sources"
                )
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
    """Return whether a key belongs to the protocol."""
    return key.startswith(PROTOCOL_PREFIX)


def where_to_look(path: Path, overrides: Mapping[str, Any]) -> str:
    """Return the file and the options that may have set a wrong value."""
    options = "".join(f", --set {key}" for key in overrides)
    return f"{path}{options}"


def convert(values: Document, struct: type[T], where: str) -> T:
    """Return a struct of the values.

    Args:
        values: the values by key.
        struct: the type of the struct.
        where: the file and the options that set the values, for the message.

    Raises:
        UsageError: a value does not fit its key, or a key is unknown.
    """
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(struct))
        raise UsageError(f"{where}: {error}. The keys are: {known}") from error


def literal(text: str) -> Any:
    """Return the value of an override: a TOML value, or else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
