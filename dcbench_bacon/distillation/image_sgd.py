"""SGD on synthetic images, with the momentum of a loop over classes."""

import torch
from torch import Tensor


class ImageSGD:
    """SGD on the synthetic images, whose classes may be visited in turn.

    IDM and BACON step the optimiser once per class, on a tensor that all classes share:
    between two visits of a class, momentum alone moves its images for as many steps as
    there are classes (``visits``). With v the velocity just after a visit, these steps
    move the images by lr (1 - mu^visits) / (1 - mu) v and leave the velocity
    mu^visits v. One update therefore serves all classes and is exact at every visit.

    Args:
        like: the images, of shape (classes, images per class, ...).
        learning_rate: learning rate of the published loop.
        momentum: momentum of the published loop, in [0, 1).
        visits: optimiser steps between two visits of a class; 1 for plain SGD.
    """

    def __init__(
        self, like: Tensor, learning_rate: float, momentum: float, visits: int
    ) -> None:
        """Start with a velocity of zero."""
        self.momentum = momentum
        self.learning_rate = learning_rate
        self.visits = visits
        self.velocity = torch.zeros_like(like)

    def step(self, images: Tensor, gradient: Tensor) -> None:
        """Update the images in place, to their values at the next visit."""
        decay = self.momentum**self.visits
        rate = self.learning_rate * (1 - decay) / (1 - self.momentum)
        self.velocity.mul_(decay).add_(gradient)
        images.sub_(self.velocity, alpha=rate)

    def snapshot(self, images: Tensor) -> Tensor:
        """Return the images as the published loop leaves them at a step's end.

        Class c has then moved for ``visits - c`` steps only; momentum makes up the
        difference before the next visit.
        """
        if self.visits == 1:
            return images.clone()
        order = torch.arange(self.visits, device=images.device, dtype=images.dtype)
        left = self.momentum ** (self.visits - order) - self.momentum**self.visits
        left = left.view(-1, *[1] * (images.ndim - 1))
        scale = self.learning_rate / (1 - self.momentum)
        return images + scale * left * self.velocity
