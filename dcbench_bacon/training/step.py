"""A step of training: the gradient of one network on a batch, then its optimiser.

Several networks in one pass have their gradients from
``networks.flat_parameters.NetworkStack``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.training.optimisers import FlatAdamW, FlatSGD


class StepOutcome(NamedTuple):
    """The outcome of a network on a batch before its update.

    Attributes:
        loss: mean over the batch.
        pieces: logits of the pieces in which the batch went through the network.
    """

    loss: Float[Tensor, ""]
    pieces: Sequence[Float[Tensor, "_ classes"]]

    @property
    def logits(self) -> Float[Tensor, "n classes"]:
        """The logits of the whole batch; a copy where it came in several pieces."""
        return self.pieces[0] if len(self.pieces) == 1 else torch.cat([*self.pieces])


class TrainingStep:
    """Steps of a network whose parameters lie in a vector.

    The vector is attached apart from the step, because most callers train the same
    vector in every step, and attaching visits every parameter on the host.

    Args:
        flat: the network; its mode (training or evaluation) is the caller's.
        criterion: mean loss over a batch, of logits and targets.
        most: images in one pass; larger batches are taken in pieces, whose gradients
            add up. None takes every batch whole, as batch statistics need it.
    """

    def __init__(
        self,
        flat: FlatNetwork,
        criterion: Callable[[Tensor, Any], Tensor] = F.cross_entropy,
        most: int | None = None,
    ) -> None:
        """Make room for the gradient; attach nothing yet."""
        self.flat = flat
        self.criterion = criterion
        self.most = most
        self.vector: Tensor
        self.gradient = torch.zeros_like(flat.vector())

    def attach(self, vector: Float[Tensor, "p"]) -> None:
        """Make ``vector`` the parameters that the next steps train, in place."""
        self.vector = vector
        self.flat.attach(vector, self.gradient)

    def __call__(
        self,
        optimiser: FlatSGD | FlatAdamW,
        state: Tensor,
        images: Float[Tensor, "n c h w"],
        targets: Any,
    ) -> StepOutcome:
        """Update the attached vector and the optimiser's state on one batch.

        Args:
            optimiser: of flat vectors.
            state: what the optimiser remembers of this network, such as a velocity.
            images: normalised and augmented.
            targets: a tensor or a named tuple of tensors, each with a row per image.
        """
        self.gradient.zero_()
        outcome = self._descend(images, targets)
        optimiser.step(self.vector, state, self.gradient)
        return outcome

    def _descend(self, images: Tensor, targets: Any) -> StepOutcome:
        """Add the gradient of a batch to ``gradient``."""
        if self.most is None or len(images) <= self.most:
            return self._backward(images, targets)
        total = torch.zeros((), device=images.device)
        logits: list[Tensor] = []
        for piece, wanted in zip(
            torch.split(images, self.most), _split(targets, self.most), strict=True
        ):
            # Images are independent, so that the mean is one over pieces, by size.
            outcome = self._backward(piece, wanted, len(piece) / len(images))
            total += outcome.loss
            logits.extend(outcome.pieces)
        return StepOutcome(total, logits)

    def _backward(
        self, images: Tensor, targets: Any, share: float | None = None
    ) -> StepOutcome:
        """Add the gradient of a piece, which is a share of its batch or all of it."""
        logits = self.flat.network(images)
        loss = self.criterion(logits, targets)
        if share is not None:
            loss = share * loss
        torch.autograd.backward(loss)
        return StepOutcome(loss.detach(), [logits.detach()])


def _split(targets: Any, most: int) -> Sequence[Any]:
    """Return targets in pieces of at most so many rows, of their own type."""
    if isinstance(targets, Tensor):
        return torch.split(targets, most)
    columns = [torch.split(column, most) for column in targets]
    return [type(targets)(*piece) for piece in zip(*columns, strict=True)]
