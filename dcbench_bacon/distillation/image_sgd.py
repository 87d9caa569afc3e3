"""The optimiser of images, with the class loop's momentum."""

import torch
from torch import Tensor


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
