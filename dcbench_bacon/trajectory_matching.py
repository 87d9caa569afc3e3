"""Matching training trajectories: MTT (Cazenavette et al., CVPR 2022).

A student starts at a snapshot of an expert and takes N steps of SGD on the synthetic
images; the loss is how far from a later snapshot of the expert it ends, relative to how
far the expert went. Its gradient goes through all N steps.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from msgspec import Meta
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from dcbench_bacon.augment import Augmentation, Draw
from dcbench_bacon.errors import UsageError
from dcbench_bacon.experts import expert_network
from dcbench_bacon.flat import FlatNetwork
from dcbench_bacon.matching import ImageSGD, RealImages
from dcbench_bacon.memory import images_per_call
from dcbench_bacon.pipelines import Momentum, NonNegative, Rate
from dcbench_bacon.precision import tensor_cores
from dcbench_bacon.schema import Positive, Precision
from dcbench_bacon.spec import Run, Settings, State, SyntheticSet
from dcbench_bacon.trajectories import ExpertStore, ExpertTraining, Pair

# A step that is differentiated twice keeps about so many times the activations.
TWICE = 3
LEAST_RATE = 0.01  # of the initial learning rate; where the learned one is held


class TrajectorySettings(Settings, frozen=True, kw_only=True):
    """Hyper-parameters of MTT; published names in brackets.

    Attributes:
        steps: updates of the images (``Iteration``).
        image_lr: learning rate of the images (``lr_img``).
        image_momentum: momentum of the images and of the learned learning rate.
        student_lr: where the learned learning rate begins (``lr_teacher`` of the
            distillation).
        lr_lr: learning rate of the learned learning rate.
        student_steps: SGD steps of the student, N (``syn_steps``).
        student_batch: synthetic images a step (``batch_syn``); 0 for all.
        expert_epochs: passes of the expert that they stand for, M.
        max_start_epoch: the student starts after fewer passes than these.
        init: real images, or standard normal noise (``pix_init``).
        augmentation: DSA operations joined by ``_``, for experts and students; empty
            for none.
        architecture: of experts and students.
        precision: of the networks' arithmetic; see ``precision``.
        zca: whiten the images.
        experts: trajectories to draw from (``num_experts``).
        expert_passes: of each over the train split (``train_epochs``).
        expert_lr: learning rate of the experts (``lr_teacher`` of the buffers).
        expert_momentum: momentum of the experts.
        expert_weight_decay: weight decay of the experts.
        expert_batch: real images a step of the experts (``batch_train``).
        recompute: bound the memory by one student step; see ``Student``.
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
    init: Literal["real", "noise"] = "real"
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
    def training(self) -> ExpertTraining:
        """How the experts are trained."""
        return ExpertTraining(
            architecture=self.architecture,
            passes=self.expert_passes,
            learning_rate=self.expert_lr,
            momentum=self.expert_momentum,
            weight_decay=self.expert_weight_decay,
            batch_size=self.expert_batch,
            augmentation=self.augmentation,
            precision=self.precision,
        )

    def check(self) -> None:
        """Makes sure that the settings fit each other, before anything is trained.

        Raises:
            UsageError: the experts end too early, or whitening is asked for.
        """
        last = self.max_start_epoch - 1 + self.expert_epochs
        if last > self.expert_passes:
            raise UsageError(
                f"students that start before pass {self.max_start_epoch} and cover "
                f"{self.expert_epochs} need experts of {last} passes, not "
                f"{self.expert_passes}: raise expert_passes, or lower max_start_epoch "
                "or expert_epochs, with --set"
            )
        if self.zca:
            raise UsageError(
                "zca = true: sets of whitened images cannot be evaluated yet, since "
                "test images are not whitened; --set zca=false distils without it "
                "(another recipe than the published one)"
            )


class Batch(NamedTuple):
    """The synthetic images of one student step.

    Attributes:
        images: which, on their device.
        draw: one DSA operation, with parameters for each of them.
    """

    images: Int64[Tensor, "n"]
    draw: Draw


class Matched(NamedTuple):
    """The loss of a student and its gradients."""

    loss: Float[Tensor, ""]
    images: Float[Tensor, "m c h w"]
    rate: Float[Tensor, ""]


