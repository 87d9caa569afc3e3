"""Recipes: hyper-parameters by method, data set and images per class, with sources.

A method's TOML file contains tables, of which a later one overrides earlier ones:
``[defaults]``, ``["*"]``, ``["*".IPC]``, ``[DATASET]``, ``[DATASET.IPC]``; then the
same tables under ``[presets.NAME]``; then ``--set``. The tables of a file override
those of the method that its ``base`` names. A quoted key ``"protocol.KEY"`` changes the
published protocol ``dc`` for that method; the other protocols are the same for all
methods.

The key ``source`` of a table states the source of its values, and its table ``sources``
that of single keys. The key ``inherited`` states, for the data of this table, the
source of the values from lower tables. ``dcbench show`` prints the sources.

The evaluation protocols in ``protocols.toml`` follow the same rules under ``[NAME]``.
The ``base`` of a protocol is another protocol, and its ``departures`` are sentences
about its differences from its source.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from dcbench_bacon import schema
from dcbench_bacon.errors import UsageError, guess
from dcbench_bacon.field_types import without_later
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import protocols
from dcbench_bacon.recipes.protocols import (
    DEFAULT,
    PROTOCOLS,
    PUBLISHED,
    Request,
    asked_of_protocol,
    protocol,
    protocol_in_force,
)
from dcbench_bacon.recipes.toml_tables import (
    PROTOCOL_PREFIX,
    Document,
    Origin,
    convert,
    is_protocol,
    literal,
    merge,
    read,
    where_to_look,
)

Finder = Callable[[str], Path]
"""A function that returns the recipe file of a method by name."""


class Resolved(NamedTuple):
    """A recipe and the origin of each of its keys."""

    recipe: schema.Recipe
    origins: dict[str, Origin]


class Judged(NamedTuple):
    """The protocol by which the sets of a method are evaluated.

    Attributes:
        protocol: the protocol.
        origins: the origins of its keys, which have the prefix ``protocol.``.
        changes: the values that the method's recipe changes, by the name of the field.
    """

    protocol: Protocol
    origins: dict[str, Origin]
    changes: dict[str, Any]


def resolve(
    find: Finder, settings: type[Struct], cell: schema.Cell, request: Request
) -> Resolved:
    """Return the recipe of a cell.

    Args:
        find: returns the TOML file of a method, the cell's own or one of its bases.
        settings: the struct of the method's hyper-parameters.
        cell: the method, the data set and the images per class.
        request: the preset, the protocol and the overrides.

    Raises:
        UsageError: a value does not fit its key, or a key is unknown.
    """
    path = find(cell.method)
    method = {
        key: value for key, value in request.overrides.items() if not is_protocol(key)
    }
    values, origins = merge(_with_bases(path, find), cell, request.preset)
    _override(values, origins, method, settings)
    judged = _judged(values, origins, cell, request)
    values = {key: value for key, value in values.items() if not is_protocol(key)}
    struct = convert(values, settings, where_to_look(path, method))
    recipe = schema.Recipe(
        settings=without_later(struct, getattr(struct, "ADDED", ())),
        protocol=judged.protocol,
        preset=request.preset,
        # Keys of other methods in the grid do not apply here.
        overrides={
            key: value
            for key, value in request.overrides.items()
            if is_protocol(key) or key in struct.__struct_fields__
        },
    )
    for field in msgspec.structs.fields(settings):
        origins.setdefault(field.name, Origin(DEFAULT, ""))
    return Resolved(recipe, origins | judged.origins)


def judged_as(find: Finder, cell: schema.Cell, request: Request) -> Judged:
    """Return the protocol by which the sets of a cell's method are evaluated.

    Args:
        find: returns the TOML file of a method, the cell's own or one of its bases.
        cell: the method, the data set and the images per class.
        request: the preset, the protocol and the overrides.
    """
    layers = _with_bases(find(cell.method), find)
    return _judged(*merge(layers, cell, request.preset), cell, request)


def stated(
    find: Finder, cell: schema.Cell, request: Request
) -> tuple[dict[str, Any], Judged, dict[str, Origin]]:
    """Return what the recipe tables state for a cell, without the method's code.

    Args:
        find: returns the TOML file of a method, the cell's own or one of its bases.
        cell: the method, the data set and the images per class.
        request: the preset, the protocol and the overrides.

    Returns:
        The method's values, without those that no table sets; the protocol; and the
        origins of both.

    Raises:
        UsageError: there is no such method or protocol, or a value does not fit.
    """
    values, origins = merge(_with_bases(find(cell.method), find), cell, request.preset)
    judged = _judged(values, origins, cell, request)
    method_values = {
        key: value for key, value in values.items() if not is_protocol(key)
    }
    return method_values, judged, origins | judged.origins


def _judged(
    values: Document, origins: Mapping[str, Origin], cell: schema.Cell, request: Request
) -> Judged:
    """Return the protocol; a method's values change the published protocol only."""
    changes = {key: value for key, value in values.items() if is_protocol(key)}
    if request.protocol != PUBLISHED:
        changes = {}
    protocol, given = protocol_in_force(cell, request, changes)
    explicit = asked_of_protocol(request)
    names = [key.removeprefix(PROTOCOL_PREFIX) for key in changes]
    kept = [name for name in names if name not in explicit]
    given |= {PROTOCOL_PREFIX + name: origins[PROTOCOL_PREFIX + name] for name in kept}
    return Judged(protocol, given, {name: getattr(protocol, name) for name in kept})


