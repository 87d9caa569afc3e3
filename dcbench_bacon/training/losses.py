"""The losses of evaluation for hard, soft and teachers' labels.

Labels are either rows of probabilities, as stored in a set, or a teacher's logits. The
logarithm of a stored row is used as a teacher's logits, which are known up to a
constant. The softmax does not depend on the constant, so ``ce`` and ``kl`` do not
either. At a temperature T, the entries of the row are raised to the power 1/T, and a
hard label stays hard. ``mse`` depends on the constant, which is chosen so that the
logits of a stored row have mean zero.

The formulas for logits s, teacher's logits t and labels p (softmax of t) are:

* ``ce``: the cross-entropy of p and softmax(s).
* ``kl``: KL(softmax(t / T) || softmax(s / T)), mean over the batch; times T squared if
  ``temperature_squared`` is set (SRe2L on Tiny ImageNet; not SRe2L elsewhere or RDED).
* ``mse``: (s - t) squared, mean over batch and classes (G-VBSM, EDC).

``original_weight`` times the cross-entropy with the labels before mixing is added to
each. G-VBSM and EDC use it and call the weight gamma.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.errors import UsageError
from dcbench_bacon.protocol import Protocol

Logits = Float[Tensor, "n k"]
Scalar = Float[Tensor, ""]


class Targets(NamedTuple):
    """The labels of a batch.

    Attributes:
        labels: the probabilities, or a teacher's logits, of the images after mixing.
        original: the probabilities of the images before mixing.
    """

    labels: Float[Tensor, "*b n k"]
    original: Float[Tensor, "*b n k"]


def divergence(logits: Logits, teacher: Logits, temperature: float) -> Scalar:
    """Return the KL divergence from softened labels, as the mean over the batch.

    Args:
        logits: the logits of the network.
        teacher: the logits of the labels; minus infinity means probability 0.
        temperature: the number that divides both, above 0.
    """
    labels = (teacher / temperature).softmax(1)
    # This is not F.kl_div, because vmap would run that network by network.
    entropy = -torch.xlogy(labels, labels).sum(1).mean()
    return F.cross_entropy(logits / temperature, labels) - entropy


class Criterion:
    """The loss of a protocol.

    Args:
        protocol: the protocol, which names the loss and its constants.
    """

    def __init__(self, protocol: Protocol) -> None:
        """Keep the protocol."""
        self.protocol = protocol

    def __call__(self, logits: Logits, targets: Targets) -> Scalar:
        """Return the loss of one network on one batch."""
        loss = self._match(logits, targets.labels)
        if weight := self.protocol.original_weight:
            loss = loss + weight * F.cross_entropy(logits, targets.original)
        return loss

    def check(self, labels: Float[Tensor, "n k"]) -> None:
        """Make sure that the loss can be computed for stored labels.

        Raises:
            UsageError: the loss is ``mse``, which needs logits, and a label has none.
        """
        stored = not self.protocol.teachers
        if stored and self.protocol.loss == "mse" and bool((labels <= 0).any()):
            raise UsageError(
                f"protocol {self.protocol.name!r}: loss mse matches logits, which hard "
                "labels do not have; name networks that label the images with "
                "--set protocol.teachers=[...], or choose --set protocol.loss=kl"
            )

    def _match(self, logits: Logits, labels: Logits) -> Scalar:
        """Return the term that compares the network with the labels."""
        protocol = self.protocol
        online = bool(protocol.teachers)
        if protocol.loss == "ce":
            return F.cross_entropy(logits, labels.softmax(1) if online else labels)
        teacher = labels if online else labels.log()
        if protocol.loss == "mse":
            if not online:
                teacher = teacher - teacher.mean(1, keepdim=True)
            return F.mse_loss(logits, teacher)
        loss = divergence(logits, teacher, protocol.temperature)
        return loss * protocol.temperature**2 if protocol.temperature_squared else loss