class Student:
    """Steps of SGD on synthetic images, and the gradient through them.

    With v_0 the start, g the gradient of the cross-entropy and a the learning rate, the
    student is v_(i+1) = v_i - a g(v_i, x_i), and the loss |v_N - target|^2 divided by
    |v_0 - target|^2. Its gradient goes back step by step: with u_N its derivative by
    v_N and s_i the product of g(v_i, x_i) and u_(i+1),

        u_i = u_(i+1) - a ds_i/dv_i,   by x_i: -a ds_i/dx_i,   by a: -s_i, summed.

    With ``recompute`` the student first goes all the way without a graph, keeping its
    parameters alone, and the graph of each step is built again on the way back. Memory
    is then bounded by N + 6 vectors of parameters and the twice differentiated graph of
    one step on ``most`` images, whatever N and the batch: larger batches go piece by
    piece, which is exact for networks that treat images one by one. Without it, the
    graph of all steps is kept: faster by a forward and a backward pass a step.

    Args:
        flat: the design; its parameters are not used.
        labels: the class of each synthetic image.
        augmentation: of the images of a step.
        recompute: see above.
        most: images in one piece.
    """

    def __init__(
        self,
        flat: FlatNetwork,
        labels: Int64[Tensor, "m"],
        augmentation: Augmentation,
        *,
        recompute: bool = True,
        most: int = 2**31,
    ) -> None:
        """Keeps the parts."""
        self.flat = flat
        self.labels = labels
        self.augmentation = augmentation
        self.recompute = recompute
        self.most = most

    def __call__(
        self,
        pair: tuple[Float[Tensor, "p"], Float[Tensor, "p"]],
        images: Float[Tensor, "m c h w"],
        rate: Float[Tensor, ""],
        batches: Sequence[Batch],
    ) -> Matched:
        """Trains the student, and differentiates where it ends.

        Args:
            pair: parameters of the expert, to start from and to end at.
            images: the synthetic images.
            rate: the student's learning rate.
            batches: one a step.
        """
        find = self._step_by_step if self.recompute else self._at_once
        return find(pair, images, rate, batches)

    def _at_once(
        self,
        pair: tuple[Tensor, Tensor],
        images: Tensor,
        rate: Tensor,
        batches: Sequence[Batch],
    ) -> Matched:
        """Builds the graph of all steps and goes back through it."""
        start, target = pair
        vector = start.detach().requires_grad_()
        images, rate = images.detach().requires_grad_(), rate.detach().requires_grad_()
        for batch in batches:
            loss = self._loss(vector, self._augment(images, batch), batch.images)
            (slope,) = torch.autograd.grad(loss, vector, create_graph=True)
            vector = vector - rate * slope
        distance = (vector - target).square().sum() / (start - target).square().sum()
        gradients = torch.autograd.grad(distance, (images, rate))
        return Matched(distance.detach(), *gradients)

    def _step_by_step(
        self,
        pair: tuple[Tensor, Tensor],
        images: Tensor,
        rate: Tensor,
        batches: Sequence[Batch],
    ) -> Matched:
        """Goes forward without a graph, then back with that of one step at a time."""
        start, target = pair
        path = [start]
        for batch in batches:
            with torch.no_grad():
                augmented = self._augment(images, batch)
            path.append(
                path[-1] - rate * self._slope(path[-1], augmented, batch.images)
            )
        scale = (start - target).square().sum()
        rest = path.pop() - target
        ahead = 2 / scale * rest  # the derivative by the parameters after the step
        to_images, to_rate = torch.zeros_like(images), torch.zeros_like(rate)
        for batch in reversed(batches):
            leaf = images.detach().requires_grad_()
            augmented = self._augment(leaf, batch)
            products = self._products(
                path.pop(), augmented.detach(), batch.images, ahead
            )
            ahead = ahead - rate * products.vector
            (own,) = torch.autograd.grad(augmented, leaf, products.images)
            to_images.sub_(rate * own)
            to_rate.sub_(products.value)
        return Matched(rest.square().sum() / scale, to_images, to_rate)

    def _augment(self, images: Tensor, batch: Batch) -> Float[Tensor, "n c h w"]:
        """The images of a step."""
        return self.augmentation.apply(images[batch.images][None], batch.draw)[0]

    def _loss(
        self, vector: Float[Tensor, "p"], images: Tensor, index: Tensor
    ) -> Float[Tensor, ""]:
        """The sum of cross-entropies divided by the images of the step."""
        views = self.flat.views(vector[None])
        parameters = {name: view[0] for name, view in views.items()}
        logits = functional_call(self.flat.network, parameters, (images,))
        return F.cross_entropy(logits, self.labels[index])

    def _pieces(
        self, images: Tensor, index: Tensor
    ) -> list[tuple[Tensor, Tensor, float]]:
        """Images and which they are, with their share of the step."""
        pieces = zip(
            torch.split(images, self.most), torch.split(index, self.most), strict=True
        )
        return [(some, which, len(which) / len(index)) for some, which in pieces]

    def _slope(
        self, vector: Tensor, images: Tensor, index: Tensor
    ) -> Float[Tensor, "p"]:
        """The gradient of the loss by the parameters."""
        vector = vector.detach().requires_grad_()
        total = torch.zeros_like(vector)
        for some, which, share in self._pieces(images, index):
            loss = share * self._loss(vector, some, which)
            total += torch.autograd.grad(loss, vector)[0]
        return total.detach()

    def _products(
        self, vector: Tensor, images: Tensor, index: Tensor, ahead: Float[Tensor, "p"]
    ) -> "Products":
        """The slope times a vector, and the derivatives of that."""
        vector = vector.detach().requires_grad_()
        value, to_vector, to_images = 0 * ahead[0], torch.zeros_like(ahead), []
        for some, which, share in self._pieces(images, index):
            leaf = some.detach().requires_grad_()
            loss = share * self._loss(vector, leaf, which)
            (slope,) = torch.autograd.grad(loss, vector, create_graph=True)
            product = slope @ ahead
            by_vector, by_leaf = torch.autograd.grad(product, (vector, leaf))
            value = value + product.detach()
            to_vector += by_vector
            to_images.append(by_leaf)
        return Products(value, to_vector, torch.cat(to_images))


