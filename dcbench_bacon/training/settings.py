"""How a network is trained on real images, whoever asks for it."""

from typing import Literal

from msgspec import Struct, field

from dcbench_bacon.field_types import Precision
from dcbench_bacon.training.optimisers import FlatSGD
from dcbench_bacon.training.schedules import cosine, dropped


class Training(Struct, frozen=True, kw_only=True):
    """How a network is trained on real images by SGD.

    Its encoded form names stores of experts: a field that changes their key makes
    everybody's experts train again.

    Attributes:
        architecture: as ``networks.build`` takes it.
        epochs: the passes over the train split; 0 where the steps are drawn one by one
            and no pass ends, as those of a queue of networks. Files call this field
            ``passes``.
        learning_rate: of SGD, before any drop.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: images per step; the last batch of an epoch may be smaller.
        augmentation: DSA operations joined by ``_``, or the name of a policy; its
            parameters are drawn for every image; empty for none.
        precision: of the network's arithmetic.
    """

    architecture: str
    epochs: int = field(default=0, name="passes")
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    augmentation: str = ""
    precision: Precision = "tf32"

    def optimiser(self, factor: float = 1.0) -> FlatSGD:
        """Return the optimiser, at ``factor`` times the learning rate."""
        rate = factor * self.learning_rate
        return FlatSGD(rate, self.momentum, self.weight_decay)

    def factor(self, epoch: int) -> float:
        """Return the share of the learning rate in the epoch of an index."""
        return 0.1 if epoch >= dropped(self.epochs) else 1.0

    def restarts(self, epoch: int) -> bool:
        """Return whether the momentum starts anew before the epoch of an index."""
        return epoch == dropped(self.epochs)


class SmoothTraining(Training, frozen=True, kw_only=True):
    """How a network is trained at a learning rate that falls smoothly or not at all.

    Attributes:
        schedule: ``cosine`` falls to zero; ``constant`` does not fall.
        warm_up: the number of epochs before ``cosine`` in which the rate rises linearly
            from a hundredth.
    """

    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up: int = 0

    def factor(self, epoch: int) -> float:
        """Return the share of the learning rate in the epoch of an index."""
        if self.schedule == "constant":
            return 1.0
        return cosine(epoch, self.epochs, self.warm_up)

    def restarts(self, epoch: int) -> bool:
        """Return False: the momentum is never lost."""
        return False
