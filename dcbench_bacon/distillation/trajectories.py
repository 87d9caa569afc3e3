"""Matching of training trajectories: MTT (Cazenavette et al., CVPR 2022).

A student starts at a snapshot of an expert and takes N steps of SGD on the synthetic
images. The loss is its squared distance from a later snapshot of the expert, divided by
the squared distance between the two snapshots. The gradient goes through all N steps.
"""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.contract import Run, Settings, State
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import Init, RealImages, in_class_order
from dcbench_bacon.distillation.image_sgd import ImageSGD
from dcbench_bacon.distillation.pipeline import Momentum, NonNegative, Rate
from dcbench_bacon.distillation.unrolled import Student, StudentBatch
from dcbench_bacon.errors import UsageError
from dcbench_bacon.field_types import Positive, Precision
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.runtime.compute.memory import images_per_call, send
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.training.expert_store import ExpertStore, Pair
from dcbench_bacon.training.experts import expert_network
from dcbench_bacon.training.experts import train_experts as train_experts
from dcbench_bacon.training.settings import Training

# Memory of a step that is differentiated twice, relative to one that is differentiated
# once (ConvNetW64 at 256 images on a CPU: 0.74 and 0.41 GB).
TWICE = 2
LEAST_RATE = 0.01  # least learned learning rate, as a fraction of the initial one


class TrajectorySettings(Settings, frozen=True, kw_only=True):
    """Hyper-parameters of MTT; published names in brackets.

    Attributes:
        steps: updates of the images (``Iteration``).
        image_lr: learning rate of the images (``lr_img``).
        image_momentum: momentum of the images and of the learned learning rate.
        student_lr: initial value of the learned learning rate (``lr_teacher`` of the
            distillation).
        lr_lr: learning rate of the learned learning rate.
        student_steps: SGD steps of the student, N (``syn_steps``).
        student_batch: synthetic images per student step (``batch_syn``); 0 for all.
        expert_epochs: passes of the expert that the N steps have to match, M.
        max_start_epoch: students start at a pass below this one.
        init: real images, or standard normal noise (``pix_init``).
        augmentation: DSA operations joined by ``_``, for experts and students; empty
            for none.
        architecture: of experts and students.
        precision: arithmetic of the networks; see ``runtime/compute/precision.py``.
        zca: whether the real images, and with them the set, are whitened; see
            ``data/whitening.py``.
        experts: number of trajectories to draw from (``num_experts``).
        expert_passes: passes of each expert over the train split (``train_epochs``).
        expert_lr: learning rate of the experts (``lr_teacher`` of the buffers).
        expert_momentum: momentum of the experts.
        expert_weight_decay: weight decay of the experts.
        expert_batch: real images per step of the experts (``batch_train``).
        recompute: bound the memory by that of one student step; see ``Student``.
    """

    steps: Positive = 5000
    image_lr: Rate = 1000.0
    image_momentum: Momentum = 0.5
    student_lr: Rate = 0.01
    lr_lr: NonNegative = 1e-5
    student_steps: Positive = 20
    student_batch: Annotated[int, Meta(ge=0)] = 0
    expert_epochs: Positive = 3
    max_start_epoch: Positive = 25
    init: Init = "real"
    augmentation: str = "color_crop_cutout_flip_scale_rotate"
    architecture: str = "ConvNet"
    precision: Precision = "tf32"
    zca: bool = False
    experts: Positive = 100
    expert_passes: Positive = 50
    expert_lr: Rate = 0.01
    expert_momentum: Momentum = 0.0
    expert_weight_decay: NonNegative = 0.0
    expert_batch: Positive = 256
    recompute: bool = True

    @property
    def training(self) -> Training:
        """Return how the experts are trained."""
        return Training(
            architecture=self.architecture,
            epochs=self.expert_passes,
            learning_rate=self.expert_lr,
            momentum=self.expert_momentum,
            weight_decay=self.expert_weight_decay,
            batch_size=self.expert_batch,
            augmentation=self.augmentation,
            precision=self.precision,
        )

    def check(self) -> None:
        """Make sure that the settings fit each other, before anything is trained.

        Raises:
            UsageError: the experts train for too few passes.
        """
        last = self.max_start_epoch - 1 + self.expert_epochs
        if last > self.expert_passes:
            raise UsageError(
                f"students that start before pass {self.max_start_epoch} and cover "
                f"{self.expert_epochs} need experts of {last} passes, not "
                f"{self.expert_passes}: raise expert_passes, or lower max_start_epoch "
                "or expert_epochs, with --set"
            )


