"""G-VBSM: many observers and statistics (Shao et al., CVPR 2024).

Observers take turns. Images match the statistics of the inputs of batch norms and
convolutions, also by patches, as moving averages whose gradients are those of the
present batch. The spectrum of each class is flattened, so that its images differ.

Departures (what | published code | here):
    - moving averages | start at zero | start at the first value, unless `compat_bugs`
    - maps smaller than a patch | enlarged to it | one cell
    - normalisation of CIFAR-10 | CIFAR-100's | its own
    - observers on Tiny ImageNet | moved by up to 8 pixels | by up to 4
"""

from typing import ClassVar

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.decoupled import RecoverySettings, recover


class GVBSM(Method):
    """Optimises images through several observers and all their layers' statistics."""

    Settings = RecoverySettings
    timed_with: ClassVar = {"observer_passes": 1}

    def distill(self, run: Run) -> SyntheticSet:
        """Train or find the observers, then recover images from them."""
        return recover(run, self.settings)
