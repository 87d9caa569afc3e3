"""IDM: improved distribution matching (Zhao et al., CVPR 2023).

DM's loss with three additions: each image holds four smaller ones (partition and
expansion), features come from a queue of networks that are being trained, and the
cross-entropy of the synthetic images is added, weighted by the accuracy of the network:

    || mean f(A(R)) - mean f(A(S)) ||^2 + ce_weight * accuracy * CE(f(A(S)), class).

As released, the accuracy is in percent and starts anew whenever the published code
evaluates; both are settings. The published loop steps the optimiser once a class on a
tensor that all classes share; ``ImageSGD`` gives the closed form of that.

Departure: a class with fewer than ``batch_real`` images fills its batch by taking its
images again.
"""

from dcbench_bacon.objectives import SquaredMeanDistance
from dcbench_bacon.pipelines import ImprovedMatching, ImprovedMatchingSettings
from dcbench_bacon.spec import Method, Run, SyntheticSet


class IDM(Method):
    """Matches class means in the features of a queue of networks."""

    Settings = ImprovedMatchingSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Updates the images ``steps`` times."""
        learner = ImprovedMatching(run, self.settings, SquaredMeanDistance())
        for step in run.steps("match", self.settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
