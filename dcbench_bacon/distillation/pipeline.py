"""The base of pipelines that match real and synthetic images class by class."""

from typing import Annotated

from jaxtyping import Int64
from msgspec import Meta
from torch import Tensor

from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.contract import Run, Settings, State
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import Init, RealImages, in_class_order
from dcbench_bacon.distillation.image_sgd import ImageSGD
from dcbench_bacon.errors import UsageError
from dcbench_bacon.field_types import Positive, Precision
from dcbench_bacon.networks import base, builder

Rate = Annotated[float, Meta(gt=0)]
Momentum = Annotated[float, Meta(ge=0, lt=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class MatchingSettings(Settings, frozen=True, kw_only=True):
    """Hyper-parameters of DM's pipeline.

    Attributes:
        steps: number of updates of the images.
        image_lr: learning rate of the images.
        image_momentum: momentum of the images, in [0, 1).
        batch_real: real images per class and step, 2 or more; cut to the size of the
            largest class.
        init: real images, or standard normal noise.
        augmentation: DSA operations joined by ``_``; empty for none.
        align_corners: option of the resampling in scaling and rotation; False as
            published.
        architecture: architecture of the networks whose features are matched.
        precision: arithmetic of the networks; see ``runtime/compute/precision.py``.
    """

    steps: Positive = 20_000
    image_lr: Rate = 1.0
    image_momentum: Momentum = 0.5
    batch_real: Annotated[int, Meta(ge=2)] = 256
    init: Init = "real"
    augmentation: str = "color_crop_cutout_flip_scale_rotate"
    align_corners: bool = False
    architecture: str = "ConvNet"
    precision: Precision = "tf32"


class Pipeline:
    """The synthetic images, their optimiser, and the random draws of each step.

    Args:
        run: the cell's data, random streams and clock.
        settings: the hyper-parameters.
        partition: number of parts along each side of a synthetic image.
        visits: see ``ImageSGD``.
    """

    def __init__(
        self,
        run: Run,
        settings: MatchingSettings,
        partition: int = 1,
        visits: int = 1,
    ) -> None:
        """Draw the initial images and build the network.

        Raises:
            UsageError: the partition does not divide the image size.
        """
        if run.info.size % partition:
            raise UsageError(
                f"partition {partition} does not divide the image size "
                f"{run.info.size}; choose one that does, such as --set partition=1"
            )
        self.run = run
        self.settings = settings
        self.partition = partition
        self.real = RealImages(run)
        self.sampling = run.generator("real")
        self.drawing = run.generator("augmentation", device="cpu")
        self.images = self.real.start(settings.init, run.generator("init"), partition)
        self.optimiser = ImageSGD(
            self.images, settings.image_lr, settings.image_momentum, visits
        )
        info = run.info
        self.augmentation = Augmentation(
            settings.augmentation,
            (info.size, info.size),
            align_corners=settings.align_corners,
        )
        self.network = self._network()
        self.network.precision = settings.precision
        self.joint = self.network.batch_statistics

    def _network(self) -> base.Network:
        """Return the network whose parameters are drawn anew at every step."""
        info = self.run.info
        network = builder.build(
            self.settings.architecture,
            channels=info.channels,
            size=info.size,
            classes=info.classes,
        )
        return network.to(self.run.device).requires_grad_(False)

    def _draw(self) -> tuple[Int64[Tensor, "c n"], Draw]:
        """Draw the real images and one augmentation per class for a step."""
        with self.run.phase("data"):
            index = self.real.draw(self.settings.batch_real, self.sampling)
            draw = self.augmentation.draw(len(index), self.drawing)
            return index, draw.to(self.run.device)

    def synthetic(self) -> SyntheticSet:
        """Return the set in its present state."""
        images = self.optimiser.snapshot(self.images)
        images = images.flatten(0, 1)
        return in_class_order(images, self.run.info, partition=self.partition)

    def state_dict(self) -> State:
        """Return the images and their velocity."""
        return {"images": self.images, "velocity": self.optimiser.velocity}

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        self.images.copy_(state["images"])
        self.optimiser.velocity.copy_(state["velocity"])
