"""Squeeze: the observers, which are trained on real images once for all cells."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dcbench_bacon.contract import Run
from dcbench_bacon.distillation.decoupled.settings import ObserverSettings
from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.training.features import trained

STAGE = "squeeze"


class Observers(NamedTuple):
    """The observers of a run.

    Attributes:
        networks: the observers in evaluation mode, on the device of the run.
        origins: JSON values that describe the training of each observer, its accuracy
            and its parameters.
    """

    networks: tuple[Network, ...]
    origins: tuple[dict[str, Any], ...]

    @torch.no_grad()
    def mean_logits(
        self, images: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n classes"]:
        """Return the plain mean of the observers' logits."""
        total = torch.zeros((), device=images.device)
        for network in self.networks:
            demand = network.memory_demand
            most = images_per_call(images.device, images.shape[-1], demand)
            with tensor_cores(network.precision):
                logits = [network(piece) for piece in torch.split(images, most)]
            total = total + torch.cat(logits)
        return total / len(self.networks)


def observers(run: Run, settings: ObserverSettings) -> Observers:
    """Return the observers of the settings, trained now or found.

    Args:
        run: the run, which supplies the real images.
        settings: the architectures of the observers and their training.
    """
    members = []
    for architecture in settings.observers:
        stage = f"{STAGE}-{architecture.replace(':', '-')}"
        members.append(trained(run, settings.training(architecture), stage))
    networks = tuple(network.requires_grad_(False) for network, _ in members)
    return Observers(networks, tuple(origin for _, origin in members))
