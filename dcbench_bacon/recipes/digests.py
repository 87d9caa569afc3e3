"""Digests that identify recipes, by all that decides a number."""

import hashlib
from typing import Any

import msgspec

from dcbench_bacon import schema
from dcbench_bacon.protocol import Protocol

# What a digest of a protocol always holds. Other fields were added later; at their
# defaults they change nothing, so that the digests of older records stay.
_FIRST_FIELDS = frozenset(
    {
        *("name", "architectures", "networks", "epochs", "learning_rate", "momentum"),
        *("weight_decay", "batch_size", "augmentation", "precision", "selection"),
        *("measure_every", "validation", "evaluate_every"),
    }
)


def digest(recipe: schema.Recipe) -> str:
    """Eight hex digits that identify everything the recipe puts in force."""
    return _hash([recipe.settings, _decisive(recipe.protocol), recipe.profile])


def distillation_digest(recipe: schema.Recipe) -> str:
    """The same for what decides the synthetic set alone.

    Two recipes that differ in their evaluation share one set, which is then distilled
    once. Where a validation split is held out the method sees a smaller train split.
    """
    protocol = recipe.protocol
    if protocol.evaluate_every:  # the run owes a history, and may choose by it
        return _hash([recipe.settings, _decisive(protocol)])
    selection = "best_val" if protocol.held_out else protocol.selection
    if selection == "final":
        return _hash(recipe.settings)
    return _hash([recipe.settings, selection, protocol.validation])


def _decisive(protocol: Protocol) -> dict[str, Any]:
    """The fields of a protocol that a digest holds."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Protocol)}
    return {
        name: value
        for name, value in msgspec.structs.asdict(protocol).items()
        if name in _FIRST_FIELDS or value != defaults[name]
    }


def protocol_digest(protocol: Protocol, *without: str) -> str:
    """The same for what makes accuracies of different sets comparable.

    The networks and how many of each are left out: rows and columns of tables name
    them, and both may grow from one record to the next.

    Args:
        protocol: of a record.
        without: further fields that may differ.
    """
    fields = msgspec.to_builtins(protocol)
    for key in ("architectures", "networks", *without):
        del fields[key]
    return _hash(fields)


def _hash(value: Any) -> str:
    encoded = msgspec.json.encode(value, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:8]
