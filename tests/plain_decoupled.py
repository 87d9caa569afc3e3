"""Slow, obvious versions of the decoupled family, written from the papers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network


def network(name: str = "ConvNetD2W8BN", classes: int = 3, size: int = 8) -> Network:
    """A network with running statistics that differ from those of a fresh one."""
    draws = torch.Generator().manual_seed(7)
    made = builder.build(name, channels=1, size=size, classes=classes, generator=draws)
    for buffer_name, buffer in made.named_buffers():
        if buffer.is_floating_point():
            drawn = torch.rand(buffer.shape, generator=draws)
            buffer.copy_(drawn + 0.5 if "var" in buffer_name else drawn - 0.5)
    return made.eval().requires_grad_(False)


def mean_variance(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of all numbers, and the mean squared deviation from it."""
    mean = values.mean()
    return mean, ((values - mean) ** 2).mean()


def channel_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Statistics channel by channel."""
    pairs = [mean_variance(maps[:, channel]) for channel in range(maps.shape[1])]
    return torch.stack([m for m, _ in pairs]), torch.stack([v for _, v in pairs])


def patch_statistics(maps: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Statistics cell by cell, row by row."""
    height, width = maps.shape[2:]
    patch = min(patch, height, width)
    rows, columns = -(-height // patch), -(-width // patch)
    if height % patch or width % patch:
        maps = F.interpolate(
            maps, size=(rows * patch, columns * patch), mode="bilinear"
        )
    pairs = []
    for row in range(rows):
        for column in range(columns):
            top, left = row * patch, column * patch
            pairs.append(
                mean_variance(maps[:, :, top : top + patch, left : left + patch])
            )
    return torch.stack([m for m, _ in pairs]), torch.stack([v for _, v in pairs])


def statistics(maps: Tensor, patch: int) -> list[Tensor]:
    """Those of channels and, for convolutions, those of cells."""
    found = [*channel_statistics(maps)]
    return [*found, *patch_statistics(maps, patch)] if patch else found


def distance(ones: list[Tensor], others: list[Tensor]) -> Tensor:
    """The sum of the norms of the differences."""
    total = torch.zeros(())
    for one, other in zip(ones, others, strict=True):
        total = total + ((one - other) ** 2).sum().sqrt()
    return total


def layer_inputs(net: Network, images: Tensor, *kinds: type) -> list[Tensor]:
    """The input of each layer of some kinds, in the order of the modules."""
    found: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda m, a: found.append((m, a[0])))
        for module in net.modules()
        if isinstance(module, kinds)
    ]
    net(images)
    for hook in hooks:
        hook.remove()
    return [maps for _, maps in found]


def optimise(
    images: Tensor,
    steps: int,
    rate: float,
    ends: tuple[float, float],
    loss: Callable[[int, Tensor], Tensor],
    after: Callable[[Tensor], None] = lambda images: None,
) -> Tensor:
    """Adam with a cosine to zero, and a clamp after each step."""
    images = images.clone().requires_grad_()
    adam = torch.optim.Adam([images], lr=rate, betas=(0.5, 0.9), eps=1e-8)
    for step in range(steps):
        angle = torch.pi * torch.tensor(step / steps, dtype=torch.float64)
        adam.param_groups[0]["lr"] = rate * 0.5 * (1 + float(angle.cos()))
        adam.zero_grad()
        torch.autograd.backward(loss(step, images))
        adam.step()
        with torch.no_grad():
            images.clamp_(*ends)
        after(images.detach())
    return images.detach()
