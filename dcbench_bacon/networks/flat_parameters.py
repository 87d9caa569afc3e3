"""Networks whose parameters are views of one vector.

A queue of networks stores one vector per network, a checkpoint saves vectors, and SGD
updates a vector in three operations for any number of layers.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from dcbench_bacon.runtime.compute.compilation import Decider


class FlatNetwork:
    """A network that takes its parameters from a vector.

    Args:
        network: the network, whose parameters are replaced by views. It must not have
            buffers that training changes.
    """

    def __init__(self, network: nn.Module) -> None:
        """Keep the names and sizes of the parameters."""
        self.network = network
        self._names = [name for name, _ in network.named_parameters()]
        self._parameters = list(network.parameters())
        self._sizes = [parameter.numel() for parameter in self._parameters]

    def __len__(self) -> int:
        """Return the number of parameters."""
        return sum(self._sizes)

    def vector(self) -> Float[Tensor, "p"]:
        """Return a copy of the present parameters."""
        flat = [parameter.detach().reshape(-1) for parameter in self._parameters]
        return torch.cat(flat)

    def matrices(self) -> Float[Tensor, "p"]:
        """Return 1 for entries of parameters with more than one axis, 0 for others."""
        return torch.cat(
            [
                torch.full_like(parameter.detach(), parameter.ndim > 1).reshape(-1)
                for parameter in self._parameters
            ]
        )

    def attach(
        self, vector: Float[Tensor, "p"], gradient: Float[Tensor, "p"] | None = None
    ) -> nn.Module:
        """Make the parameters views of a vector, and return the network.

        Args:
            vector: the values, which are shared and not copied.
            gradient: the vector in which backward passes accumulate gradients; without
                it the parameters are constants.
        """
        pieces = torch.split(vector, self._sizes)
        gradients = None if gradient is None else torch.split(gradient, self._sizes)
        for index, parameter in enumerate(self._parameters):
            parameter.data = pieces[index].view_as(parameter)
            parameter.requires_grad_(gradients is not None)
            grad = gradients[index].view_as(parameter) if gradients else None
            parameter.grad = grad
        return self.network

    def views(self, vectors: Float[Tensor, "k p"]) -> dict[str, Tensor]:
        """Return the parameters of ``k`` networks by name, with ``k`` as first axis."""
        pieces = zip(
            self._names,
            self._parameters,
            torch.split(vectors, self._sizes, dim=1),
            strict=True,
        )
        return {
            name: piece.reshape(-1, *parameter.shape)
            for name, parameter, piece in pieces
        }


class Stacked(NamedTuple):
    """The losses, logits and gradients of k networks."""

    losses: Float[Tensor, "k"]
    logits: Float[Tensor, "k n classes"]
    gradient: Float[Tensor, "k p"]


class NetworkStack:
    """Several networks of one design, whose losses and gradients one pass computes.

    At the usual batch sizes, one network leaves most of a GPU idle, so that a few
    networks take little longer than one. On a CPU, running one network after another is
    as fast.

    Args:
        flat: the design, which must not have batch statistics; its parameters are not
            used, and its buffers are constants.
    """

    def __init__(self, flat: FlatNetwork) -> None:
        """Copy the design without its parameters."""
        self.flat = flat
        self.skeleton = copy.deepcopy(flat.network).to("meta")
        self.constants = dict(flat.network.named_buffers())
        self.logits: Callable[[Tensor, Tensor], Tensor] = self._logits

    def compile(self, run: Decider, flops: float) -> None:
        """Compile the forward pass if that saves time; see ``Run.compiled``."""
        self.logits = run.compiled(self._logits, flops)

    def __call__(
        self,
        vectors: Float[Tensor, "k p"],
        images: Float[Tensor, "k n c h w"],
        labels: Shaped[Tensor, "k n *classes"],
    ) -> Stacked:
        """Return losses, logits and gradients under the cross-entropy.

        Args:
            vectors: the parameters, one row per network.
            images: normalised images, one batch per network.
            labels: class indices, or rows that sum to 1.
        """
        return self.under(F.cross_entropy, vectors, images, labels)

    def under(
        self,
        loss: Callable[[Tensor, Any], Tensor],
        vectors: Float[Tensor, "k p"],
        images: Float[Tensor, "k n c h w"],
        targets: Any,
    ) -> Stacked:
        """Return losses, logits and gradients under any loss.

        Args:
            loss: returns the loss of one network for its logits and targets.
            vectors: the parameters, one row per network.
            images: normalised images, one batch per network.
            targets: a tensor or a tuple of tensors, each with one row per network.
        """
        vectors = vectors.detach().requires_grad_()
        logits = self.logits(vectors, images)
        losses = vmap(loss)(logits, targets)
        (gradient,) = torch.autograd.grad(losses.sum(), vectors)
        return Stacked(losses.detach(), logits.detach(), gradient)

    def _logits(self, vectors: Tensor, images: Tensor) -> Tensor:
        def logits_of(parameters: dict[str, Tensor], batch: Tensor) -> Tensor:
            tensors = {**parameters, **self.constants}
            logits: Tensor = functional_call(self.skeleton, tensors, (batch,))
            return logits

        return vmap(logits_of)(self.flat.views(vectors), images)


Scalar = int | float | Float64[Tensor, ""]
"""A number, or a tensor where a CUDA graph must not record its value."""
