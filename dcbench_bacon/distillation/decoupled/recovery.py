"""Recover: images that observers classify as their class and whose statistics fit."""

from collections.abc import Sequence
from math import cos, pi
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import standardize
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.decoupled import regularisers
from dcbench_bacon.distillation.decoupled.labels import labelled_set
from dcbench_bacon.distillation.decoupled.matching import StatisticsMatching
from dcbench_bacon.distillation.decoupled.moments import Probe
from dcbench_bacon.distillation.decoupled.real_statistics import real_statistics
from dcbench_bacon.distillation.decoupled.settings import RecoverySettings
from dcbench_bacon.distillation.decoupled.squeeze import Observers
from dcbench_bacon.distillation.decoupled.views import View, draw_view
from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.training.optimisers import FlatAdamW


class ImageAdam(FlatAdamW):
    """Adam with the moments' constants of all gradient methods of the family."""

    BETAS = (0.5, 0.9)


def batches(classes: int, ipc: int, blocks: int, most: int) -> list[Int64[Tensor, "n"]]:
    """Return the positions, in class order, of the images of each batch.

    Args:
        classes: the number of classes.
        ipc: the images per class.
        blocks: into how many blocks the images of a class are divided; 0 for ``ipc``.
        most: the most images in a batch.
    """
    grid = torch.arange(classes * ipc).view(classes, ipc)
    parts = grid.tensor_split(min(blocks or ipc, ipc), dim=1)
    return [piece for part in parts for piece in torch.split(part.flatten(), most)]


class Recovery:
    """The optimisation of the images, batch by batch.

    The observers take turns, also across batches. The image that is kept is the last
    one, as in the published code.

    Args:
        run: the run, which supplies the real images and random streams.
        settings: the loss, the views and the optimiser.
        observers: the networks that see the images.
        start: the images before the first step, in class order.
    """

    def __init__(
        self,
        run: Run,
        settings: RecoverySettings,
        observers: Observers,
        start: Float[Tensor, "m c h w"],
    ) -> None:
        """Measure the real images where that is needed, and begin the first batch."""
        self.run = run
        self.settings = settings
        self.observers = observers
        info, ipc = run.info, run.cell.ipc
        self.images = start.clone()
        self.labels = torch.arange(info.classes, device=run.device)
        self.labels = self.labels.repeat_interleave(ipc)
        self.batches = batches(
            info.classes, ipc, settings.blocks, settings.recover_batch
        )
        self.viewing = run.generator("recover/view", device="cpu")
        self.dropping = run.generator("recover/drop", device="cpu")
        self.matchings = [
            self._matching(*observer)
            for observer in zip(observers.networks, observers.origins, strict=True)
        ]
        ends = torch.tensor([0.0, 1.0], device=run.device).view(2, 1, 1, 1)
        ends = ends.expand(2, info.channels, 1, 1)
        self.least, self.most = standardize(ends, info).unsqueeze(1).unbind()
        self._begin(0)

    @property
    def steps(self) -> int:
        """The updates of all batches."""
        return len(self.batches) * self.settings.steps

    def _matching(self, network: Network, origin: dict[str, Any]) -> StatisticsMatching:
        """Return the matching loss of an observer."""
        settings = self.settings
        real = None
        if settings.needs_real_statistics:
            real = real_statistics(self.run, network, origin, settings)
        probe = Probe(network, settings.matched == "all", settings.patch)
        return StatisticsMatching(probe, real, settings)

    def _begin(self, batch: int) -> None:
        """Begin a batch, with a new optimiser."""
        self.batch = batch
        index = self.batches[batch]
        self.counts = tuple(torch.bincount(index // self.run.cell.ipc).tolist())
        self.counts = tuple(count for count in self.counts if count)
        self.index = index.to(self.run.device)
        self.present = self.images[self.index]
        self.average = self.present.clone()
        self.classes = self.labels[self.index]
        self.moments = self.present.new_zeros(2 * self.present.numel())
        for matching in self.matchings:
            matching.begin(self.classes)

    def step(self, index: int) -> None:
        """Update the images of a batch once."""
        settings, run = self.settings, self.run
        batch, done = divmod(index, settings.steps)
        if batch != self.batch:
            self._begin(batch)
        with run.phase("view"):
            share = done / settings.steps
            view = draw_view(settings, run.info.size, share, self.viewing)
        matching = self.matchings[index % len(self.matchings)]
        with run.phase("synthetic"), tensor_cores(settings.precision):
            images = self.present.detach().requires_grad_()
            loss = self._loss(matching, images, view)
            (gradient,) = torch.autograd.grad(loss, images)
        with run.phase("update"), torch.no_grad():
            rate = settings.image_lr * (1 + cos(pi * share)) / 2
            adam = ImageAdam(rate, 0.0, steps_taken=done)
            adam.step(self.present.view(-1), self.moments, gradient.flatten())
            self.present.clamp_(self.least, self.most)
            self.average.lerp_(self.present, 1 - settings.flatness_momentum)
            self.images[self.index] = self.present
        run.count(len(images) * (2 if settings.flatness_weight else 1))
        run.watch("loss", loss.detach())

    def _loss(
        self,
        matching: StatisticsMatching,
        images: Float[Tensor, "n c h w"],
        view: View,
    ) -> Float[Tensor, ""]:
        """Return the loss of the present batch."""
        settings = self.settings
        seen = view(images)
        logits, inputs = matching.probe(seen)
        loss = F.cross_entropy(logits, self.classes)
        if settings.statistics_weight:
            fit = matching(inputs, self._dropped(matching.probe.is_convolution))
            loss = loss + settings.statistics_weight * fit
        if settings.flatness_weight:
            with torch.no_grad():
                average = matching.probe.network(view(self.average))
            temperature = settings.flatness_temperature
            loss = loss + settings.flatness_weight * regularisers.flatness(
                logits, average, temperature, settings.flatness_reversed
            )
        if settings.density_weight:
            loss = loss + settings.density_weight * regularisers.density(
                seen, self.counts, settings.density_temperature
            )
        if settings.tv_weight:
            loss = loss + settings.tv_weight * regularisers.total_variation(seen)
        if settings.norm_weight:
            loss = loss + settings.norm_weight * regularisers.mean_norm(seen)
        return loss

    def _dropped(self, convolutions: Sequence[bool]) -> list[bool]:
        """Draw which layers a step leaves out; batch norms are always matched."""
        rate = self.settings.drop_rate
        if not rate:
            return [False] * len(convolutions)
        drawn = torch.rand(len(convolutions), generator=self.dropping).tolist()
        return [
            convolution and chance < rate
            for convolution, chance in zip(convolutions, drawn, strict=True)
        ]

    def synthetic(self) -> SyntheticSet:
        """Return the set in its present state."""
        return labelled_set(self.run, self.settings, self.observers, self.images)

    def state_dict(self) -> State:
        """Return the images, the optimiser and the moving averages."""
        return {
            "images": self.images,
            "batch": self.batch,
            "average": self.average,
            "moments": self.moments,
            "matchings": [matching.state_dict() for matching in self.matchings],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        self.images.copy_(state["images"])
        self._begin(state["batch"])
        self.average.copy_(state["average"])
        self.moments.copy_(state["moments"])
        for matching, content in zip(self.matchings, state["matchings"], strict=True):
            matching.load_state_dict(content)
