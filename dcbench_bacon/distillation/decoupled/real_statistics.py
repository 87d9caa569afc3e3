"""The statistics of real images in an observer's layers, in one pass over train.

The statistics of all classes are means over batches, weighted by their sizes, as in
G-VBSM: the variance is the mean of the variances of batches. The statistics of a class
are means over its images, as in EDC, and are summed by label for all classes at once.
"""

import hashlib
from functools import partial
from typing import Any

import msgspec
import torch
from torch import Tensor

from dcbench_bacon.augmentation import policies
from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.splits import Feed
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.decoupled.moments import (
    Moments,
    Probe,
    batch_moments,
    image_moments,
)
from dcbench_bacon.distillation.decoupled.settings import RecoverySettings
from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.precision import tensor_cores

BATCH = 64  # real images per batch, as in G-VBSM's scripts for CIFAR and Tiny ImageNet
STAGE = "statistics"


class LayerStatistics(msgspec.Struct, frozen=True):
    """The statistics of real images in one layer.

    Attributes:
        pooled: of all classes: one vector each.
        images: of each class: the means over its images of the statistics of each.
        between: of each class: the variance over its images of their means, by channel
            and by cell.
    """

    pooled: Moments
    images: Moments
    between: tuple[Tensor, Tensor]

    def total(self) -> Moments:
        """Return the statistics of each class with the variance between its images."""
        inside, (channels, cells) = self.images, self.between
        return Moments(
            inside.mean,
            inside.variance + channels,
            inside.patch_mean,
            inside.patch_variance + cells,
        )


def real_statistics(
    run: Run, network: Network, origin: dict[str, Any], settings: RecoverySettings
) -> list[LayerStatistics]:
    """Return the statistics of real images in each matched layer of an observer.

    Args:
        run: the run, which supplies the real images and the shared results.
        network: the observer.
        origin: JSON values that identify the observer.
        settings: the layers, the cells and the augmentation.
    """
    named = (
        origin["file"],
        origin["weights_sha256"],
        settings.matched,
        settings.patch,
        settings.observer_augmentation,
        settings.precision,
        BATCH,
    )
    digest = hashlib.sha256(msgspec.json.encode(named)).hexdigest()[:16]
    architecture = origin["training"]["architecture"]
    name = f"{STAGE}-{run.info.name}-{architecture}-s{run.cell.seed}-{digest}"
    content = run.once(name, partial(_measured, network=network, settings=settings))
    return [_layer(layer, run.device) for layer in content["layers"]]


def _measured(run: Run, network: Network, settings: RecoverySettings) -> State:
    """Return the statistics of each layer as a checkpoint's content."""
    learner = StatisticsPass(run, network, settings)
    for step in run.steps(STAGE, learner.batches, state=learner):
        learner.step(step)
    return {"layers": learner.result()}


def _layer(content: State, device: torch.device) -> LayerStatistics:
    """Return the statistics of a layer from a checkpoint's content."""
    pooled, images, between = (
        [value.to(device) for value in content[key]]
        for key in ("pooled", "images", "between")
    )
    return LayerStatistics(Moments(*pooled), Moments(*images), (between[0], between[1]))


class StatisticsPass:
    """Sums of the statistics of real images, during the pass.

    Args:
        run: the run, which supplies the real images and random streams.
        network: the observer.
        settings: the layers, the cells and the augmentation.
    """

    def __init__(self, run: Run, network: Network, settings: RecoverySettings) -> None:
        """Draw the order of the images."""
        self.run = run
        self.precision = settings.precision
        self.real = RealImages(run)
        self.probe = Probe(network, settings.matched == "all", settings.patch)
        self.augmentation = policies.build(settings.observer_augmentation, run.info)
        self.drawing = run.generator(f"{STAGE}/augmentation", device="cpu")
        self.order = torch.randperm(
            len(self.real.labels),
            generator=run.generator(f"{STAGE}/order"),
            device=run.device,
        )
        self.batches = -(-len(self.order) // BATCH)
        self.feed = Feed(run.train, BATCH)
        # Per layer: sums for all classes, by class, and of squares of means by class.
        self.pooled: list[list[Tensor]] = []
        self.images: list[list[Tensor]] = []
        self.squares: list[list[Tensor]] = []

    @torch.no_grad()
    def step(self, index: int) -> None:
        """Add a batch to the sums."""
        images, labels = self.feed.batch(index, self.order)
        draw: Any = self.augmentation.draw(1, self.drawing, samples=len(images))
        images = self.augmentation.apply(images.unsqueeze(0), draw).squeeze(0)
        with tensor_cores(self.precision):
            _, inputs = self.probe(images)
        for layer, (maps, patch) in enumerate(
            zip(inputs, self.probe.patches, strict=True)
        ):
            whole, per_image = batch_moments(maps, patch), image_moments(maps, patch)
            if layer == len(self.pooled):
                self._make_room(whole, per_image)
            for total, value in zip(self.pooled[layer], whole, strict=True):
                total.add_(value.double(), alpha=len(images))
            for total, value in zip(self.images[layer], per_image, strict=True):
                total.index_add_(0, labels, value.double())
            means = (per_image.mean, per_image.patch_mean)
            for total, value in zip(self.squares[layer], means, strict=True):
                total.index_add_(0, labels, value.double().square())
        self.run.count(len(images))

    def _make_room(self, whole: Moments, per_image: Moments) -> None:
        """Start the sums of another layer at zero."""
        classes = self.run.info.classes

        def zeros(*like: Tensor) -> list[Tensor]:
            return [
                value.new_zeros(classes, value.shape[1], dtype=torch.float64)
                for value in like
            ]

        self.pooled.append([torch.zeros_like(v, dtype=torch.float64) for v in whole])
        self.images.append(zeros(*per_image))
        self.squares.append(zeros(per_image.mean, per_image.patch_mean))

    def result(self) -> list[dict[str, list[Tensor]]]:
        """Return the statistics of each layer, as a checkpoint holds them."""
        counts = self.real.counts.double().clamp(min=1)[:, None]
        layers = []
        for pooled, images, squares in zip(
            self.pooled, self.images, self.squares, strict=True
        ):
            means = [total / counts for total in images]
            between = [
                (square / counts - mean.square()).clamp(min=0)
                for square, mean in zip(squares, means[::2], strict=True)
            ]
            parts = {
                "pooled": [total / len(self.order) for total in pooled],
                "images": means,
                "between": between,
            }
            layers.append(
                {key: [value.float() for value in part] for key, part in parts.items()}
            )
        return layers

    def state_dict(self) -> State:
        """Return the sums and the order."""
        return {
            "order": self.order,
            "pooled": self.pooled,
            "images": self.images,
            "squares": self.squares,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        self.order.copy_(state["order"])
        for name in ("pooled", "images", "squares"):
            layers = [
                [total.to(self.run.device) for total in row] for row in state[name]
            ]
            setattr(self, name, layers)
