"""Decoupled distillation: SRe2L, CDA, RDED, G-VBSM and EDC as settings of one engine.

The stages are those of SRe2L (Yin et al., NeurIPS 2023): *squeeze* trains observers on
real images, *recover* makes images from the observers, and *relabel* stores labels. The
fourth stage is the evaluation, under the protocol of each method (``protocols.toml``).
"""

from dcbench_bacon.contract import Run
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.decoupled.labels import labelled_set
from dcbench_bacon.distillation.decoupled.realistic import realistic_images
from dcbench_bacon.distillation.decoupled.recovery import Recovery
from dcbench_bacon.distillation.decoupled.settings import (
    CropSettings,
    RecoverySettings,
)
from dcbench_bacon.distillation.decoupled.squeeze import observers

__all__ = ["CropSettings", "RecoverySettings", "recover", "select_crops"]


def select_crops(run: Run, settings: CropSettings) -> SyntheticSet:
    """Return a set of the most realistic crops of real images.

    Raises:
        UsageError: the settings do not fit the data set.
    """
    trained = observers(run, settings)
    return labelled_set(
        run, settings, trained, realistic_images(run, settings, trained)
    )


def recover(run: Run, settings: RecoverySettings) -> SyntheticSet:
    """Return a set of images that were optimised through observers.

    Raises:
        UsageError: the settings do not fit the data set.
    """
    trained = observers(run, settings)
    if settings.init == "rded":
        start = realistic_images(run, settings, trained)
    else:
        stream = run.generator("init")
        start = RealImages(run).start(settings.init, stream).flatten(0, 1)
    learner = Recovery(run, settings, trained, start)
    for step in run.steps("recover", learner.steps, state=learner):
        learner.step(step)
    return learner.synthetic()
