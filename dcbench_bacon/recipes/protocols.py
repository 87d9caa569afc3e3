"""The evaluation protocols by name, with the changes that a user requests."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from msgspec import Struct

from dcbench_bacon import field_types, schema
from dcbench_bacon.errors import UsageError, unknown
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
SHARED = "common"  # the protocol of label regimes, the same for all methods
PUBLISHED = "dc"  # the protocol of the methods' own papers
DEFAULT = "default of the code"
_REGIMES: dict[str, dict[str, Any]] = {
    "hard": {"labels": "hard", "teachers": [], "loss": "ce", "original_weight": 0.0},
    "soft": {"labels": "soft"},
    "renewed": {"labels": "own"},
}


class Request(Struct, frozen=True, kw_only=True):
    """The options that decide the values of a recipe, apart from method and cell.

    Attributes:
        preset: the preset of the recipe.
        protocol: the name of the protocol.
        overrides: the values of ``--set`` by key, as typed.
        architectures: the networks of the evaluation; empty for those of the protocol.
        selection: the pass that counts; None for the choice of the protocol.
        regime: where labels come from; None for the choice of the protocol.
        updates: the number of updates of each network; None for the passes of the
            protocol.
    """

    preset: field_types.Preset = "paper"
    protocol: str = PUBLISHED
    overrides: Mapping[str, str] = {}
    architectures: tuple[str, ...] = ()
    selection: field_types.Selection | None = None
    regime: field_types.Regime | None = None
    updates: field_types.Positive | None = None


def protocol(cell: schema.Cell, request: Request) -> Protocol:
    """Return the evaluation protocol of a cell, without changes by a method."""
    return protocol_in_force(cell, request)[0]


def protocol_names() -> list[str]:
    """Return the names of the evaluation protocols."""
    return list(read(PROTOCOLS))


def protocol_titles() -> dict[str, str]:
    """Return one line about each protocol, by name."""
    return {name: document["title"] for name, document in read(PROTOCOLS).items()}


def protocol_name(typed: str) -> str:
    """Return the name of a protocol for a typed name; ``-`` and ``+`` mean ``_``.

    Raises:
        UsageError: there is no such protocol; the message lists the names.
    """
    name, known = typed.replace("-", "_").replace("+", "_"), protocol_names()
    if name not in known:
        raise unknown("protocol", typed, known)
    return name


def protocol_requests(name: str) -> Iterator[tuple[schema.Cell, Request]]:
    """Yield a cell and a request for each table of a protocol, in each preset.

    Raises:
        UsageError: the name of a table is not a number of images per class.
    """
    document = read(PROTOCOLS)[name]
    for preset in get_args(field_types.Preset):
        reduced = document.get("presets", {}).get(preset, {})
        yield schema.Cell("any", "digits", 10), Request(preset=preset, protocol=name)
        for _, dataset, ipc in tables(document if preset == "paper" else reduced):
            cell = schema.Cell("any", dataset or "digits", ipc or 10)
            yield cell, Request(preset=preset, protocol=name)


def asked_of_protocol(request: Request) -> dict[str, tuple[Any, str]]:
    """Return the user's values for the protocol: the value and the option per key."""
    chosen: dict[str, tuple[Any, str]] = {
        key: (value, "--regime")
        for key, value in _REGIMES.get(request.regime or "", {}).items()
    }
    if request.updates:
        chosen["updates"] = request.updates, "--budget"
    chosen |= {
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
    """Return the evaluation protocol of a cell and the origins of its keys.

    Args:
        cell: the data set and the images per class.
        request: the preset, the protocol and the changes of the user.
        method: the values that the method's recipe changes, with prefixed keys.

    Returns:
        The protocol, and the origins by keys with the prefix ``protocol.``.

    Raises:
        UsageError: a value does not fit its key, or a key is unknown.
    """
    name = protocol_name(request.protocol)
    values, origins = merge(_protocol_layers(name), cell, request.preset)
    for key, value in (method or {}).items():
        values[key.removeprefix(PROTOCOL_PREFIX)] = value
    for key, (value, option) in asked_of_protocol(request).items():
        values[key] = value
        origins[key] = Origin(option, "")
    where = where_to_look(PROTOCOLS, asked_of_protocol(request))
    struct = convert({**values, "name": name}, Protocol, where)
    _check_regime(struct, request)
    # A field that no table sets has the source of the published protocol's value.
    published = merge(_protocol_layers(PUBLISHED), cell, "paper")[1]
    origins["name"] = Origin("--protocol", read(PROTOCOLS)[name]["title"])
    for field in struct.__struct_fields__:
        as_published = published.get(field, Origin("", "")).source
        origins.setdefault(field, Origin(DEFAULT, as_published))
    prefixed = {PROTOCOL_PREFIX + key: origin for key, origin in origins.items()}
    return struct, prefixed


def _check_regime(protocol: Protocol, request: Request) -> None:
    """Make sure that a protocol has teachers exactly where its labels come from them.

    Raises:
        UsageError: it has none where it needs one, or is asked for two regimes.
    """
    wanted = request.regime or protocol.labels
    if wanted in ("soft", "renewed") and not protocol.teachers:
        raise UsageError(
            f"--regime {wanted}: protocol {protocol.name} has no teacher; name one "
            "with --set protocol.teachers=[...], or leave out --protocol"
        )
    if wanted == "hard" and protocol.teachers:
        raise UsageError(
            "--regime hard: classes need no teacher; leave out --set protocol.teachers"
        )
    if protocol.label_store and (
        protocol.regime != "renewed" or protocol.updates or protocol.exemptions
    ):
        raise UsageError(
            "--set protocol.label_store=true stores teachers' labels of whole passes, "
            "the same for all networks: it goes with --regime renewed, and without "
            "--budget and exemptions of networks"
        )
    if request.regime and protocol.regime != request.regime:
        raise UsageError(
            f"--regime {request.regime} and --set protocol.labels={protocol.labels} "
            "ask for different labels; leave out one of both"
        )


def _protocol_layers(name: str) -> list[tuple[str, Document]]:
    """Return the name and tables of a protocol after those of its bases."""
    document, names = read(PROTOCOLS), [name]
    while base := document[names[0]].get("base"):
        if base not in document or base in names:
            raise UsageError(
                f"{PROTOCOLS} [{names[0]}]: base {base!r} does not exist or leads back "
                "to itself; name another protocol"
            )
        names.insert(0, base)
    return [(f"{PROTOCOLS.name} {layer}", document[layer]) for layer in names]
