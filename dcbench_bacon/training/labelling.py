"""Labels of teachers."""

import torch
from jaxtyping import Float
from torch import Tensor

from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.memory import images_per_call


@torch.no_grad()
def mean_logits(
    teachers: tuple[Network, ...], images: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n k"]:
    """Return the plain mean of the teachers' logits.

    Args:
        teachers: the networks, of which there is at least one.
        images: normalised images.
    """
    demand = max(teacher.memory_demand for teacher in teachers)
    most = images_per_call(images.device, images.shape[-1], demand)
    pieces = torch.split(images, most)
    logits = [
        torch.cat([teacher.eval()(piece) for piece in pieces]) for teacher in teachers
    ]
    return torch.stack(logits).mean(0)


def weights_of(teachers: tuple[Network, ...]) -> list[Tensor]:
    """Return all that decides the labels of teachers: parameters and buffers."""
    return [value for teacher in teachers for value in teacher.state_dict().values()]
