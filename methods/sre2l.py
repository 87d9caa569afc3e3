"""SRe2L: squeeze, recover, relabel (Yin et al., NeurIPS 2023).

One observer is trained on the real images. Images start as noise and descend on the
observer's cross-entropy plus the distance of the statistics of its batch norms' inputs
from the running ones. Labels are those of the protocol ``sre2l``, or stored.

Departures (what | published code | here):
    - data sets | CIFAR-100, Tiny ImageNet, ImageNet | CIFAR-100's settings for
      the other small ones
    - stored images | rounded down to bytes, as JPEG | floats
    - crops | resized as the installed torchvision does it | antialiased
"""

from typing import ClassVar

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.decoupled import RecoverySettings, recover


class SRe2L(Method):
    """Optimises images through one observer's labels and batch norms."""

    Settings = RecoverySettings
    timed_with: ClassVar = {"observer_passes": 1}

    def distill(self, run: Run) -> SyntheticSet:
        """Train or find the observer, then recover images from it."""
        return recover(run, self.settings)
