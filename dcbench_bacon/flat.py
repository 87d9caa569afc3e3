"""Networks whose parameters are views of one vector.

A vector is what a queue of networks stores a row each, what SGD updates in three
operations whatever the number of layers, and what a checkpoint saves.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FlatNetwork:
    """A network that takes its parameters from a vector.

    Args:
        network: its parameters are replaced by views; it must have no buffers that
            training changes.
    """

    def __init__(self, network: nn.Module) -> None:
        """Measures the parameters."""
        self.network = network
        self._parameters = list(network.parameters())
        self._sizes = [parameter.numel() for parameter in self._parameters]

    def __len__(self) -> int:
        """The number of parameters."""
        return sum(self._sizes)

    def vector(self) -> Float[Tensor, "p"]:
        """A copy of the parameters as they stand."""
        flat = [parameter.detach().reshape(-1) for parameter in self._parameters]
        return torch.cat(flat)

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


class FlatSGD:
    """SGD with momentum and weight decay on a vector, as ``torch.optim.SGD`` does it.

    Args:
        learning_rate: step size.
        momentum: share of the last update that is kept.
        weight_decay: added to the gradient, times the parameters.
    """

    def __init__(
        self, learning_rate: float, momentum: float, weight_decay: float
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
        gradient.add_(vector, alpha=self.weight_decay)
        velocity.mul_(self.momentum).add_(gradient)
        vector.sub_(velocity, alpha=self.learning_rate)
