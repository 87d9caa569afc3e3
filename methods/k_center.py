"""K-Center: real images such that no image of the class is far from one of them.

Greedy, starting at the image nearest to the mean of the class; then always the image
farthest from those chosen. Outliers come first, so that small sets can be worse than
random ones; three published rows share the name and differ by up to 29 points
(the file ``published.csv``).

Departures (what | published code | here):
    - those of ``herding``
"""

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.coresets import FeatureSettings, k_center, select


class KCenter(Method):
    """Chooses images that cover the class; nothing is learned."""

    Settings = FeatureSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Choose ``ipc`` images of every class."""
        return select(run, self.settings, k_center)
