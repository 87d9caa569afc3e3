"""BACON+IDM: IDM's pipeline and loss, with BACON's terms added.

The plug-in reading of BACON (arXiv:2406.01112): where ``bacon`` replaces IDM's squared
distance of means, this keeps it and adds the three terms.

Departures (what | published code | here):
    - those of ``bacon``
    - combination | not published | IDM's loss plus BACON's terms
"""

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.improved import ImprovedMatching
from dcbench_bacon.distillation.objectives import SquaredMeanDistance, Sum

from .bacon import BACON, objective

NAME = "bacon+idm"


class BaconIDM(Method):
    """IDM's loss plus BACON's."""

    Settings = BACON.Settings

    def distill(self, run: Run) -> SyntheticSet:
        """Update the images ``steps`` times."""
        both = Sum(SquaredMeanDistance(), objective(run, self.settings))
        learner = ImprovedMatching(run, self.settings, both)
        for step in run.steps("match", self.settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
