"""DM's pipeline (Zhao and Bilen, WACV 2023); an objective plugs into it."""

from dcbench_bacon.contract import Run
from dcbench_bacon.distillation.feature_matching import Matcher, MatchingBatch
from dcbench_bacon.distillation.objectives import Objective
from dcbench_bacon.distillation.pipeline import MatchingSettings, Pipeline
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.compilation import compile_network
from dcbench_bacon.runtime.compute.precision import tensor_cores


class DistributionMatching(Pipeline):
    """DM's pipeline: a fresh random network per step, and whole images.

    Args:
        run: the cell's data, random streams and clock.
        settings: the hyper-parameters.
        objective: computes one loss per class from features.
        partition: number of parts along each side of a synthetic image.
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
        """Draw the initial images, and compile the network where that pays."""
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
        """Return the passes of images per step; a backward pass counts as two."""
        real = self.run.info.classes * self.settings.batch_real
        synthetic = self.images.shape[:2].numel() * self.partition**2
        return real + 3 * synthetic

    def step(self, index: int) -> None:
        """Update all images once, on a fresh random network."""
        with tensor_cores(self.settings.precision):
            with self.run.phase("queue"):
                builder.reinitialize(self.network, self.run.generator("network"))
            self._match(MatchingBatch(*self._draw()))

    def _match(self, batch: MatchingBatch) -> None:
        """Update the images of all classes at once."""
        losses, gradient = self.matcher(batch, self.images)
        with self.run.phase("update"):
            self.optimiser.step(self.images, gradient)
        self.run.watch("loss", losses.mean())
