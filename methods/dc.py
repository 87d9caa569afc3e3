"""DC: dataset condensation with gradient matching (Zhao, Mopuri & Bilen, ICLR 2021).

For a random network with weights w that trains on the synthetic images S in between,
each step descends, for real images R of every class, on

    sum over classes and rows of weights of 1 - cos(grad_w CE(R), grad_w CE(S)).

Biases and the scales of norms are left out of the sum, as published.

Departures: the published loop updates the images once more after its last evaluation;
a class with fewer than ``batch_real`` images fills its batch by taking its images
again, so that all classes have batches of one size.
"""

from dcbench_bacon.gradient_matching import GradientMatching, GradientMatchingSettings
from dcbench_bacon.spec import Method, Run, SyntheticSet


class DC(Method):
    """Matches the gradients of networks that train on the synthetic images."""

    Settings = GradientMatchingSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Updates the images ``steps`` times."""
        learner = GradientMatching(run, self.settings)
        for step in run.steps("match", self.settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