class TrajectoryMatching:
    """The images and the learning rate that make students follow experts.

    The learning rate is updated as published and then kept at a hundredth of its
    initial value or more, so that it stays positive. Published runs that never fall to
    this bound are not affected.

    Args:
        run: the cell's data, random streams and clock.
        settings: the hyper-parameters.
        store: the experts.
    """

    def __init__(
        self, run: Run, settings: TrajectorySettings, store: ExpertStore
    ) -> None:
        """Draw the initial images and build the student."""
        self.run = run
        self.settings = settings
        self.store = store
        self.choosing = run.generator("student/expert", device="cpu")
        self.ordering = run.generator("student/batches", device="cpu")
        self.drawing = run.generator("student/augmentation", device="cpu")
        images = RealImages(run).start(settings.init, run.generator("init"))
        self.images = images.flatten(0, 1)
        self.rate = torch.tensor(settings.student_lr, device=run.device)
        momentum = settings.image_momentum
        self.optimiser = ImageSGD(self.images, settings.image_lr, momentum, 1)
        self.rate_optimiser = ImageSGD(self.rate, settings.lr_lr, momentum, 1)
        network = expert_network(run, settings.architecture)
        network.precision = settings.precision
        size, classes = run.info.size, run.info.classes
        self.augmentation = Augmentation(settings.augmentation, (size, size))
        self.student = Student(
            FlatNetwork(network),
            torch.arange(classes, device=run.device).repeat_interleave(run.cell.ipc),
            self.augmentation,
            recompute=settings.recompute,
            most=max(
                1, images_per_call(run.device, size, network.memory_demand) // TWICE
            ),
        )

    def step(self, index: int) -> None:
        """Update all images and the learning rate once."""
        with self.run.phase("data"):
            pair, batches = self._pair(), self._batches()
        with self.run.phase("synthetic"), tensor_cores(self.settings.precision):
            matched = self.student(pair, self.images, self.rate, batches)
        with self.run.phase("update"):
            self.optimiser.step(self.images, matched.images)
            self.rate_optimiser.step(self.rate, matched.rate)
            self.rate.clamp_(min=LEAST_RATE * self.settings.student_lr)
        self.run.count(sum(len(batch.index) for batch in batches))
        self.run.watch("loss", matched.loss)
        self.run.watch("rate", self.rate)

    def _pair(self) -> Pair:
        """Return a random expert before and after ``expert_epochs`` passes."""
        settings, stream = self.settings, self.choosing
        expert, start = (
            int(torch.randint(most, (), generator=stream))
            for most in (settings.experts, settings.max_start_epoch)
        )
        pair = self.store.pair(expert, start, start + settings.expert_epochs)
        device = self.run.device
        return Pair(*(send(parameters, device) for parameters in pair))

    def _batches(self) -> list[StudentBatch]:
        """Return the student's batches, from a new order of the set when one ends.

        The last piece of an order comes first, as in ``distill.py`` of the published
        code: it is shorter where the batch size does not divide the set, and students
        with few steps would otherwise never see it.
        """
        total, steps = len(self.images), self.settings.student_steps
        size = self.settings.student_batch or total
        order: list[Tensor] = []
        while len(order) < steps:
            fresh = torch.randperm(total, generator=self.ordering)
            order += reversed(torch.split(send(fresh, self.run.device), size))
        draws = [
            self.augmentation.draw(1, self.drawing, samples=len(index))
            for index in order[:steps]
        ]
        pairs = zip(order, draws, strict=False)
        return [StudentBatch(index, draw.to(self.run.device)) for index, draw in pairs]

    def synthetic(self) -> SyntheticSet:
        """Return the set in its present state, with its learning rate."""
        return in_class_order(
            self.images.clone(),
            self.run.info,
            provenance={
                "learning_rate": float(self.rate),
                "experts": self.store.origin(self.settings.experts),
            },
        )

    def state_dict(self) -> State:
        """Return the images, the learning rate and their velocities."""
        return {
            "images": self.images,
            "velocity": self.optimiser.velocity,
            "rate": self.rate,
            "rate_velocity": self.rate_optimiser.velocity,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        self.images.copy_(state["images"])
        self.optimiser.velocity.copy_(state["velocity"])
        self.rate.copy_(state["rate"])
        self.rate_optimiser.velocity.copy_(state["rate_velocity"])
