"""The learning rate as a function of the index of the epoch, from 0.

With E epochs, index e, base rate r and smoothing zeta, the schedules are:

* ``drop``: the published loop of ``dc``, whose last index is its number of epochs, so
  that E is one more. After the epoch of index ``(E - 1) // 2 + 1`` the rate falls once
  and a new optimiser is built, so that the momentum is lost.
* ``cosine``: ``r (1 + cos(pi e / (zeta E))) / 2``. With zeta 1 the rate falls to zero
  (SRe2L, G-VBSM); with zeta 2 it ends at r / 2 (RDED; EDC's smoothing schedule,
  arXiv:2404.13733). In the first ``warm_up`` epochs the rate rises linearly from
  r / 100, and E is the number of epochs that are left (SRe2L on Tiny ImageNet).
* ``ssrs``: the same up to 5E/6, where the rate falls to a sixth. From there it falls
  linearly to zero (EDC's code, option ``cos2``).
* ``multistep``: r times ``drop`` for each milestone reached (EDC on CIFAR-10).
"""

from math import cos, pi

from dcbench_bacon.protocol import Protocol

# The share of the rate at the start of the warm-up, as in torchvision's reference
# training, which SRe2L runs.
WARM_UP_START = 0.01
SUDDEN = 5 / 6  # the share of the epochs before the fall of ``ssrs``


def learning_rate(protocol: Protocol, index: int) -> float:
    """Return the learning rate of the epoch of an index."""
    factors = {
        "drop": _drop,
        "cosine": _cosine,
        "ssrs": _ssrs,
        "multistep": _multistep,
    }
    return protocol.learning_rate * factors[protocol.schedule](protocol, index)


def restarts(protocol: Protocol, index: int) -> bool:
    """Return whether the optimiser loses its momentum before this epoch."""
    return index > 0 and index == last_restart(protocol, index)


def last_restart(protocol: Protocol, index: int) -> int:
    """Return the index of the last epoch so far before which the optimiser was new."""
    first = dropped(protocol.epochs)
    return first if protocol.schedule == "drop" and index >= first else 0


def dropped(epochs: int) -> int:
    """Return the index of the first epoch at the lower rate of ``drop``."""
    return (epochs - 1) // 2 + 2


def _drop(protocol: Protocol, index: int) -> float:
    return protocol.drop if index >= dropped(protocol.epochs) else 1.0


def cosine(index: int, epochs: int, warm_up: int = 0, smoothing: float = 1.0) -> float:
    """Return the share of the rate in the epoch of an index, under ``cosine``."""
    left = index - warm_up
    if left < 0:
        return WARM_UP_START + (1 - WARM_UP_START) * index / warm_up
    return (1 + cos(pi * left / (smoothing * max(1, epochs - warm_up)))) / 2


def _cosine(protocol: Protocol, index: int) -> float:
    return cosine(index, protocol.epochs, protocol.warm_up, protocol.smoothing)


def _ssrs(protocol: Protocol, index: int) -> float:
    share = index / protocol.epochs
    smooth = (1 + cos(pi * min(share, SUDDEN) / protocol.smoothing)) / 2
    return smooth if share <= SUDDEN else smooth * (1 - share)


def _multistep(protocol: Protocol, index: int) -> float:
    reached = sum(
        index >= milestone * protocol.epochs for milestone in protocol.milestones
    )
    return protocol.drop**reached
