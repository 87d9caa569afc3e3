"""Networks whose parameters are views of one vector.

A vector is what a queue of networks stores a row each, what SGD updates in three
operations whatever the number of layers, and what a checkpoint saves.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from dcbench_bacon.runtime.compilation import Decider


class FlatNetwork:
    """A network that takes its parameters from a vector.

    Args:
        network: its parameters are replaced by views; it must have no buffers that
            training changes.
    """

    def __init__(self, network: nn.Module) -> None:
        """Measures the parameters."""
        self.network = network
        self._names = [name for name, _ in network.named_parameters()]
        self._parameters = list(network.parameters())
        self._sizes = [parameter.numel() for parameter in self._parameters]

    def __len__(self) -> int:
        """The number of parameters."""
        return sum(self._sizes)

    def vector(self) -> Float[Tensor, "p"]:
        """A copy of the parameters as they stand."""
        flat = [parameter.detach().reshape(-1) for parameter in self._parameters]
        return torch.cat(flat)

    def matrices(self) -> Float[Tensor, "p"]:
        """1 for entries of parameters of more than one dimension, 0 for the others."""
        return torch.cat(
            [
                torch.full_like(each.detach(), each.ndim > 1).reshape(-1)
                for each in self._parameters
            ]
        )

    def attach(
        self, vector: Float[Tensor, "p"], gradient: Float[Tensor, "p"] | None = None
    ) -> nn.Module:
        """Makes the parameters views of ``vector``.

        Args:
            vector: shared, not copied.
            gradient: where backward passes accumulate; without it the parameters
                are constants.

        Returns:
            The network.
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
        """The parameters of ``k`` networks by name, each with ``k`` in front."""
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
    """What ``NetworkStack`` returns for k networks."""

    losses: Float[Tensor, "k"]
    logits: Float[Tensor, "k n classes"]
    gradient: Float[Tensor, "k p"]


class NetworkStack:
    """Cross-entropies and gradients of several networks of one design, in one pass.

    A network on a GPU leaves most of it idle at the batches of the field, so a few of
    them take little longer than one. On a CPU one after another is as fast.

    Args:
        flat: the design, which must have no buffers; its parameters are not used.
    """

    def __init__(self, flat: FlatNetwork) -> None:
        """Copies the design without its parameters."""
        self.flat = flat
        self.skeleton = copy.deepcopy(flat.network).to("meta")
        self.logits: Callable[[Tensor, Tensor], Tensor] = self._logits

    def compile(self, run: Decider, flops: float) -> None:
        """Compiles the forward pass if that pays; see ``Run.compiled``."""
        self.logits = run.compiled(self._logits, flops)

    def __call__(
        self,
        vectors: Float[Tensor, "k p"],
        images: Float[Tensor, "k n c h w"],
        labels: Shaped[Tensor, "k n *classes"],
    ) -> Stacked:
        """Forward and backward under the cross-entropy.

        Args:
            vectors: parameters, a row each.
            images: a batch each.
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
        """Forward and backward under any loss.

        Args:
            loss: of one network's logits and targets.
            vectors: parameters, a row each.
            images: a batch each.
            targets: a tensor or a tuple of them, each with a row for every network.
        """
        vectors = vectors.detach().requires_grad_()
        logits = self.logits(vectors, images)
        losses = vmap(loss)(logits, targets)
        (gradient,) = torch.autograd.grad(losses.sum(), vectors)
        return Stacked(losses.detach(), logits.detach(), gradient)

    def _logits(self, vectors: Tensor, images: Tensor) -> Tensor:
        def logits_of(parameters: dict[str, Tensor], batch: Tensor) -> Tensor:
            logits: Tensor = functional_call(self.skeleton, parameters, (batch,))
            return logits

        return vmap(logits_of)(self.flat.views(vectors), images)


Scalar = int | float | Float64[Tensor, ""]
"""A number, or a tensor where it must not be frozen in a graph."""
