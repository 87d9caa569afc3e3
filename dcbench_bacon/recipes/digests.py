"""Digests that identify recipes by everything that decides a number."""

import hashlib
from typing import Any

import msgspec

from dcbench_bacon import schema
from dcbench_bacon.earlier_files import first_protocol, first_settings
from dcbench_bacon.protocol import LATER_FIELDS, Protocol

# The fields that every digest of a protocol contains. Other fields were added later. A
# digest contains them only if they differ from their defaults, so that the digests of
# older records stay the same.
_FIRST_FIELDS = frozenset(
    {
        *("name", "architectures", "networks", "epochs", "learning_rate", "momentum"),
        *("weight_decay", "batch_size", "augmentation", "precision", "selection"),
        *("measure_every", "validation", "evaluate_every"),
    }
)


def digest(recipe: schema.Recipe) -> str:
    """Return eight hex digits that identify all values of a recipe."""
    settings = first_settings(recipe.settings)
    return _hash([settings, _decisive(recipe.protocol), recipe.preset])


def distillation_digest(recipe: schema.Recipe) -> str:
    """Return eight hex digits that identify the values that decide the synthetic set.

    Recipes that differ in their evaluation only share one set, which is distilled once.
    The choice of a validation split is part of the digest, because a method then sees a
    smaller train split.
    """
    protocol, settings = recipe.protocol, first_settings(recipe.settings)
    if protocol.evaluate_every:  # the run makes a history and may choose a set by it
        return _hash([settings, _decisive(protocol)])
    selection = "best_val" if protocol.held_out else protocol.selection
    if selection == "final":
        return _hash(settings)
    return _hash([settings, selection, protocol.validation])


def _decisive(protocol: Protocol) -> dict[str, Any]:
    """Return the fields of a protocol that a digest contains."""
    later = {*Protocol.__struct_fields__, "one_more_pass"} - _FIRST_FIELDS
    return first_protocol(protocol, later)


def protocol_digest(protocol: Protocol, *without: str) -> str:
    """Return eight hex digits that are equal for protocols with comparable accuracies.

    The names and the number of networks are not part of it: tables show both, and
    records of one table may have different numbers of them.

    Args:
        protocol: the protocol of a record.
        without: further fields that may differ.
    """
    fields = first_protocol(protocol, LATER_FIELDS)
    for key in ("architectures", "networks", *without):
        del fields[key]
    return _hash(fields)


def _hash(value: Any) -> str:
    encoded = msgspec.json.encode(value, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:8]
