"""Recipes in files of before, and digests that stay what they were before.

Recipes of the first version count the epochs of an evaluation as the published loop
does, to its last index: ``epochs`` is one less than the passes where ``one_more_pass``
is true, which it is by default. ``teacher_epochs`` and ``network_epochs`` are always
one less. Recipes of the second version count passes. Digests are those of recipes of
the first version, so that a finished result stays the result of its recipe.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from dcbench_bacon.field_types import without_later
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.schema import Recipe, Value

T = TypeVar("T", bound=Struct)

_COUNT = "epochs"
_TYPED = f"protocol.{_COUNT}"
_ALWAYS_LESS = ("teacher_epochs", "network_epochs")


class _Versioned(Struct):
    version: int = 1


def record(content: bytes, kind: type[T]) -> T:
    """Return a record, whose field ``recipe`` may be of any version.

    Args:
        content: the JSON of the record.
        kind: the class of the record.

    Raises:
        DecodeError: it is not such a record.
    """
    if msgspec.json.decode(content, type=_Versioned).version != 1:
        return msgspec.json.decode(content, type=kind)
    document = msgspec.json.decode(content, type=dict[str, Any])
    changed = {"version": 2, "recipe": _upgraded(document.get("recipe"))}
    return msgspec.convert(document | changed, kind)


def recipe(document: Any) -> Recipe:
    """Return the recipe of a file of any version.

    Args:
        document: the recipe as decoded JSON.

    Raises:
        ValidationError: it is not a recipe.
    """
    return msgspec.convert(_upgraded(document), Recipe)


def _upgraded(document: Any) -> Any:
    """Return a recipe of the first version as one of the second one.

    What is of another version or not a recipe stays as it is, for the check of types.
    """
    try:
        if document.get("version", 1) != 1:
            return document
        protocol = _counted(document["protocol"], 1)
        settings = _counted(document["settings"], 1)
        more = int(protocol.pop("one_more_pass", True))
        exemptions = [dict(entry) for entry in protocol.get("exemptions", ())]
        for entry in (protocol, *exemptions):
            if entry.get(_COUNT) is not None:
                entry[_COUNT] += more
        overrides = dict(document.get("overrides", {}))
        if _TYPED in overrides:
            overrides[_TYPED] = str(int(overrides[_TYPED]) + more)
    except (AttributeError, KeyError, TypeError, ValueError):
        return document
    protocol["exemptions"] = exemptions
    changed = {"protocol": protocol, "settings": settings, "overrides": overrides}
    return document | changed | {"version": 2}


def first_protocol(protocol: Protocol, later: Collection[str]) -> dict[str, Any]:
    """Return the fields of a protocol as the first version has them, for digests.

    Args:
        protocol: the protocol.
        later: the fields that are left out at their default.
    """
    values = _counted(without_later(protocol, later), -1)
    # Of the published protocols, those whose rate drops once counted to the last index.
    inclusive = protocol.schedule == "drop"
    for entry in (values, *values.get("exemptions", ())):
        if entry.get(_COUNT) is not None:
            entry[_COUNT] -= inclusive
    if "one_more_pass" not in later or not inclusive:
        values["one_more_pass"] = inclusive
    return values


def first_settings(settings: dict[str, Value]) -> dict[str, Value]:
    """Return a method's settings as the first version has them, for digests."""
    return _counted(settings, -1)


def _counted(values: Mapping[str, Any], more: int) -> dict[str, Any]:
    """Return values with the counts changed that are one less in the first version."""
    counts = {key: value for key, value in values.items() if key in _ALWAYS_LESS}
    changed = {k: v + more for k, v in counts.items() if isinstance(v, int)}
    return {**values, **changed}
