"""IDM: improved distribution matching (Zhao et al., CVPR 2023).

DM's loss with three additions: each image holds four smaller ones (partition and
expansion), features come from a queue of networks that are being trained, and the
cross-entropy of the synthetic images is added, weighted by the accuracy of the network:

    || mean f(A(R)) - mean f(A(S)) ||^2 + ce_weight * accuracy * CE(f(A(S)), class).

Departures (what | published code | here):
    - those of ``dm``
    - optimiser | steps the whole tensor once per class; momentum keeps moving the other
      classes | one update for all classes with the exact closed form of that loop
      (``update = "sequential"`` is the loop)
    - accuracy in the weight of the cross-entropy | percent, reset at each evaluation |
      the same, as settings: ``accuracy_unit``, ``meter_reset_interval``; evaluations on
      the way change nothing
    - mini-batches of the queue | drawn without replacement | drawn with replacement
    - Tiny-ImageNet: start | quadrants are the four pieces of one image (an inverted
      test, mended in BACON) | four different images, as everywhere else
"""

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.objectives import SquaredMeanDistance


class IDM(Method):
    """Matches class means in the features of a queue of networks."""

    Settings = ImprovedMatchingSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Update the images ``steps`` times."""
        learner = ImprovedMatching(run, self.settings, SquaredMeanDistance())
        for step in run.steps("match", self.settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
