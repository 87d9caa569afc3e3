"""Networks that label what others learn from; trained on real images once, and kept."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dcbench_bacon.contract import Run
from dcbench_bacon.networks.base import Network
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import overlay
from dcbench_bacon.schema import Timing
from dcbench_bacon.training.features import FeatureSettings, trained


class Teachers(NamedTuple):
    """The networks that ``protocol.teachers`` names.

    Attributes:
        networks: in evaluation mode, on the run's device.
        origins: JSON values that say how each was trained and what it reached.
        timings: what that cost.
    """

    networks: tuple[Network, ...] = ()
    origins: tuple[dict[str, Any], ...] = ()
    timings: Mapping[str, Timing] = {}


def find(run: Run, protocol: Protocol) -> Teachers:
    """Trains the teachers of a protocol on the run's train split, or finds them.

    They are trained as the networks whose features selection uses (``features``), but
    for ``protocol.teacher_epochs`` and the augmentation, which is that of ``dc`` for
    the data set: a mirrored digit is another one. The rest of the protocol is for
    students.
    """
    found, timings = [], {}
    for architecture in protocol.teachers:
        settings = FeatureSettings(
            architecture=architecture,
            network_epochs=protocol.teacher_epochs,
            augmentation=overlay.augmentation_of_real(run.cell),
        )
        found.append(trained(run, settings.training))
        timings[f"teacher/{architecture}"] = run.timings["features"]
    networks = tuple(network for network, _ in found)
    origins = tuple(origin for _, origin in found)
    return Teachers(networks, origins, timings)
