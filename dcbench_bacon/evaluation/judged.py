"""Protocols made ready for one set, and checked."""

import math

import msgspec

from dcbench_bacon.augmentation import policies
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
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
        UsageError: one does not exist, and the message lists those that do; or an
            augmentation is named twice.
    """
    exempt = [exemption.architecture for exemption in protocol.exemptions]
    for architecture in exempt:
        builder.check(architecture)
    for variant in (protocol, *map(protocol.of, exempt)):
        names = [rules.augmentation or "none" for rules in variant.under_each]
        for name in names:
            policies.check(name)
        if len(set(names)) < len(names):
            raise UsageError(
                f"protocol.augmentation={variant.augmentation}: one of these is named "
                "twice; name each once, such as none+autoaugment"
            )
    check_architectures((*protocol.architectures, *protocol.teachers))
