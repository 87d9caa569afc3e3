"""K-Means: the real image nearest to each of ``ipc`` centroids of the class.

DC-BENCH prints such a row ("K-Center", from a folder ``Kmeans``), but not its code:
that the nearest image is taken is the reading that fits its images.

Departures (what | published code | here):
    - those of ``herding``
"""

from functools import partial

from dcbench_bacon.contract import Method, Run
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.coresets import k_means, select
from dcbench_bacon.training.features import FeatureSettings


class KMeans(Method):
    """Chooses an image near each centroid; nothing is learned."""

    Settings = FeatureSettings

    def distill(self, run: Run) -> SyntheticSet:
        """Chooses ``ipc`` images of every class."""
        generator = run.generator("k_means", device="cpu")
        return select(run, self.settings, partial(k_means, generator=generator))
