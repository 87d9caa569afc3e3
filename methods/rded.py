"""RDED: realistic crops of real images, joined (Sun et al., CVPR 2024).

An observer judges random crops of some images of each class. The crop with the lowest
cross-entropy of each image counts, and the best of these make the synthetic images.
Nothing is optimised. Labels are those of the protocol ``rded``, or stored.

Departures (what | published code | here):
    - observer | its training is not published | trained as SRe2L's for CIFAR-100
    - normalisation | ImageNet's mean and deviation for every data set | each data set's
    - small classes | not met | an image of a class with fewer candidates counts once
"""

from typing import ClassVar

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.decoupled import CropSettings, select_crops


class RDED(Method):
    """Chooses the crops of real images that an observer finds most realistic."""

    Settings = CropSettings
    timed_with: ClassVar = {"observer_passes": 1}

    def distill(self, run: Run) -> SyntheticSet:
        """Train or find the observer, then choose and join crops."""
        return select_crops(run, self.settings)
