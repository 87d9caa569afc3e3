"""Teachers: networks that are trained on real images and label what students see."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dcbench_bacon.contract import Run
from dcbench_bacon.networks.base import Network
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import overlay
from dcbench_bacon.schema import Timing
from dcbench_bacon.training.features import FeatureSettings, trained


class Teachers(NamedTuple):
    """The networks of ``protocol.teachers``.

    Attributes:
        networks: the networks in evaluation mode, on the device of the run.
        origins: JSON values that describe the training of each network and its
            accuracy.
        timings: the cost of each training, by stage.
    """

    networks: tuple[Network, ...] = ()
    origins: tuple[dict[str, Any], ...] = ()
    timings: Mapping[str, Timing] = {}


def find(run: Run, protocol: Protocol) -> Teachers:
    """Return the teachers of a protocol, trained on the run's train split or found.

    They are trained like the networks whose features selection uses (see ``features``),
    except for ``protocol.teacher_epochs`` and the augmentation. The augmentation is
    that of ``dc`` for the data set, which does not mirror digits. All other fields of
    the protocol apply to students alone.
    """
    results, timings = [], {}
    for architecture in protocol.teachers:
        settings = FeatureSettings(
            architecture=architecture,
            network_epochs=protocol.teacher_epochs,
            augmentation=overlay.augmentation_of_real(run.cell),
        )
        results.append(trained(run, settings.training))
        timings[f"teacher/{architecture}"] = run.timings["features"]
    networks = tuple(network for network, _ in results)
    origins = tuple(origin for _, origin in results)
    return Teachers(networks, origins, timings)
