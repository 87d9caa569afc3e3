"""DC: dataset condensation with gradient matching (Zhao, Mopuri & Bilen, ICLR 2021).

For a random network with weights w that trains on the synthetic images S in between,
each step descends, for real images R of every class, on

    sum over classes and rows of weights of 1 - cos(grad_w CE(R), grad_w CE(S)).

Biases and the scales of norms are left out of the sum, as published.

Departures (what | published code | here):
    - those of ``dm``
    - Tiny-ImageNet | no setting | a ConvNet of depth 4, as DC-BENCH
"""

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.gradients import (
    GradientMatching,
    GradientMatchingSettings,
)


class DC(Method):
    """Matches the gradients of networks that train on the synthetic images."""

    Settings = GradientMatchingSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Update the images ``steps`` times."""
        learner = GradientMatching(run, self.settings)
        for step in run.steps("match", self.settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