class Products(NamedTuple):
    """s = slope times a vector, and its derivatives by parameters and images."""

    value: Float[Tensor, ""]
    vector: Float[Tensor, "p"]
    images: Float[Tensor, "n c h w"]


class TrajectoryMatching:
    """The images and the learning rate that make students follow experts.

    The learning rate is updated as published and then held above a hundredth of where
    it began, so that it stays positive; published runs that never come there are not
    touched.

    Args:
        run: what the harness lends.
        settings: hyper-parameters.
        store: the experts.
    """

    def __init__(
        self, run: Run, settings: TrajectorySettings, store: ExpertStore
    ) -> None:
        """Draws the initial images."""
        self.run = run
        self.settings = settings
        self.store = store
        self.choosing = run.generator("student/expert", device="cpu")
        self.ordering = run.generator("student/batches", device="cpu")
        self.drawing = run.generator("student/augmentation", device="cpu")
        self.images = self._initial()
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
            most=max(1, images_per_call(run.device, size) // TWICE),
        )

    def _initial(self) -> Float[Tensor, "m c h w"]:
        """The images before the first step, in class order."""
        generator = self.run.generator("init")
        if self.settings.init == "real":
            return RealImages(self.run).initial(1, generator).flatten(0, 1)
        info = self.run.info
        count = info.classes * self.run.cell.ipc
        shape = (count, info.channels, info.size, info.size)
        return torch.randn(shape, generator=generator, device=self.run.device)

    def step(self, index: int) -> None:
        """One update of all images and of the learning rate."""
        with self.run.phase("data"):
            pair, batches = self._pair(), self._batches()
        with self.run.phase("synthetic"), tensor_cores(self.settings.precision):
            matched = self.student(pair, self.images, self.rate, batches)
        with self.run.phase("update"):
            self.optimiser.step(self.images, matched.images)
            self.rate_optimiser.step(self.rate, matched.rate)
            self.rate.clamp_(min=LEAST_RATE * self.settings.student_lr)
        self.run.count(sum(len(batch.images) for batch in batches))
        self.run.watch("loss", matched.loss)
        self.run.watch("rate", self.rate)

    def _pair(self) -> Pair:
        """An expert at random, before and after ``expert_epochs`` passes."""
        settings, stream = self.settings, self.choosing
        expert, start = (
            int(torch.randint(most, (), generator=stream))
            for most in (settings.experts, settings.max_start_epoch)
        )
        pair = self.store.pair(expert, start, start + settings.expert_epochs)
        device = self.run.device
        return Pair(pair.start.to(device), pair.target.to(device))

    def _batches(self) -> list[Batch]:
        """Batches of the student: pieces of orders, a new order when one is used up."""
        total, steps = len(self.images), self.settings.student_steps
        size = self.settings.student_batch or total
        order: list[Tensor] = []
        while len(order) < steps:
            fresh = torch.randperm(total, generator=self.ordering)
            fresh = fresh.to(self.run.device, non_blocking=True)
            order += torch.split(fresh, size)
        return [
            Batch(index, self.augmentation.draw(1, self.drawing, samples=len(index)))
            for index in order[:steps]
        ]

    def synthetic(self) -> SyntheticSet:
        """The set as it stands, with its learning rate."""
        classes = self.run.info.classes
        return SyntheticSet(
            self.images.clone(),
            F.one_hot(self.student.labels, classes).float(),
            provenance={
                "learning_rate": float(self.rate),
                "experts": self.store.origin(self.settings.experts),
            },
        )

    def state_dict(self) -> State:
        """The images, the learning rate and their velocities."""
        return {
            "images": self.images,
            "velocity": self.optimiser.velocity,
            "rate": self.rate,
            "rate_velocity": self.rate_optimiser.velocity,
        }

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        self.images.copy_(state["images"])
        self.optimiser.velocity.copy_(state["velocity"])
        self.rate.copy_(state["rate"])
        self.rate_optimiser.velocity.copy_(state["rate_velocity"])
