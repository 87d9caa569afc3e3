"""K-Means: the real image nearest to each of ``ipc`` centroids of the class.

DC-BENCH prints such a row ("K-Center", from a folder ``Kmeans``), but not its code:
that the nearest image is taken is the reading that fits its images.

Departures (what | published code | here):
    - those of ``herding``
"""

from functools import partial

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.coresets import FeatureSettings, k_means, select


class KMeans(Method):
    """Chooses an image near each centroid; nothing is learned."""

    Settings = FeatureSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Choose ``ipc`` images of every class."""
        generator = run.generator("k_means", device="cpu")
        return select(run, self.settings, partial(k_means, generator=generator))
