"""CDA: SRe2L with a curriculum of crops (Yin & Shen, TMLR 2024).

The views of a step cover the whole image at first and smaller and smaller parts later,
as a cosine of the share of the steps that are done. All else is as in SRe2L.

Departures (what | published code | here):
    - data sets | Tiny ImageNet and ImageNet | the other small ones with SRe2L's
      settings for CIFAR-100
    - all else | | those of `sre2l`
"""

from typing import ClassVar

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.decoupled import RecoverySettings, recover


class CDA(Method):
    """Optimises images through one observer, from the whole to the parts."""

    Settings = RecoverySettings
    timed_with: ClassVar = {"observer_passes": 1}

    def distill(self, run: Run) -> SyntheticSet:
        """Train or find the observer, then recover images from it."""
        return recover(run, self.settings)
