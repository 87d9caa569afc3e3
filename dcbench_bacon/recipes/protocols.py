"""Evaluation protocols by name, and what a user asks of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from msgspec import Struct

from dcbench_bacon import field_types, schema
from dcbench_bacon.errors import UsageError, guess
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes.toml_tables import (
    PROTOCOL_PREFIX,
    Document,
    Origin,
    convert,
    is_protocol,
    literal,
    merge,
    read,
    tables,
    where_to_look,
)

PROTOCOLS = Path(__file__).with_name("protocols.toml")
PUBLISHED = "dc"  # the protocol of the methods' own papers
DEFAULT = "default of the code"


class Request(Struct, frozen=True, kw_only=True):
    """What decides which values are in force, apart from method and cell."""

    profile: field_types.Profile = "paper"
    protocol: str = PUBLISHED
    overrides: Mapping[str, str] = {}
    architectures: tuple[str, ...] = ()
    selection: field_types.Selection | None = None


def protocol(cell: schema.Cell, request: Request) -> Protocol:
    """The evaluation protocol in force for a cell."""
    return protocol_in_force(cell, request)[0]


def protocol_names() -> list[str]:
    """The evaluation protocols that exist."""
    return list(read(PROTOCOLS))


def protocol_titles() -> dict[str, str]:
    """A line about every protocol."""
    return {name: document["title"] for name, document in read(PROTOCOLS).items()}


def protocol_name(typed: str) -> str:
    """Return the name of a protocol for what was typed, ``-`` and ``+`` read as ``_``.

    Raises:
        UsageError: there is none; lists what there is.
    """
    name, known = typed.replace("-", "_").replace("+", "_"), protocol_names()
    if name not in known:
        near = guess(typed, known)
        raise UsageError(
            f"unknown protocol {typed!r}.{near} There are: {', '.join(known)}"
        )
    return name


def protocol_requests(name: str) -> Iterator[tuple[schema.Cell, Request]]:
    """A cell and a request for every table of a protocol, in every profile.

    Raises:
        UsageError: a table is not of images per class.
    """
    document = read(PROTOCOLS)[name]
    for profile in get_args(field_types.Profile):
        own = document.get("profiles", {}).get(profile, {})
        yield schema.Cell("any", "digits", 10), Request(profile=profile, protocol=name)
        for _, dataset, ipc in tables(document if profile == "paper" else own):
            cell = schema.Cell("any", dataset or "digits", ipc or 10)
            yield cell, Request(profile=profile, protocol=name)


def asked_of_protocol(request: Request) -> dict[str, tuple[Any, str]]:
    """What the user set of the protocol: value and option a key."""
    chosen: dict[str, tuple[Any, str]] = {
        key.removeprefix(PROTOCOL_PREFIX): (literal(value), "--set")
        for key, value in request.overrides.items()
        if is_protocol(key)
    }
    if request.architectures:
        chosen["architectures"] = request.architectures, "--architectures"
    if request.selection:
        chosen["selection"] = request.selection, "--selection"
    return chosen


def protocol_in_force(
    cell: schema.Cell, request: Request, method: Mapping[str, Any] | None = None
) -> tuple[Protocol, dict[str, Origin]]:
    """The evaluation protocol in force, its keys prefixed in the origins."""
    name = protocol_name(request.protocol)
    values, origins = merge(_protocol_layers(name), cell, request.profile)
    for key, value in (method or {}).items():
        values[key.removeprefix(PROTOCOL_PREFIX)] = value
    for key, (value, option) in asked_of_protocol(request).items():
        values[key] = value
        origins[key] = Origin(option, "")
    where = where_to_look(PROTOCOLS, asked_of_protocol(request))
    struct = convert({**values, "name": name}, Protocol, where)
    # What no table names is as in the published protocol, whose tables name all.
    published = merge(_protocol_layers(PUBLISHED), cell, "paper")[1]
    origins["name"] = Origin("--protocol", read(PROTOCOLS)[name]["title"])
    for field in struct.__struct_fields__:
        as_published = published.get(field, Origin("", "")).source
        origins.setdefault(field, Origin(DEFAULT, as_published))
    prefixed = {PROTOCOL_PREFIX + key: origin for key, origin in origins.items()}
    return struct, prefixed


def _protocol_layers(name: str) -> list[tuple[str, Document]]:
    """The tables of a protocol and of those it lies over, the lowest first."""
    document, names = read(PROTOCOLS), [name]
    while base := document[names[0]].get("base"):
        if base not in document or base in names:
            raise UsageError(f"{PROTOCOLS} [{names[0]}]: no base {base!r} to lie over")
        names.insert(0, base)
    return [(f"{PROTOCOLS.name} {each}", document[each]) for each in names]
