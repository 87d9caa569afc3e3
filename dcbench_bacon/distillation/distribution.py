"""Distillation pipelines: which networks, which images, which update.

An objective (``objectives.py``) plugs into either. ``DistributionMatching`` is DM's
(Zhao & Bilen, WACV 2023), ``ImprovedMatching`` IDM's (Zhao et al., CVPR 2023).
Gradients are matched by a third, in ``gradient_matching.py``.
"""

from dcbench_bacon.contract import Run
from dcbench_bacon.distillation.feature_matching import Matcher, MatchingBatch
from dcbench_bacon.distillation.objectives import Objective
from dcbench_bacon.distillation.pipeline import MatchingSettings, Pipeline
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.compilation import compile_network
from dcbench_bacon.runtime.precision import tensor_cores


class DistributionMatching(Pipeline):
    """DM's pipeline: a fresh random network each step, whole images.

    Args:
        run: what the harness lends.
        settings: hyper-parameters.
        objective: from features to a loss a class.
        partition: parts along each side of a synthetic image.
        visits: see ``ImageSGD``.
    """

    def __init__(
        self,
        run: Run,
        settings: MatchingSettings,
        objective: Objective,
        partition: int = 1,
        visits: int = 1,
    ) -> None:
        """Draws the initial images."""
        super().__init__(run, settings, partition, visits)
        images = settings.steps * self._passes()
        compile_network(run, self.network, run.info, images)
        self.matcher = Matcher(
            run,
            self.network,
            self.real,
            objective,
            self.augmentation,
            partition,
            self.joint,
        )

    def _passes(self) -> int:
        """Forward passes of an image in a step; a backward pass counts as two."""
        real = self.run.info.classes * self.settings.batch_real
        synthetic = self.images.shape[:2].numel() * self.partition**2
        return real + 3 * synthetic

    def step(self, index: int) -> None:
        """One update of all images."""
        with tensor_cores(self.settings.precision):
            with self.run.phase("queue"):
                builder.reinitialize(self.network, self.run.generator("network"))
            self._match(MatchingBatch(*self._draw()))

    def _match(self, batch: MatchingBatch) -> None:
        """Updates the images of all classes at once."""
        losses, gradient = self.matcher(batch, self.images)
        with self.run.phase("update"):
            self.optimiser.step(self.images, gradient)
        self.run.watch("loss", losses.mean())
