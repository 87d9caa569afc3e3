"""DC's gradient distance between real and synthetic images, for all classes at once."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F

from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.contract import Run
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.feature_matching import MatchingGradient
from dcbench_bacon.networks.base import Network
from dcbench_bacon.runtime.compute.memory import images_per_call

Gradients = dict[str, Tensor]
"""Maps the name of a weight to its gradients, of shape (c, *weight's shape)."""

EPSILON = 1e-6  # added by ``distance_wb`` in ``utils.py`` of the published code
# Memory per image, relative to the ordinary pass that ``images_per_call`` assumes:
# per-class gradients keep about twice as much, and differentiating them once more four
# times as much (a ConvNet at 32 pixels on a CPU: 5 and 11 MB per image).
_FIRST_ORDER, _SECOND_ORDER = 2, 4


def class_gradients(
    network: Network,
    images: Float[Tensor, "c n ch h w"],
    classes: Int64[Tensor, "c"],
    *,
    create_graph: bool = False,
) -> Gradients:
    """Return the gradient of each class's mean cross-entropy, from one pass.

    Args:
        network: the network; its batch statistics, if any, must be frozen (``eval``).
        images: the images of each class.
        classes: the label of each class.
        create_graph: whether the gradients can be differentiated again.

    Returns:
        Gradients of the parameters with two or more axes; the distance leaves out
        biases and the scales of normalisation layers.
    """
    parameters = {
        name: parameter.detach() for name, parameter in network.named_parameters()
    }
    copies = {
        name: parameter.expand(len(classes), *parameter.shape).requires_grad_()
        for name, parameter in parameters.items()
        if parameter.ndim > 1
    }

    def loss(weights: Gradients, inputs: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, {**parameters, **weights}, (inputs,))
        return F.cross_entropy(logits, label.expand(len(inputs)))

    losses: Tensor = vmap(loss)(copies, images, classes)
    gradients = torch.autograd.grad(
        losses.sum(), list(copies.values()), create_graph=create_graph
    )
    return dict(zip(copies, gradients, strict=True))


def gradient_distance(real: Gradients, synthetic: Gradients) -> Float[Tensor, "c"]:
    """Return the layer-wise distance of DC, equation 9, for each class.

    It is one minus the cosine, summed over the output units of every weight and over
    the weights, so that wide layers weigh more. As published, ``EPSILON`` is added to
    the product of norms; the distance of a row much shorter than the root of
    ``EPSILON`` from itself is therefore not 0.

    Args:
        real: one gradient of shape (c, out, ...) per weight.
        synthetic: gradients of the same names and shapes.
    """
    rows = [
        1 - _cosines(real[name].flatten(2), synthetic[name].flatten(2)) for name in real
    ]
    return torch.cat(rows, 1).sum(1)


def _cosines(
    left: Float[Tensor, "c out k"], right: Float[Tensor, "c out k"]
) -> Float[Tensor, "c out"]:
    norms: Tensor = left.norm(dim=-1) * right.norm(dim=-1)
    return (left * right).sum(-1) / (norms + EPSILON)


class GradientMatcher:
    """The gradient of the distance with respect to the synthetic images.

    One pass takes as many classes as fit into memory: real images in pieces of at most
    ``images_per_call / 2``, and all synthetic images of at least one class.

    Args:
        run: supplies the timed phases.
        real: the real images to match.
        augmentation: drawn once per class; real and synthetic images share the draw.
    """

    def __init__(self, run: Run, real: RealImages, augmentation: Augmentation) -> None:
        """Keep the run, the real images and the augmentation."""
        self.run = run
        self.real = real
        self.augmentation = augmentation

    def __call__(
        self,
        network: Network,
        index: Int64[Tensor, "c n"],
        draw: Draw,
        images: Float[Tensor, "c ipc ch h w"],
    ) -> MatchingGradient:
        """Compute the losses and their gradient for all classes.

        Args:
            network: the network whose gradients are matched; its batch statistics are
                frozen.
            index: the real images to match, as ``RealImages.draw`` returns them.
            draw: the augmentation of each class.
            images: the synthetic images.
        """
        parts = [
            self._classes(
                network, index[group], draw[group], images[group], group.start
            )
            for group in self._chunks(network, index.shape[1], images)
        ]
        return MatchingGradient(
            *(torch.cat(tensors) for tensors in zip(*parts, strict=True))
        )

    def _classes(
        self,
        network: Network,
        index: Int64[Tensor, "c n"],
        draw: Draw,
        images: Float[Tensor, "c ipc ch h w"],
        first: int,
    ) -> MatchingGradient:
        """Compute the losses and their gradient for consecutive classes."""
        classes = torch.arange(first, first + len(index), device=index.device)
        with self.run.phase("data"):
            real = self.real.take(index)
        with self.run.phase("augmentation"), torch.no_grad():
            real = self.augmentation.apply(real, draw)
        with self.run.phase("real forward"):  # and backward
            target = self._target(network, real, classes)
        with self.run.phase("synthetic"):
            leaf = images.detach().requires_grad_()
            augmented = self.augmentation.apply(leaf, draw)
            gradients = class_gradients(network, augmented, classes, create_graph=True)
            losses = gradient_distance(target, gradients)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        self.run.count(real.shape[:2].numel() + leaf.shape[:2].numel())
        return MatchingGradient(losses.detach(), gradient)

    def _target(
        self,
        network: Network,
        real: Float[Tensor, "c n ch h w"],
        classes: Int64[Tensor, "c"],
    ) -> Gradients:
        """Return the gradients of real images, from pieces that fit into memory."""
        fit = images_per_call(real.device, real.shape[-1], network.memory_demand)
        most = fit // _FIRST_ORDER
        total: Gradients = {}
        for piece in torch.split(real, max(1, most // len(real)), dim=1):
            share = piece.shape[1] / real.shape[1]
            for name, gradient in class_gradients(network, piece, classes).items():
                scaled = gradient * share
                total[name] = total[name] + scaled if name in total else scaled
        return total

    def _chunks(self, network: Network, real: int, images: Tensor) -> Iterator[slice]:
        """Yield ranges of classes that fit into memory together."""
        classes, ipc = images.shape[:2]
        side, demand = images.shape[-1], network.memory_demand
        most = images_per_call(images.device, side, demand)
        step = max(1, min(most // (_FIRST_ORDER * real), most // (_SECOND_ORDER * ipc)))
        for start in range(0, classes, step):
            yield slice(start, min(start + step, classes))
