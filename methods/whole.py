"""Whole data set: networks trained on all real images, the ceiling of every table.

The same protocol as for synthetic sets, in everything but the number of passes: a pass
over all images is as many updates as hundreds over a small set. Nothing is distilled
and no set is stored. The normalised images lie on the device as float32, four times
their size on disk: 0.6 GB for CIFAR, 4.9 GB for Tiny ImageNet.
"""

from dcbench_bacon.api import Reference, Run, Settings, SyntheticSet, as_set


class WholeSettings(Settings, frozen=True, kw_only=True):
    """There is nothing to set; the protocol decides."""


class Whole(Reference):
    """Trains on the train split as it is."""

    Settings = WholeSettings

    def images(self, run: Run) -> SyntheticSet:
        """Return the whole train split."""
        return as_set(run.train, run.info)
