"""One step of feature matching for all classes at once, in bounded memory.

The published code loops over the classes in Python. This module computes the same, up
to rounding: the tests compare it with the slow loop in ``tests/reference.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.contract import Run
from dcbench_bacon.data.synthetic import decode
from dcbench_bacon.distillation.class_batches import REAL_CALLS, RealImages
from dcbench_bacon.distillation.objectives import Matched, Objective
from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.cuda_graphs import Tensors
from dcbench_bacon.runtime.compute.memory import images_per_call


@dataclass(frozen=True)
class MatchingBatch:
    """The random draws of one step, and the weight of its cross-entropy.

    Attributes:
        index: the real images to match, as ``RealImages.draw`` returns them.
        draw: the augmentation of each class, on the run's device.
        weight: weight of the cross-entropy of the synthetic images; None leaves the
            cross-entropy out.
    """

    index: Int64[Tensor, "c n"]
    draw: Draw
    weight: Tensor | None = None


class MatchingGradient(NamedTuple):
    """The losses of c classes, and the gradient of their sum by the images."""

    losses: Float[Tensor, "c"]
    gradient: Float[Tensor, "c ipc ch h w"]


class Matcher:
    """The gradient of a matching loss with respect to the synthetic images.

    Args:
        run: supplies the timed phases and the CUDA graphs.
        network: computes features and logits. Its parameters are constants and must
            stay where they are in memory.
        real: the real images to match.
        objective: computes one loss per class from features.
        augmentation: drawn once per class; real and synthetic images share the draw.
        partition: number of parts along each side of a synthetic image.
        joint: pass all real images, and all synthetic ones, through the network in one
            call each, as networks with batch statistics need it.
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
        """Keep the parts, and prepare the functions for CUDA graphs."""
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
        self, batch: MatchingBatch, images: Float[Tensor, "c ipc ch h w"]
    ) -> MatchingGradient:
        """Compute the losses and their gradient for all classes.

        Args:
            batch: what to match.
            images: the synthetic images.
        """
        chunks = self._chunks(batch.index.shape[1], images)
        parts = [self.classes(batch, images, group) for group in chunks]
        return MatchingGradient(
            *(torch.cat(tensors) for tensors in zip(*parts, strict=True))
        )

    def classes(
        self, batch: MatchingBatch, images: Float[Tensor, "c ipc ch h w"], group: slice
    ) -> MatchingGradient:
        """Compute the losses and their gradient for consecutive classes.

        Args:
            batch: what to match.
            images: the synthetic images of all classes.
            group: the range of classes.
        """
        draw, device = batch.draw[group], images.device
        classes = torch.arange(group.start, group.stop, device=device)
        weight = () if batch.weight is None else (batch.weight,)
        with self.run.phase("data"):
            real = self.real.take(batch.index[group])
        with self.run.phase("augmentation"):
            (real,) = self._augment(real, draw.codes, draw.values)
        with self.run.phase("real forward"):
            (features,) = self._embed(real)
        with self.run.phase("synthetic"):
            losses, gradient = self._differentiate(
                features, images[group], classes, draw.codes, draw.values, *weight
            )
        synthetic = images[group].shape[:2].numel() * self.partition**2
        self.run.count(real.shape[:2].numel() + synthetic)
        return MatchingGradient(losses, gradient)

    def _chunks(self, real: int, images: Tensor) -> Iterator[slice]:
        """Yield ranges of classes that fit into memory together."""
        classes, ipc = images.shape[:2]
        device, size = images.device, images.shape[-1]
        most = images_per_call(device, size, self.network.memory_demand)
        # Real images keep no activations, so a chunk of them may take several calls.
        step = min(most // (ipc * self.partition**2), REAL_CALLS * most // real)
        step = classes if self.joint else max(1, step)
        for start in range(0, classes, step):
            yield slice(start, min(start + step, classes))

    @torch.no_grad()
    def _augmented(self, images: Tensor, codes: Tensor, values: Tensor) -> Tensors:
        """Return the augmented real images."""
        return (self.augmentation.apply(images, Draw(codes, values)),)

    @torch.no_grad()
    def _embedded(self, images: Float[Tensor, "c n ch h w"]) -> Tensors:
        """Return the features of real images, from calls that fit into memory."""
        flat = images.flatten(0, 1)
        demand = self.network.memory_demand
        most = images_per_call(flat.device, flat.shape[-1], demand)
        calls = (flat,) if self.joint else torch.split(flat, most)
        features = torch.cat([self.network.embed(piece) for piece in calls])
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
        """Return the losses, and the gradient of their sum by the images."""
        leaf = images.detach().requires_grad_()
        decoded = self._decode(leaf)
        augmented = self.augmentation.apply(decoded, Draw(codes, values))
        losses = self._losses(real, decoded, augmented, classes, *weight)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), gradient

    def _losses(
        self,
        real: Float[Tensor, "c n d"],
        decoded: Float[Tensor, "c m ch h w"],
        augmented: Float[Tensor, "c m ch h w"],
        classes: Int64[Tensor, "c"],
        weight: Tensor | None = None,
    ) -> Float[Tensor, "c"]:
        """Return the loss of each class, from one pass of the synthetic images."""
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
        """Return the images decoded, those of one class after another."""
        classes, ipc = images.shape[:2]
        parts = decode(images.flatten(0, 1), self.partition)
        parts = torch.unflatten(parts, 0, (self.partition**2, classes, ipc))
        return parts.movedim(0, 1).flatten(1, 2)
