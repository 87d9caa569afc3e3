"""Random real images, the baseline that every method must beat.

The first ``ipc`` images of a random permutation of each class.
"""

import torch
from torch.nn import functional as F

from dcbench_bacon.matching import RealImages
from dcbench_bacon.spec import Method, Run, Settings, SyntheticSet


class Nothing(Settings, frozen=True, kw_only=True):
    """There is nothing to set."""


class Random(Method):
    """Draws real images; nothing is learned."""

    Settings = Nothing

    def distill(self, run: Run) -> SyntheticSet:
        """Draws ``ipc`` images of every class."""
        images = RealImages(run).initial(1, run.generator("init"))
        classes = torch.arange(run.info.classes, device=run.device)
        labels = classes.repeat_interleave(run.cell.ipc)
        return SyntheticSet(
            images.flatten(0, 1), F.one_hot(labels, run.info.classes).float()
        )
