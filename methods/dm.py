"""DM: dataset condensation with distribution matching (Zhao & Bilen, WACV 2023).

Each step draws a fresh random network f and, for every class, real images R, the
synthetic ones S and one siamese augmentation A, and descends on

    sum over classes of || mean f(A(R)) - mean f(A(S)) ||^2.

Departures (what | published code | here):
    - batch of a class that has fewer than ``batch_real`` images | fewer images | its
      images again, so that all classes have batches of one size
"""

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.objectives import SquaredMeanDistance
from dcbench_bacon.distillation.pipeline import MatchingSettings


class DM(Method):
    """Matches class means in the features of random networks."""

    Settings = MatchingSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Update the images ``steps`` times."""
        learner = DistributionMatching(run, self.settings, SquaredMeanDistance())
        for step in run.steps("match", self.settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
