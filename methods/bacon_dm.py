"""BACON+DM: BACON's loss in DM's pipeline, the algorithm without IDM's parts.

Each step has a fresh random network and whole images; there is no cross-entropy. No
number of this variant has been published.

Departures (what | published code | here):
    - those of ``dm``, and of the terms of ``bacon``
    - combination | not published | BACON's loss in DM's pipeline
"""

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.pipeline import MatchingSettings

from .bacon import objective, with_options

NAME = "bacon+dm"


class BaconDM(Method):
    """BACON's terms in the features of random networks."""

    Settings = with_options("BaconDMSettings", MatchingSettings)

    def distill(self, run: Run) -> SyntheticSet:
        """Update the images ``steps`` times."""
        loss = objective(run, self.settings)
        learner = DistributionMatching(run, self.settings, loss)
        for step in run.steps("match", self.settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
