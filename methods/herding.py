"""Herding: the real images whose mean feature follows that of the class.

Greedy: with m the mean feature of a class and S the sum of those chosen so far, the
i-th image chosen is the x that minimises

    || i m - (S + f(x)) ||.

Departures (what | published code | here):
    - features | code, features and their network are not published | features of a
      ConvNet trained on the whole train split in 51 passes with DSA; ``features`` may
      be ``pixels`` or ``clip``
"""

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.coresets import FeatureSettings, herding, select


class Herding(Method):
    """Chooses images that keep the mean; nothing is learned."""

    Settings = FeatureSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Choose ``ipc`` images of every class."""
        return select(run, self.settings, herding)
