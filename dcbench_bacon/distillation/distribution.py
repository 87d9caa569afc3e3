"""Distillation pipelines: which networks, which images, which update.

An objective (``objectives.py``) plugs into either. ``DistributionMatching`` is DM's
(Zhao & Bilen, WACV 2023), ``ImprovedMatching`` IDM's (Zhao et al., CVPR 2023).
Gradients are matched by a third, in ``gradient_matching.py``.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Int64
from msgspec import Meta
from torch import Tensor

from dcbench_bacon import networks
from dcbench_bacon.augment import Augmentation, Draw
from dcbench_bacon.compiling import compile_network
from dcbench_bacon.errors import UsageError
from dcbench_bacon.matching import (
    Batch,
    ImageSGD,
    Init,
    Matcher,
    RealImages,
    in_class_order,
)
from dcbench_bacon.network_queue import Minibatches, NetworkQueue, QueueOptions
from dcbench_bacon.objectives import Objective
from dcbench_bacon.precision import tensor_cores
from dcbench_bacon.schema import Parts, Positive, Precision
from dcbench_bacon.spec import Run, Settings, State, SyntheticSet

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


class ImprovedMatchingSettings(MatchingSettings, frozen=True, kw_only=True):
    """Hyper-parameters of IDM's pipeline; published names in brackets.

    Attributes:
        partition: parts along each side of a synthetic image.
        ce_weight: of the cross-entropy, times the network's accuracy.
        accuracy_unit: the published code multiplies by percent, 0 to 100.
        meter_reset_interval: steps between resets of the accuracies; the published
            code resets them at each evaluation (``eval_interval``). 0 for never.
        queue_size: networks kept (``net_num``).
        queue_start: networks before the first step.
        queue_interval: steps between fresh networks (``net_generate_interval``).
        queue_trained: networks trained after a step (``fetch_net_num``).
        queue_train_steps: their mini-batches a step (``model_train_steps``).
        queue_batch: images a mini-batch.
        network_lr: learning rate of the networks.
        network_momentum: momentum of the networks (``--net_decay``).
        network_weight_decay: weight decay of the networks (``--net_decay``).
        update: one update for all classes, or the published loop over classes.
    """

    image_lr: Rate = 0.2
    partition: Parts = 2
    ce_weight: NonNegative = 0.5
    accuracy_unit: Literal["percent", "fraction"] = "percent"
    meter_reset_interval: Count = 100
    queue_size: Positive = 100
    queue_start: Positive = 3
    queue_interval: Positive = 30
    queue_trained: Positive = 2
    queue_train_steps: Positive = 10
    queue_batch: Positive = 256
    network_lr: Rate = 0.01
    network_momentum: Momentum = 0.9
    network_weight_decay: NonNegative = 5e-4
    update: Literal["closed", "sequential"] = "closed"


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

    def _network(self) -> networks.Network:
        """The network whose parameters are drawn anew each step."""
        info = self.run.info
        network = networks.build(
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
                networks.reinitialize(self.network, self.run.generator("network"))
            self._match(Batch(*self._draw()))

    def _match(self, batch: Batch) -> None:
        """Updates the images of all classes at once."""
        losses, gradient = self.matcher(batch, self.images)
        with self.run.phase("update"):
            self.optimiser.step(self.images, gradient)
        self.run.watch("loss", losses.mean())


class ImprovedMatching(DistributionMatching):
    """IDM's pipeline: partitioned images, a queue of networks, a cross-entropy.

    Args:
        run: what the harness lends.
        settings: hyper-parameters.
        objective: from features to a loss a class.
    """

    settings: ImprovedMatchingSettings

    def __init__(
        self, run: Run, settings: ImprovedMatchingSettings, objective: Objective
    ) -> None:
        """Draws the initial images and fills the queue."""
        self.minibatches = run.generator("queue/minibatches")
        visits = run.info.classes if settings.update == "closed" else 1
        super().__init__(run, settings, objective, settings.partition, visits)

    def _network(self) -> networks.Network:
        """The network that takes its parameters from the queue."""
        settings = self.settings
        options = QueueOptions(
            capacity=settings.queue_size,
            start=settings.queue_start,
            learning_rate=settings.network_lr,
            momentum=settings.network_momentum,
            weight_decay=settings.network_weight_decay,
            precision=settings.precision,
        )
        self.queue = NetworkQueue(self.run, settings.architecture, options)
        self.queue.compile(self.run, settings.steps * self._trained())
        return self.queue.template

    def _passes(self) -> int:
        """Those of matching, and of training the queue."""
        return super()._passes() + self._trained()

    def _trained(self) -> int:
        """Passes of training the queue in a step."""
        settings = self.settings
        trained = settings.queue_trained * settings.queue_train_steps
        return 3 * trained * settings.queue_batch

    def step(self, index: int) -> None:
        """One update of all images, then some training of the queue."""
        with tensor_cores(self.settings.precision):
            self._step(index)

    def _step(self, index: int) -> None:
        settings = self.settings
        with self.run.phase("queue"):
            every = settings.meter_reset_interval
            if every and index and index % every == 0:
                self.queue.reset_meters()
            if index % settings.queue_interval == 0:
                self.queue.push()
            (row,) = self.queue.pick(1)
            self.queue.load(row)
            unit = 100 if settings.accuracy_unit == "percent" else 1
            weight = settings.ce_weight * unit * self.queue.accuracy(row)
        batch = Batch(*self._draw(), weight)
        if settings.update == "closed":
            self._match(batch)
        else:
            self._match_in_turn(batch)
        with self.run.phase("queue"):
            self._train()

    def _match_in_turn(self, batch: Batch) -> None:
        """The published loop: one optimiser step on all images after each class."""
        total = torch.zeros((), device=self.images.device)
        for label in range(len(self.images)):
            some = slice(label, label + 1)
            losses, own = self.matcher.classes(batch, self.images, some)
            gradient = torch.zeros_like(self.images)
            gradient[some] = own
            self.optimiser.step(self.images, gradient)
            total += losses.sum()
        self.run.watch("loss", total / len(self.images))

    def _train(self) -> None:
        """Trains ``queue_trained`` networks, each on mini-batches of its own."""
        settings = self.settings
        rows = self.queue.pick(settings.queue_trained)
        shape = (len(rows), settings.queue_train_steps, settings.queue_batch)
        index = self.real.minibatches(shape, self.minibatches)
        steps = (Minibatches(*self.real.labelled(some)) for some in index.unbind(1))
        self.queue.train(rows, steps)
        self.run.count(index.numel())

    def state_dict(self) -> State:
        """The images, their velocity and the queue."""
        return {**super().state_dict(), "queue": self.queue.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        super().load_state_dict(state)
        self.queue.load_state_dict(state["queue"])