def augmentation_of_real(cell: schema.Cell) -> str:
    """Return the augmentation for networks that are trained on real images.

    This is the augmentation of ``dc`` for the data set, which does not mirror digits.
    """
    return protocol(cell, Request()).augmentation


def parse_overrides(texts: tuple[str, ...]) -> dict[str, str]:
    """Return the values by key for the ``key=value`` texts of ``--set``.

    Raises:
        UsageError: a text has no key or no ``=``.
    """
    split = [text.partition("=") for text in texts]
    for text, (key, equals, _) in zip(texts, split, strict=True):
        if not (key and equals):
            raise UsageError(f"--set {text}: write --set key=value")
    return {key.strip(): value.strip() for key, _, value in split}


def check_overrides(
    overrides: Mapping[str, str], settings: Sequence[type[Struct]]
) -> None:
    """Make sure that each override is a key of a method or of the protocol.

    Args:
        overrides: the values of ``--set`` by key.
        settings: the structs of the methods' hyper-parameters.

    Raises:
        UsageError: a key is unknown; the message names the nearest key and lists all.
    """
    known = {
        field.name for struct in settings for field in msgspec.structs.fields(struct)
    }
    known |= {
        PROTOCOL_PREFIX + field.name
        for field in msgspec.structs.fields(Protocol)
        if field.name != "name"
    }
    for key in overrides:
        if key not in known:
            raise UsageError(
                f"--set {key}: no such recipe key.{guess(key, known)} "
                f"There are: {', '.join(sorted(known))}"
            )


def protocol_departures(name: str) -> list[str]:
    """Return the differences of a protocol from its source, one sentence each."""
    document = read(PROTOCOLS)
    lower = document[name].get("base")
    inherited = protocol_departures(lower) if lower else []
    return [*inherited, *document[name].get("departures", [])]


def _with_bases(path: Path, find: Finder) -> list[tuple[str, Document]]:
    """Return the name and tables of a recipe file after those of its bases."""
    files = [(path.name, read(path))]
    while base := files[0][1].get("base"):
        lower = find(base)
        if any(name == lower.name for name, _ in files):
            raise UsageError(
                f"{path}: base {base!r} leads back to itself; remove a base"
            )
        files.insert(0, (lower.name, read(lower)))
    return files


def _override(
    values: dict[str, Any],
    origins: dict[str, Origin],
    overrides: Mapping[str, str],
    settings: type[Struct],
) -> None:
    """Apply the overrides whose keys are in the settings."""
    known = {field.name for field in msgspec.structs.fields(settings)}
    for key, text in overrides.items():
        if key in known:
            values[key] = literal(text)
            origins[key] = Origin("--set", "")


def request_of(
    default: str,
    *,
    preset: str | None,
    overrides: tuple[str, ...],
    architectures: tuple[str, ...] | None = None,
    protocol: str | None = None,
    selection: str | None = None,
    regime: str | None = None,
    budget: int | None = None,
) -> protocols.Request:
    """Return the request for the options of a command.

    Args:
        default: the preset if none is given.
        preset: the preset of the recipes.
        overrides: the ``key=value`` texts of ``--set``.
        architectures: the networks; by default those of the protocol.
        protocol: the name of the protocol as typed; by default the published one, or
            the one of all methods where a label regime is chosen.
        selection: the selection; by default that of the protocol.
        regime: the label regime; by default that of the protocol.
        budget: the number of updates; by default the passes of the protocol.

    Raises:
        UsageError: there is no such protocol, or a text of ``--set`` has no ``=``.
    """
    default_protocol = protocols.SHARED if regime else protocols.PUBLISHED
    return msgspec.convert(
        {
            "preset": preset or default,
            "protocol": protocols.protocol_name(protocol or default_protocol),
            "overrides": parse_overrides(overrides),
            "architectures": architectures or (),
            "selection": selection,
            "regime": regime,
            "updates": budget,
        },
        protocols.Request,
    )
