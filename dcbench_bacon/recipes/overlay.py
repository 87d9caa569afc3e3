"""Recipes: hyper-parameters by method, data set and images per class, with sources.

A method's TOML file holds tables that are laid over each other, the later winning:
``[defaults]``, ``["*"]``, ``["*".IPC]``, ``[DATASET]``, ``[DATASET.IPC]``; then the
same tables under ``[profiles.NAME]``; then ``--set``. A file that names a ``base``
lies over that method's file. A quoted key ``"protocol.KEY"`` in a method's table
changes the published protocol ``dc`` for that method; the other protocols are the same
for all methods. A table's key ``source`` says where its values come from, its table
``sources`` the same for single keys, and ``inherited`` where what lower tables gave
comes from for these data; ``dcbench show`` prints it. The evaluation protocols in
``protocols.toml`` follow the same rules under ``[NAME]``; a protocol's ``base`` is
another protocol, its ``departures`` are sentences about what it does otherwise than its
source.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from dcbench_bacon import schema
from dcbench_bacon.errors import UsageError, guess
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
"""From a method's name to its recipe file."""


class Resolved(NamedTuple):
    """A recipe and, for every key, its origin."""

    recipe: schema.Recipe
    origins: dict[str, Origin]


class Judged(NamedTuple):
    """How the sets of a method are evaluated.

    Attributes:
        protocol: in force.
        origins: of its keys, which are prefixed.
        own: what the method's recipe changes, by name of the field.
    """

    protocol: Protocol
    origins: dict[str, Origin]
    own: dict[str, Any]


def resolve(
    find: Finder, settings: type[Struct], cell: schema.Cell, request: Request
) -> Resolved:
    """The recipe in force for a cell.

    Args:
        find: gives a method's TOML file by name: the cell's and its bases'.
        settings: the struct of the method's hyper-parameters.
        cell: names data set and images per class.
        request: profile, protocol and overrides.

    Raises:
        UsageError: a value does not fit its key, or an override names no key.
    """
    path = find(cell.method)
    method = {
        key: value for key, value in request.overrides.items() if not is_protocol(key)
    }
    values, origins = merge(_with_bases(path, find), cell, request.profile)
    _override(values, origins, method, settings)
    judged = _judged(values, origins, cell, request)
    values = {key: value for key, value in values.items() if not is_protocol(key)}
    struct = convert(values, settings, where_to_look(path, method))
    recipe = schema.Recipe(
        settings=msgspec.to_builtins(struct),
        protocol=judged.protocol,
        profile=request.profile,
        # Keys of other methods of the grid change nothing here.
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
    """Return how the sets of the cell's method are evaluated.

    Args:
        find: gives a method's TOML file by name: the cell's and its bases'.
        cell: names the method, the data set and the images per class.
        request: profile, protocol and overrides.
    """
    layers = _with_bases(find(cell.method), find)
    return _judged(*merge(layers, cell, request.profile), cell, request)


def _judged(
    values: Document, origins: Mapping[str, Origin], cell: schema.Cell, request: Request
) -> Judged:
    """The protocol under a method's values, which change the published one alone."""
    own = {key: value for key, value in values.items() if is_protocol(key)}
    if request.protocol != PUBLISHED:
        own = {}
    found, given = protocol_in_force(cell, request, own)
    explicit = asked_of_protocol(request)
    names = [key.removeprefix(PROTOCOL_PREFIX) for key in own]
    kept = [name for name in names if name not in explicit]
    given |= {PROTOCOL_PREFIX + name: origins[PROTOCOL_PREFIX + name] for name in kept}
    return Judged(found, given, {name: getattr(found, name) for name in kept})


def augmentation_of_real(cell: schema.Cell) -> str:
    """Return the augmentation of networks that are trained on the real images.

    That of ``dc`` for the data set: a mirrored digit is another one.
    """
    return protocol(cell, Request()).augmentation


def parse_overrides(pairs: tuple[str, ...]) -> dict[str, str]:
    """Splits the ``key=value`` texts of ``--set``.

    Raises:
        UsageError: a text has no ``=``.
    """
    split = [pair.partition("=") for pair in pairs]
    for pair, (key, equals, _) in zip(pairs, split, strict=True):
        if not (key and equals):
            raise UsageError(f"--set {pair}: write --set key=value")
    return {key.strip(): value.strip() for key, _, value in split}


def check_overrides(
    overrides: Mapping[str, str], settings: Sequence[type[Struct]]
) -> None:
    """Makes sure that every override is a key of some method or of the protocol.

    Raises:
        UsageError: a key belongs to none; the message lists the nearest and all.
    """
    known = {field.name for each in settings for field in msgspec.structs.fields(each)}
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
    """Return what a protocol does otherwise than its source, a sentence each."""
    document = read(PROTOCOLS)
    lower = document[name].get("base")
    inherited = protocol_departures(lower) if lower else []
    return [*inherited, *document[name].get("departures", [])]


def _with_bases(path: Path, find: Finder) -> list[tuple[str, Document]]:
    """A recipe file and those it lies over, the lowest first."""
    files = [(path.name, read(path))]
    while base := files[0][1].get("base"):
        lower = find(base)
        if any(name == lower.name for name, _ in files):
            raise UsageError(f"{path}: base {base!r} leads back to itself")
        files.insert(0, (lower.name, read(lower)))
    return files


def _override(
    values: dict[str, Any],
    origins: dict[str, Origin],
    overrides: Mapping[str, str],
    settings: type[Struct],
) -> None:
    """Applies the overrides that name a key of these settings."""
    known = {field.name for field in msgspec.structs.fields(settings)}
    for key, text in overrides.items():
        if key in known:
            values[key] = literal(text)
            origins[key] = Origin("--set", "")


def request_of(
    default: str,
    *,
    profile: str | None,
    pairs: tuple[str, ...],
    architectures: tuple[str, ...] | None = None,
    protocol: str = protocols.PUBLISHED,
    selection: str | None = None,
) -> protocols.Request:
    """What the options ask of recipes."""
    return msgspec.convert(
        {
            "profile": profile or default,
            "protocol": protocols.protocol_name(protocol),
            "overrides": parse_overrides(pairs),
            "architectures": architectures or (),
            "selection": selection,
        },
        protocols.Request,
    )
