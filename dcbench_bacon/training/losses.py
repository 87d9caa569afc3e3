"""Losses of evaluation: what a network learns from hard, soft and teachers' labels.

Labels are either rows of probabilities, as stored in a set, or a teacher's logits. The
logarithm of a stored row serves as teacher's logits: a softmax gives back the row, so
that ``ce`` and ``kl`` do not see the constant that is lost. At a temperature T the row
becomes its entries' powers of 1/T, and a hard label stays hard. ``mse`` does see the
constant; there a stored row's logits are those of mean zero.

Formulas for logits s, teacher's logits t and labels p (softmax of t):

* ``ce``: cross-entropy of p and softmax(s).
* ``kl``: KL(softmax(t / T) || softmax(s / T)), mean over the batch; times T squared
  only if the protocol says so (SRe2L on Tiny ImageNet does; SRe2L, RDED do not).
* ``mse``: (s - t) squared, mean over batch and classes (G-VBSM, EDC).

``original_weight`` times the cross-entropy with the labels before mixing may be added
to each; G-VBSM and EDC do, and call the weight gamma.
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
    """What a batch is to be classified as.

    Attributes:
        labels: probabilities, or a teacher's logits; of the images as mixed.
        original: probabilities, of the images before mixing.
    """

    labels: Float[Tensor, "*b n k"]
    original: Float[Tensor, "*b n k"]


def divergence(logits: Logits, teacher: Logits, temperature: float) -> Scalar:
    """KL of softened outputs from softened labels, mean over the batch.

    Args:
        logits: of the network.
        teacher: logits; minus infinity is a class of no probability.
        temperature: divides both.
    """
    labels = (teacher / temperature).softmax(1)
    # Not F.kl_div, which vmap would run network by network.
    entropy = -torch.xlogy(labels, labels).sum(1).mean()
    return F.cross_entropy(logits / temperature, labels) - entropy


class Criterion:
    """The loss of a protocol.

    Args:
        protocol: names the loss and its constants.
    """

    def __init__(self, protocol: Protocol) -> None:
        """Keeps the constants."""
        self.protocol = protocol

    def __call__(self, logits: Logits, targets: Targets) -> Scalar:
        """The loss of one network on one batch."""
        loss = self._match(logits, targets.labels)
        if weight := self.protocol.original_weight:
            loss = loss + weight * F.cross_entropy(logits, targets.original)
        return loss

    def check(self, labels: Float[Tensor, "n k"]) -> None:
        """Makes sure that stored labels can be learnt from.

        Raises:
            UsageError: they have no logits, and ``mse`` needs them.
        """
        stored = not self.protocol.teachers
        if stored and self.protocol.loss == "mse" and bool((labels <= 0).any()):
            raise UsageError(
                f"protocol {self.protocol.name!r}: loss mse matches logits, which hard "
                "labels do not have; name networks that label the images with "
                "--set protocol.teachers=[...], or choose --set protocol.loss=kl"
            )

    def _match(self, logits: Logits, labels: Logits) -> Scalar:
        """The term that compares the network with the labels."""
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
