"""What pipelines that match class by class share."""

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
        steps: updates of the images.
        image_lr: learning rate of the images.
        image_momentum: momentum of the images.
        batch_real: real images a class and step; cut to the class.
        init: real images, or standard normal noise.
        augmentation: DSA operations joined by ``_``; empty for none.
        align_corners: of scaling and rotation; False as published.
        architecture: of the networks whose features are matched.
        precision: of the networks' arithmetic; see ``precision``.
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
    """Synthetic images, their optimiser, and what is drawn for a step.

    Args:
        run: what the harness lends.
        settings: hyper-parameters.
        partition: parts along each side of a synthetic image.
        visits: see ``ImageSGD``.
    """

    def __init__(
        self,
        run: Run,
        settings: MatchingSettings,
        partition: int = 1,
        visits: int = 1,
    ) -> None:
        """Draws the initial images."""
        if run.info.size % partition:
            raise UsageError(
                f"partition {partition} does not divide the image size {run.info.size}"
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
        """The network whose parameters are drawn anew each step."""
        info = self.run.info
        network = builder.build(
            self.settings.architecture,
            channels=info.channels,
            size=info.size,
            classes=info.classes,
        )
        return network.to(self.run.device).requires_grad_(False)

    def _draw(self) -> tuple[Int64[Tensor, "c n"], Draw]:
        """What a step matches: real images and an augmentation a class."""
        with self.run.phase("data"):
            index = self.real.draw(self.settings.batch_real, self.sampling)
            draw = self.augmentation.draw(len(index), self.drawing)
            return index, draw.to(self.run.device)

    def synthetic(self) -> SyntheticSet:
        """The set as it stands."""
        images = self.optimiser.snapshot(self.images)
        images = images.flatten(0, 1)
        return in_class_order(images, self.run.info, partition=self.partition)

    def state_dict(self) -> State:
        """The images and their velocity."""
        return {"images": self.images, "velocity": self.optimiser.velocity}

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        self.images.copy_(state["images"])
        self.optimiser.velocity.copy_(state["velocity"])
