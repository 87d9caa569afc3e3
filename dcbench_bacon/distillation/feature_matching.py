"""One step of feature matching for all classes at once, in bounded memory.

The published code does this class by class in Python. What is computed here is the
same, to rounding: ``tests/reference.py`` holds the slow loop, and the tests compare.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augment import Augmentation, Draw
from dcbench_bacon.data import class_index, normalize
from dcbench_bacon.graphs import Tensors
from dcbench_bacon.memory import images_per_call
from dcbench_bacon.networks import Network
from dcbench_bacon.objectives import Matched, Objective
from dcbench_bacon.schema import DatasetInfo
from dcbench_bacon.spec import Run, SyntheticSet, decode

Init = Literal["real", "noise"]
_REAL_CALLS = 10  # calls of a network that the real images of a chunk may take


def in_class_order(
    images: Float[Tensor, "m ch h w"], info: DatasetInfo, **more: Any
) -> SyntheticSet:
    """A set of as many images of every class, one class after another.

    Args:
        images: of the first class, then of the second, and so on.
        info: of the data set.
        more: further fields of the set.
    """
    classes = torch.arange(info.classes, device=images.device)
    labels = classes.repeat_interleave(len(images) // info.classes)
    return SyntheticSet(images, F.one_hot(labels, info.classes).float(), **more)


class RealImages:
    """The real images of a run by class, drawn without waiting for the device.

    Args:
        run: supplies the train split, its facts and the random streams.
    """

    def __init__(self, run: Run) -> None:
        """Indexes the train split by class."""
        self.run = run
        self.images = run.train.images
        self.labels = run.train.labels
        self.index, self.counts = class_index(self.labels, run.info.classes)
        self.largest = self.index.shape[1]

    def draw(self, count: int, generator: torch.Generator) -> Int64[Tensor, "c n"]:
        """Draws image indices a class, without replacement while they last.

        A class with fewer than ``count`` images gives all of them once before any
        twice, so that all classes have batches of one size.

        Args:
            count: images a class; cut to the largest class.
            generator: on the run's device.
        """
        count = min(count, self.largest)
        shape = self.index.shape
        keys = torch.rand(shape, generator=generator, device=self.index.device)
        position = torch.arange(self.largest, device=self.index.device)
        keys.masked_fill_(position >= self.counts[:, None], -1)
        order = keys.topk(count, dim=1).indices  # padding sorts last
        chosen = order.gather(1, position[:count] % self.counts[:, None])
        return self.index.gather(1, chosen)

    def take(self, index: Int64[Tensor, "c n"]) -> Float[Tensor, "c n ch h w"]:
        """The normalised images at indices that ``draw`` returned."""
        images = normalize(self.images[index.flatten()], self.run.info)
        return torch.unflatten(images, 0, index.shape)

    def minibatches(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> Int64[Tensor, "*shape"]:
        """Draws image indices from all classes, with replacement.

        Args:
            shape: of what is returned.
            generator: on the run's device.
        """
        where = self.labels.device
        return torch.randint(len(self.labels), shape, generator=generator, device=where)

    def labelled(
        self, index: Int64[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "*shape c h w"], Int64[Tensor, "*shape"]]:
        """The normalised images at indices, with their labels."""
        images = normalize(self.images[index.flatten()], self.run.info)
        return torch.unflatten(images, 0, index.shape), self.labels[index]

    def start(
        self, init: Init, generator: torch.Generator, partition: int = 1
    ) -> Float[Tensor, "c ipc ch h w"]:
        """The images before the first step: real ones, or standard normal noise."""
        if init == "real":
            return self.initial(partition, generator)
        info, ipc = self.run.info, self.run.cell.ipc
        shape = (info.classes, ipc, info.channels, info.size, info.size)
        return torch.randn(shape, generator=generator, device=self.run.device)

    def initial(
        self, partition: int, generator: torch.Generator
    ) -> Float[Tensor, "c ipc ch h w"]:
        """Real images to start from; with a partition, ``partition**2`` in each.

        Each part is another real image of the class, reduced bilinearly; parts are
        drawn independently, as IDM does it.
        """
        ipc = self.run.cell.ipc
        if partition == 1:
            return self.take(self.draw(ipc, generator))
        columns = []
        for _ in range(partition):
            parts = [self.take(self.draw(ipc, generator)) for _ in range(partition)]
            size = parts[0].shape[-1] // partition
            reduced = [_reduce(part, size) for part in parts]
            columns.append(torch.cat(reduced, dim=-2))
        return torch.cat(columns, dim=-1)


def _reduce(
    images: Float[Tensor, "c n ch h w"], size: int
) -> Float[Tensor, "c n ch y x"]:
    flat = F.interpolate(
        images.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False
    )
    return torch.unflatten(flat, 0, images.shape[:2])


class ImageSGD:
    """SGD on the synthetic images, whose classes may be visited in turn.

    IDM and BACON step the optimiser once a class, on a tensor that all classes share:
    between two visits of a class its momentum goes on moving it for as many steps as
    there are classes (``visits``), with no gradient. With v the velocity just after a
    visit, these steps move the images by lr (1 - mu^visits) / (1 - mu) v and leave
    mu^visits v; so one update serves all classes and is exact at every visit.

    Args:
        like: the images, (classes, images per class, ...).
        learning_rate: of the published loop.
        momentum: of the published loop.
        visits: optimiser steps between two visits of a class; 1 for plain SGD.
    """

    def __init__(
        self, like: Tensor, learning_rate: float, momentum: float, visits: int
    ) -> None:
        """Starts with no velocity."""
        self.momentum = momentum
        self.learning_rate = learning_rate
        self.visits = visits
        self.velocity = torch.zeros_like(like)

    def step(self, images: Tensor, gradient: Tensor) -> None:
        """Updates the images in place, to where their next visit finds them."""
        decay = self.momentum**self.visits
        rate = self.learning_rate * (1 - decay) / (1 - self.momentum)
        self.velocity.mul_(decay).add_(gradient)
        images.sub_(self.velocity, alpha=rate)

    def snapshot(self, images: Tensor) -> Tensor:
        """The images where the published loop leaves them at a step's end.

        Class c has then moved for ``visits - c`` steps only; the difference is what
        its momentum will do before the next visit.
        """
        if self.visits == 1:
            return images.clone()
        order = torch.arange(self.visits, device=images.device, dtype=images.dtype)
        left = self.momentum ** (self.visits - order) - self.momentum**self.visits
        left = left.view(-1, *[1] * (images.ndim - 1))
        scale = self.learning_rate / (1 - self.momentum)
        return images + scale * left * self.velocity


@dataclass(frozen=True)
class Batch:
    """What a step matches.

    Attributes:
        index: of the real images to match, as ``RealImages.draw`` returns them.
        draw: the augmentation of each class, on the run's device.
        weight: of the cross-entropy of the synthetic images; none without it.
    """

    index: Int64[Tensor, "c n"]
    draw: Draw
    weight: Tensor | None = None


class MatchingGradient(NamedTuple):
    """The outcome of a step for c classes: losses and the gradient of their sum."""

    losses: Float[Tensor, "c"]
    gradient: Float[Tensor, "c ipc ch h w"]


class Matcher:
    """The gradient of a matching loss with respect to the synthetic images.

    Args:
        run: supplies phases and facts.
        network: gives features and logits; its parameters are constants, and stay where
            they are in memory.
        real: the real images to match.
        objective: from features to a loss a class.
        augmentation: drawn once a class and shared by real and synthetic images.
        partition: of the synthetic images.
        joint: forward all images of a kind in one call, as networks with batch
            statistics need it.
    """

    def __init__(
        self,
        run: Run,
        network: Network,
        real: RealImages,
        objective: Objective,
        augmentation: Augmentation,
        partition: int = 1,
        joint: bool = False,
    ) -> None:
        """Keeps the parts."""
        self.run = run
        self.network = network
        self.real = real
        self.objective = objective
        self.augmentation = augmentation
        self.partition = partition
        self.joint = joint
        self._augment = self._augmented
        if augmentation.operations:
            self._augment = run.graphed(self._augmented)
        self._embed = run.graphed(self._embedded)
        self._differentiate = run.graphed(self._differentiated)

    def __call__(
        self, batch: Batch, images: Float[Tensor, "c ipc ch h w"]
    ) -> MatchingGradient:
        """Computes losses and gradient for all classes.

        Args:
            batch: what to match.
            images: the synthetic images.
        """
        chunks = self._chunks(batch.index.shape[1], images)
        parts = [self.classes(batch, images, some) for some in chunks]
        return MatchingGradient(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def classes(
        self, batch: Batch, images: Float[Tensor, "c ipc ch h w"], some: slice
    ) -> MatchingGradient:
        """The same for a run of classes."""
        draw, device = batch.draw[some], images.device
        classes = torch.arange(some.start, some.stop, device=device)
        weight = () if batch.weight is None else (batch.weight,)
        with self.run.phase("data"):
            real = self.real.take(batch.index[some])
        with self.run.phase("augmentation"):
            (real,) = self._augment(real, draw.codes, draw.values)
        with self.run.phase("real forward"):
            (features,) = self._embed(real)
        with self.run.phase("synthetic"):
            losses, gradient = self._differentiate(
                features, images[some], classes, draw.codes, draw.values, *weight
            )
        synthetic = images[some].shape[:2].numel() * self.partition**2
        self.run.count(real.shape[:2].numel() + synthetic)
        return MatchingGradient(losses, gradient)

    def _chunks(self, real: int, images: Tensor) -> Iterator[slice]:
        """Runs of classes that fit into memory together."""
        classes, ipc = images.shape[:2]
        device, size = images.device, images.shape[-1]
        most = images_per_call(device, size)
        # Real images keep no activations: a chunk of them may take several calls.
        step = min(most // (ipc * self.partition**2), _REAL_CALLS * most // real)
        step = classes if self.joint else max(1, step)
        for start in range(0, classes, step):
            yield slice(start, min(start + step, classes))

    @torch.no_grad()
    def _augmented(self, images: Tensor, codes: Tensor, values: Tensor) -> Tensors:
        """The real images as the network sees them."""
        return (self.augmentation.apply(images, Draw(codes, values)),)

    @torch.no_grad()
    def _embedded(self, images: Float[Tensor, "c n ch h w"]) -> Tensors:
        """Features of real images, in calls that fit into memory."""
        flat = images.flatten(0, 1)
        most = images_per_call(flat.device, flat.shape[-1])
        calls = (flat,) if self.joint else torch.split(flat, most)
        features = torch.cat([self.network.embed(some) for some in calls])
        return (torch.unflatten(features, 0, images.shape[:2]),)

    def _differentiated(
        self,
        real: Float[Tensor, "c n d"],
        images: Float[Tensor, "c ipc ch h w"],
        classes: Int64[Tensor, "c"],
        codes: Tensor,
        values: Tensor,
        *weight: Tensor,
    ) -> Tensors:
        """The losses of classes, and the gradient of their sum by the images."""
        own = images.detach().requires_grad_()
        decoded = self._decode(own)
        augmented = self.augmentation.apply(decoded, Draw(codes, values))
        losses = self._losses(real, decoded, augmented, classes, *weight)
        (gradient,) = torch.autograd.grad(losses.sum(), own)
        return losses.detach(), gradient

    def _losses(
        self,
        real: Float[Tensor, "c n d"],
        decoded: Float[Tensor, "c m ch h w"],
        augmented: Float[Tensor, "c m ch h w"],
        classes: Int64[Tensor, "c"],
        weight: Tensor | None = None,
    ) -> Float[Tensor, "c"]:
        """Features and logits from one pass, then the loss of each class."""
        shape = augmented.shape[:2]
        features, logits = self.network.features_and_logits(augmented.flatten(0, 1))
        synthetic = torch.unflatten(features, 0, shape)
        losses = self.objective(Matched(real, synthetic, decoded, classes))
        if weight is None:
            return losses
        labels = classes.repeat_interleave(shape[1])
        entropy = F.cross_entropy(logits, labels, reduction="none")
        return losses + weight * torch.unflatten(entropy, 0, shape).mean(1)

    def _decode(self, images: Tensor) -> Float[Tensor, "c m ch h w"]:
        """The parts of each class's images side by side."""
        classes, ipc = images.shape[:2]
        parts = decode(images.flatten(0, 1), self.partition)
        parts = torch.unflatten(parts, 0, (self.partition**2, classes, ipc))
        return parts.movedim(0, 1).flatten(1, 2)
