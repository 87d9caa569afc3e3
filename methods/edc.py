"""EDC: G-VBSM from real images, matched by class (Shao et al., NeurIPS 2024).

Images start as real ones, which shortens their optimisation. Statistics are matched
for all classes and, with half the weight, by class. The observers' predictions for the
images shall agree with those for a moving average of the images, so that the minimum is
flat. There is neither densification nor a roll.

Departures (what | published code | here):
    - flatness | off, KL(average, images), mean over elements | on as in the paper,
      KL(images, average), mean over images
    - class targets | means and variances of patches exchanged | not exchanged, unless
      `compat_bugs`
    - moving averages | start at zero | start at the first value, unless `compat_bugs`
    - category matching by printed equation | not in the code | `category="per_class"`
    - images to start from | mirrored or not | as they are
    - normalisation of CIFAR-10 | CIFAR-100's | its own
"""

from typing import ClassVar

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.decoupled import RecoverySettings, recover


class EDC(Method):
    """Optimises real images through several observers, also class by class."""

    Settings = RecoverySettings
    timed_with: ClassVar = {"observer_passes": 1}

    def distill(self, run: Run) -> SyntheticSet:
        """Train or find the observers, then recover images from them."""
        return recover(run, self.settings)
