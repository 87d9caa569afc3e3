"""The loss that matches the statistics of synthetic images to those of real images.

For layer l with weight w_l (``first_weight`` for the first, else 1), the loss is the
sum of w_l R_l. R_l is the sum of the norms of the differences of means and variances
from those of all real images. With categories (EDC, equation 5), it is ``global_share``
times this, plus the rest times the same by class: either the batch is compared with the
mean of its images' class targets (``pooled``, as in the published code), or each class
in the batch with its target, weighted by its share (``per_class``, as printed).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcbench_bacon.contract import State
from dcbench_bacon.distillation.decoupled.moments import (
    Moments,
    Probe,
    batch_moments,
    image_moments,
)
from dcbench_bacon.distillation.decoupled.real_statistics import LayerStatistics
from dcbench_bacon.distillation.decoupled.settings import RecoverySettings


@dataclass(frozen=True)
class Members:
    """The classes of a batch.

    Attributes:
        classes: the classes that occur.
        share: the share of the batch that each of them has.
        averages: a row per class, which averages over its images.
    """

    classes: Int64[Tensor, "k"]
    share: Float[Tensor, "k"]
    averages: Float[Tensor, "k n"]

    @staticmethod
    def of(labels: Int64[Tensor, "n"]) -> "Members":
        """Return the classes of a batch's labels."""
        classes, position = torch.unique(labels, return_inverse=True)
        rows = torch.nn.functional.one_hot(position, len(classes)).float().T
        counts = rows.sum(1)
        return Members(classes, counts / len(labels), rows / counts[:, None])


class StatisticsMatching:
    """The matching loss of one observer, with its moving averages.

    Args:
        probe: the observer.
        real: the statistics of real images in each layer; None matches the running
            statistics of batch norms alone.
        settings: weights, categories and moving averages.
    """

    def __init__(
        self,
        probe: Probe,
        real: Sequence[LayerStatistics] | None,
        settings: RecoverySettings,
    ) -> None:
        """Choose the targets of each layer."""
        self.probe = probe
        self.settings = settings
        measured = [None] * len(probe.layers) if real is None else [*real]
        self.pooled: list[Moments] = []
        self.by_class: list[Moments] = []
        for running, layer in zip(probe.running(), measured, strict=True):
            if running is not None:
                self.pooled.append(running)
            elif layer is not None:
                self.pooled.append(layer.pooled)
            if layer is not None:
                self.by_class.append(_class_targets(layer, settings))
        self.averages: list[list[Tensor] | None] = [None] * len(probe.layers)
        self.members: Members
        self.mixtures: list[Moments] = []

    def begin(self, labels: Int64[Tensor, "n"]) -> None:
        """Prepare the class targets of a batch; moving averages go on.

        Args:
            labels: the classes of the batch's images.
        """
        if self.settings.category == "none":
            return
        self.members = Members.of(labels)
        self.mixtures = [
            mixture(classes, self.members, kind=self.settings.category_variance)
            for classes in self.by_class
        ]

    def __call__(
        self, inputs: Sequence[Float[Tensor, "_ _ _ _"]], dropped: Sequence[bool]
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Args:
            inputs: the input of each layer, as the probe reads it.
            dropped: whether each layer is left out of this step.
        """
        terms = [
            (self.settings.first_weight if layer == 0 else 1.0)
            * self._distance(layer, maps)
            for layer, maps in enumerate(inputs)
            if not dropped[layer]
        ]
        return torch.stack(terms).sum() if terms else inputs[0].new_zeros(())

    def _distance(
        self, layer: int, maps: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, ""]:
        """Return the distance R of one layer."""
        settings, patch = self.settings, self.probe.patches[layer]
        present = self._follow(layer, batch_moments(maps, patch))
        whole = present.distance(self.pooled[layer])
        if settings.category == "none":
            return whole
        if settings.category == "pooled":
            classes = present.distance(self.mixtures[layer])
        else:
            members = self.members
            groups = grouped(
                image_moments(maps, patch), members, kind=settings.category_variance
            )
            target = _rows(self.by_class[layer], members.classes)
            classes = members.share @ groups.distance(target)
        return settings.global_share * whole + (1 - settings.global_share) * classes

    def _follow(self, layer: int, present: Moments) -> Moments:
        """Return moving averages whose gradients are those of the present values."""
        share = self.settings.statistics_momentum
        if not share:
            return present
        values = [value.detach() for value in present]
        averages = self.averages[layer]
        if averages is None:
            start = torch.zeros_like if self.settings.compat_bugs else torch.clone
            averages = self.averages[layer] = [start(value) for value in values]
        for average, before in zip(averages, values, strict=True):
            average.lerp_(before, 1 - share)
        return Moments(
            *(
                value + (average - before)
                for value, average, before in zip(
                    present, averages, values, strict=True
                )
            )
        )

    def state_dict(self) -> State:
        """Return the moving averages."""
        return {"averages": self.averages}

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        device = self.pooled[0].mean.device
        self.averages = [
            None if layer is None else [value.to(device) for value in layer]
            for layer in state["averages"]
        ]


def mixture(classes: Moments, members: Members, kind: str) -> Moments:
    """Return the target of a batch from those of the classes of its images.

    Args:
        classes: a row per class of the data set.
        members: the classes of the batch.
        kind: ``image`` averages the variances; ``total`` adds the variance between the
            means of classes, as the variance of a pooled batch has it.
    """
    mean, variance, patch_mean, patch_variance = _rows(classes, members.classes)
    share = members.share
    return Moments(
        *_mixed(share, mean, variance, kind),
        *_mixed(share, patch_mean, patch_variance, kind),
    )


def grouped(images: Moments, members: Members, kind: str) -> Moments:
    """Return the statistics of each class of a batch from those of its images.

    Args:
        images: a row per image.
        members: the classes of the batch.
        kind: ``image`` averages the variances inside images; ``total`` adds the
            variance between the images of a class.
    """
    mean, variance, patch_mean, patch_variance = images
    rows = members.averages
    return Moments(
        *_mixed(rows, mean, variance, kind),
        *_mixed(rows, patch_mean, patch_variance, kind),
    )


def _mixed(
    weights: Tensor, mean: Tensor, variance: Tensor, kind: str
) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of mixtures; the weights of each sum to one."""
    middle = weights @ mean
    if kind == "image":
        return middle, weights @ variance
    centre = mean.detach().mean(0)  # against cancellation
    second = weights @ (variance + (mean - centre).square())
    return middle, second - (middle - centre).square()


def _rows(moments: Moments, index: Int64[Tensor, "k"]) -> Moments:
    """Return the statistics of some of the groups."""
    return Moments(*(values[index] for values in moments))


def _class_targets(layer: LayerStatistics, settings: RecoverySettings) -> Moments:
    """Return the targets of each class in one layer."""
    target: Any = layer.images
    if settings.category_variance == "total":
        target = layer.total()
    if settings.compat_bugs:
        target = target._replace(
            patch_mean=target.patch_variance, patch_variance=target.patch_mean
        )
    return Moments(*target)
