"""Random real images, the baseline that every method must beat.

The first ``ipc`` images of a random permutation of each class.
"""

from dcbench_bacon.api import Method, Run, Settings, SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages, in_class_order


class Nothing(Settings, frozen=True, kw_only=True):
    """There is nothing to set."""


class Random(Method):
    """Draws real images; nothing is learned."""

    Settings = Nothing

    def distill(self, run: Run) -> SyntheticSet:
        """Draw ``ipc`` images of every class."""
        images = RealImages(run).initial(1, run.generator("init"))
        return in_class_order(images.flatten(0, 1), run.info)
