"""Optimisers of flat parameter vectors."""

from jaxtyping import Float
from torch import Tensor

from dcbench_bacon.networks.flat_parameters import Scalar


def _descend(
    vector: Float[Tensor, "*p"], direction: Float[Tensor, "*p"], rate: Scalar
) -> None:
    """Subtract the rate times the direction, in place."""
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
        """Keep the constants."""
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay

    def step(
        self,
        vector: Float[Tensor, "*p"],
        velocity: Float[Tensor, "*p"],
        gradient: Float[Tensor, "*p"],
    ) -> None:
        """Update ``vector`` and ``velocity`` in place; ``gradient`` is used up.

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
        steps_taken: Scalar = 0,
    ) -> None:
        """Keep the constants."""
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.steps_taken = steps_taken

    def step(
        self,
        vector: Float[Tensor, "*k p"],
        moments: Float[Tensor, "*k q"],
        gradient: Float[Tensor, "*k p"],
    ) -> None:
        """Update ``vector`` and ``moments`` in place.

        Args:
            vector: the parameters.
            moments: the means of gradients, then those of their squares: ``q = 2p``.
            gradient: of the loss.
        """
        self.steps_taken = self.steps_taken + 1
        first, second = moments.tensor_split(2, dim=-1)
        momentum, memory = self.BETAS
        vector.mul_(1 - self.learning_rate * self.weight_decay)
        first.lerp_(gradient, 1 - momentum)
        second.mul_(memory).addcmul_(gradient, gradient, value=1 - memory)
        scale = (second.sqrt() / (1 - memory**self.steps_taken) ** 0.5).add_(
            self.EPSILON
        )
        rate = self.learning_rate / (1 - momentum**self.steps_taken)
        _descend(vector, first / scale, rate)
