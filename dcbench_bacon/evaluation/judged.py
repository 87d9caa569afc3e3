"""Protocols made ready for one set, and checked."""

import math

import msgspec

from dcbench_bacon.augmentation import policies
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.pools import check_architectures
from dcbench_bacon.protocol import Protocol


def protocol_for_set(protocol: Protocol, synthetic: SyntheticSet) -> Protocol:
    """Return the protocol, with the learning rate of the set if it asks for that.

    Raises:
        DataError: the set has no learning rate, or none that can be used.
    """
    if not protocol.use_learned_rate:
        return protocol
    learned = synthetic.provenance.get("learning_rate")
    if not isinstance(learned, float) or not 0 < learned < math.inf:
        raise DataError(
            f"use_learned_rate: the set's own learning rate is {learned!r}; give it "
            "with --learned-rate where its authors state it, or use that of the "
            "protocol with --set protocol.use_learned_rate=false"
        )
    return msgspec.structs.replace(protocol, learning_rate=learned)


def check_protocol(protocol: Protocol) -> None:
    """Make sure that the networks and the augmentations of a protocol exist.

    Raises:
        UsageError: one does not exist; the message lists those that do.
    """
    policies.check(protocol.augmentation)
    for exemption in protocol.exemptions:
        policies.check(exemption.augmentation or "none")
        builder.check(exemption.architecture)
    check_architectures((*protocol.architectures, *protocol.teachers))
