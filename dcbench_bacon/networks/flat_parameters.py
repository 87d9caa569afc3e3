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

from dcbench_bacon.compiling import Decider


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


def _descend(
    vector: Float[Tensor, "*p"], direction: Float[Tensor, "*p"], rate: Scalar
) -> None:
    """Subtracts the rate times the direction, in place."""
    if isinstance(rate, Tensor):
        vector.sub_(direction * rate)
    else:
        vector.sub_(direction, alpha=rate)


class FlatSGD:
    """SGD with momentum and weight decay on a vector, as ``torch.optim.SGD`` does it.

    Args:
        learning_rate: step size.
        momentum: share of the last update that is kept.
        weight_decay: added to the gradient, times the parameters; a number, or one
            for each parameter.
    """

    def __init__(
        self,
        learning_rate: Scalar,
        momentum: float,
        weight_decay: float | Float[Tensor, "p"],
    ) -> None:
        """Keeps the constants."""
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay

    def step(
        self,
        vector: Float[Tensor, "*p"],
        velocity: Float[Tensor, "*p"],
        gradient: Float[Tensor, "*p"],
    ) -> None:
        """Updates ``vector`` and ``velocity`` in place; ``gradient`` is used up.

        A velocity of zeros is a fresh optimiser: PyTorch's first step, which copies
        the gradient, gives the same.
        """
        if isinstance(self.weight_decay, Tensor):
            gradient.addcmul_(vector, self.weight_decay)
        else:
            gradient.add_(vector, alpha=self.weight_decay)
        velocity.mul_(self.momentum).add_(gradient)
        _descend(vector, velocity, self.learning_rate)


class FlatAdamW:
    """AdamW on a vector, as ``torch.optim.AdamW`` does it.

    Args:
        learning_rate: step size.
        weight_decay: shrinks the parameters by itself times the learning rate, apart
            from the gradient; a number, or one for each parameter.
        taken: steps since the moments were zero; a tensor where it must not be frozen.
    """

    BETAS = (0.9, 0.999)
    EPSILON = 1e-8

    def __init__(
        self,
        learning_rate: Scalar,
        weight_decay: float | Float[Tensor, "p"],
        taken: Scalar = 0,
    ) -> None:
        """Keeps the constants."""
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.taken = taken

    def step(
        self,
        vector: Float[Tensor, "*k p"],
        moments: Float[Tensor, "*k q"],
        gradient: Float[Tensor, "*k p"],
    ) -> None:
        """Updates ``vector`` and ``moments`` in place.

        Args:
            vector: the parameters.
            moments: the means of gradients, then those of their squares: ``q = 2p``.
            gradient: of the loss.
        """
        self.taken = self.taken + 1
        first, second = moments.tensor_split(2, dim=-1)
        momentum, memory = self.BETAS
        vector.mul_(1 - self.learning_rate * self.weight_decay)
        first.lerp_(gradient, 1 - momentum)
        second.mul_(memory).addcmul_(gradient, gradient, value=1 - memory)
        scale = (second.sqrt() / (1 - memory**self.taken) ** 0.5).add_(self.EPSILON)
        rate = self.learning_rate / (1 - momentum**self.taken)
        _descend(vector, first / scale, rate)
