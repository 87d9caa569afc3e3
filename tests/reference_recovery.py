"""The loss of SRe2L and EDC, written plainly from the papers: hooks on layers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resized_crop

from dcbench_bacon.distillation.decoupled.settings import RecoverySettings
from dcbench_bacon.distillation.decoupled.views import View
from dcbench_bacon.networks.base import Network

FIRST = 10.0  # weight of the first layer


def seen(images: Tensor, view: View) -> Tensor:
    """What a step sees of images without a shift: crop, mirror, roll."""
    if view.box is not None:
        size = list(images.shape[-2:])
        images = resized_crop(images, *view.box[0].tolist(), size, antialias=True)
    if view.mirrored:
        images = images.flip(-1)
    return torch.roll(images, view.roll, (2, 3))


def statistics(maps: Tensor, patch: int) -> list[Tensor]:
    """Mean and variance of channels and, where asked for, of square cells."""
    found = [maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)]
    if not patch:
        return found
    height, width = maps.shape[2:]
    patch = min(patch, height, width)
    rows, columns = -(-height // patch), -(-width // patch)
    if height % patch or width % patch:
        size = (rows * patch, columns * patch)
        maps = F.interpolate(maps, size=size, mode="bilinear")
    cells = maps.unfold(2, patch, patch).unfold(3, patch, patch)
    axes = (0, 1, 4, 5)
    found.append(cells.mean(axes).flatten())
    found.append(cells.var(axes, unbiased=False).flatten())
    return found


def distance(ones: list[Tensor], others: list[Tensor]) -> Tensor:
    """The sum of the norms of the differences."""
    pairs = zip(ones, others, strict=True)
    return torch.stack([(one - other).norm() for one, other in pairs]).sum()


class Loss:
    """The loss of a batch; it follows the averages of statistics and of images.

    Args:
        network: the only observer.
        settings: of SRe2L or EDC.
        real: what ``real_statistics`` measured; None where batch norms are enough.
    """

    def __init__(self, network: Network, settings: RecoverySettings, real: Any) -> None:
        self.network, self.settings, self.real = network, settings, real
        kinds = [nn.BatchNorm2d] + [nn.Conv2d] * (settings.matched == "all")
        self.layers = [m for m in network.modules() if isinstance(m, tuple(kinds))]
        self.inputs: list[Tensor] = []
        for layer in self.layers:
            layer.register_forward_pre_hook(
                lambda _, given: self.inputs.append(given[0])
            )
        self.averages: dict[int, list[Tensor]] = {}
        self.average: Tensor | None = None

    def __call__(self, images: Tensor, labels: Tensor, view: View) -> Tensor:
        settings = self.settings
        if self.average is None:
            self.average = images.detach().clone()
        self.inputs.clear()
        logits = self.network(seen(images, view))
        inputs, total = list(self.inputs), torch.zeros(())
        for index, (layer, maps) in enumerate(zip(self.layers, inputs, strict=True)):
            weight = FIRST if index == 0 else 1.0
            total = total + weight * self._term(index, layer, maps)
        loss = F.cross_entropy(logits, labels) + settings.statistics_weight * total
        if not settings.flatness_weight:
            return loss
        with torch.no_grad():
            flat = self.network(seen(self.average, view))
        hot = settings.flatness_temperature
        divergence = F.kl_div(
            (flat / hot).log_softmax(1),
            (logits / hot).softmax(1),
            reduction="batchmean",
        )
        return loss + settings.flatness_weight * divergence

    def _term(self, index: int, layer: nn.Module, maps: Tensor) -> Tensor:
        """The distance of a layer's statistics from those of real images."""
        settings = self.settings
        patch = settings.patch if isinstance(layer, nn.Conv2d) else 0
        present = self._followed(index, statistics(maps, patch))
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            target = [layer.running_mean, layer.running_var]
        else:
            target = [*self.real[index].pooled]
        term = distance(present, target)
        if settings.category != "pooled":
            return term
        by_class = self.real[index].images
        mean = [part.mean(0) for part in by_class if part.numel()]
        share = settings.global_share
        return share * term + (1 - share) * distance(present, mean)

    def _followed(self, index: int, values: list[Tensor]) -> list[Tensor]:
        """Moving averages, with the gradient of the present values."""
        share = self.settings.statistics_momentum
        if not share:
            return values
        old = self.averages.get(index, [each.detach() for each in values])
        new = [
            share * one + (1 - share) * value.detach()
            for one, value in zip(old, values, strict=True)
        ]
        self.averages[index] = new
        return [
            average + value - value.detach()
            for average, value in zip(new, values, strict=True)
        ]

    def after(self, images: Tensor) -> None:
        """Move the average of the images."""
        assert self.average is not None
        self.average.lerp_(images, 1 - self.settings.flatness_momentum)
