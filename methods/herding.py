"""Herding: the real images whose mean feature follows that of the class.

Greedy: with m the mean feature of a class and S the sum of those chosen so far, the
i-th image chosen is the x that minimises

    || i m - (S + f(x)) ||.

Which features the published rows were measured in is not published; the default here
are those of a network trained on the whole train split.
"""

from dcbench_bacon.features import FeatureSettings
from dcbench_bacon.selection import herding, select
from dcbench_bacon.spec import Method, Run, SyntheticSet


class Herding(Method):
    """Chooses images that keep the mean; nothing is learned."""

    Settings = FeatureSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Chooses ``ipc`` images of every class."""
        return select(run, self.settings, herding)
