"""Gradient matching: the pipeline of DC and DSA.

Zhao, Mopuri and Bilen, ICLR 2021, https://openreview.net/forum?id=mSAKhLYLSsl (DC);
Zhao and Bilen, ICML 2021, https://arxiv.org/abs/2102.08259 (DSA). The images are moved
so that the gradient of a network's loss on them agrees with that on real images, at
every stage of the network's training on the images themselves.

The published code takes the gradients class by class. Here every class has a copy of
the weights, so that one pass gives the gradients of many classes;
``tests/reference_gradient.py`` holds the loop, and the tests compare.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F

from dcbench_bacon import networks
from dcbench_bacon.augment import Augmentation, Draw
from dcbench_bacon.flat import FlatNetwork, FlatSGD
from dcbench_bacon.matching import MatchingGradient, RealImages
from dcbench_bacon.memory import images_per_call
from dcbench_bacon.networks import Network
from dcbench_bacon.pipelines import Count, MatchingSettings, Momentum, Pipeline, Rate
from dcbench_bacon.precision import tensor_cores
from dcbench_bacon.schema import Positive
from dcbench_bacon.spec import Run, State

Gradients = dict[str, Tensor]
"""By name of a weight: its gradient for each class, (c, *weight's shape)."""

EPSILON = 1e-6  # of the cosine; distance_wb in utils.py of the published code
STATISTICS = 16  # real images a class for batch norm; BNSizePC in main.py
# Memory an image takes, in units of ``images_per_call``'s: per-class gradients keep
# about twice of an ordinary pass, differentiating them once more four times (a ConvNet
# at 32 pixels on a CPU: 5 and 11 MB an image).
_FIRST_ORDER, _SECOND_ORDER = 2, 4


class GradientMatchingSettings(MatchingSettings, frozen=True, kw_only=True):
    """Hyper-parameters of gradient matching; published names in brackets.

    Attributes:
        steps: updates of the images: iterations (``Iteration``) times ``outer_loop``.
        outer_loop: updates of the images with one network, which trains in between.
        inner_loop: epochs the network trains on the images between two updates.
        network_lr: learning rate of the network (``lr_net``).
        network_momentum: momentum of the network.
        network_batch: images a mini-batch of its training (``batch_train``).
    """

    steps: Count = 0
    outer_loop: Count = 0
    inner_loop: Count = 0
    image_lr: Rate = 0.1
    network_lr: Rate = 0.01
    network_momentum: Momentum = 0.0
    network_batch: Positive = 256

    def __post_init__(self) -> None:
        """Refuses loops that nobody has chosen."""
        if not (self.steps and self.outer_loop and self.inner_loop):
            raise ValueError(
                "no loops are published for this number of images a class; choose "
                "all three: --set steps=20000 --set outer_loop=20 --set inner_loop=25"
            )


def class_gradients(
    network: Network,
    images: Float[Tensor, "c n ch h w"],
    classes: Int64[Tensor, "c"],
    *,
    create_graph: bool = False,
) -> Gradients:
    """The gradient of each class's mean cross-entropy, for all classes in one pass.

    Args:
        network: its statistics, if it has any, must be frozen (``eval``).
        images: those of each class.
        classes: the label of each class.
        create_graph: whether the gradients can be differentiated.

    Returns:
        Gradients of the parameters with two or more axes: the distance leaves out
        biases and the scales of norms.
    """
    every = {name: each.detach() for name, each in network.named_parameters()}
    copies = {
        name: each.expand(len(classes), *each.shape).requires_grad_()
        for name, each in every.items()
        if each.ndim > 1
    }

    def loss(weights: Gradients, some: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, {**every, **weights}, (some,))
        return F.cross_entropy(logits, label.expand(len(some)))

    losses: Tensor = vmap(loss)(copies, images, classes)
    gradients = torch.autograd.grad(
        losses.sum(), list(copies.values()), create_graph=create_graph
    )
    return dict(zip(copies, gradients, strict=True))


def gradient_distance(real: Gradients, synthetic: Gradients) -> Float[Tensor, "c"]:
    """The layer-wise distance of DC, equation 9, for each class.

    One minus the cosine, summed over the output units of every weight and over the
    weights, so that wide layers weigh more. As published, ``EPSILON`` is added to the
    product of norms: rows far shorter than its root differ even from themselves.

    Args:
        real: (c, out, ...) a weight.
        synthetic: of the same shapes.
    """
    rows = [
        1 - _cosines(real[name].flatten(2), synthetic[name].flatten(2)) for name in real
    ]
    return torch.cat(rows, 1).sum(1)


def _cosines(
    left: Float[Tensor, "c out k"], right: Float[Tensor, "c out k"]
) -> Float[Tensor, "c out"]:
    norms: Tensor = left.norm(dim=-1) * right.norm(dim=-1)
    return (left * right).sum(-1) / (norms + EPSILON)


class GradientMatcher:
    """The gradient of the distance with respect to the synthetic images.

    In one pass go as many classes as memory takes: real images in pieces of at most
    ``images_per_call / 2``, and all synthetic images of at least one class.

    Args:
        run: supplies phases.
        real: the real images to match.
        augmentation: drawn once a class and shared by real and synthetic images.
    """

    def __init__(self, run: Run, real: RealImages, augmentation: Augmentation) -> None:
        """Keeps the parts."""
        self.run = run
        self.real = real
        self.augmentation = augmentation

    def __call__(
        self,
        network: Network,
        index: Int64[Tensor, "c n"],
        draw: Draw,
        images: Float[Tensor, "c ipc ch h w"],
    ) -> MatchingGradient:
        """Computes losses and gradient for all classes.

        Args:
            network: whose gradients are matched; its statistics are frozen.
            index: of the real images, as ``RealImages.draw`` returns them.
            draw: the augmentation of each class.
            images: the synthetic images.
        """
        parts = [
            self._classes(network, index[some], draw[some], images[some], some.start)
            for some in self._chunks(index.shape[1], images)
        ]
        return MatchingGradient(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _classes(
        self,
        network: Network,
        index: Int64[Tensor, "c n"],
        draw: Draw,
        images: Float[Tensor, "c ipc ch h w"],
        first: int,
    ) -> MatchingGradient:
        """The same for a run of classes."""
        classes = torch.arange(first, first + len(index), device=index.device)
        with self.run.phase("data"):
            real = self.real.take(index)
        with self.run.phase("augmentation"), torch.no_grad():
            real = self.augmentation.apply(real, draw)
        with self.run.phase("real forward"):  # and backward
            target = self._target(network, real, classes)
        with self.run.phase("synthetic"):
            own = images.detach().requires_grad_()
            augmented = self.augmentation.apply(own, draw)
            found = class_gradients(network, augmented, classes, create_graph=True)
            losses = gradient_distance(target, found)
            (gradient,) = torch.autograd.grad(losses.sum(), own)
        self.run.count(real.shape[:2].numel() + own.shape[:2].numel())
        return MatchingGradient(losses.detach(), gradient)

    def _target(
        self,
        network: Network,
        real: Float[Tensor, "c n ch h w"],
        classes: Int64[Tensor, "c"],
    ) -> Gradients:
        """The gradients of real images, from pieces that fit into memory."""
        most = images_per_call(real.device, real.shape[-1]) // _FIRST_ORDER
        total: Gradients = {}
        for piece in torch.split(real, max(1, most // len(real)), dim=1):
            share = piece.shape[1] / real.shape[1]
            for name, each in class_gradients(network, piece, classes).items():
                scaled = each * share
                total[name] = total[name] + scaled if name in total else scaled
        return total

    def _chunks(self, real: int, images: Tensor) -> Iterator[slice]:
        """Runs of classes that fit into memory together."""
        classes, ipc = images.shape[:2]
        most = images_per_call(images.device, images.shape[-1])
        step = max(1, min(most // (_FIRST_ORDER * real), most // (_SECOND_ORDER * ipc)))
        for start in range(0, classes, step):
            yield slice(start, min(start + step, classes))


class GradientMatching(Pipeline):
    """DC's and DSA's pipeline: a network in training on the images it improves.

    A step is one update of the images. Before it, the network is drawn anew (first of
    ``outer_loop`` steps) or trained for ``inner_loop`` epochs on the images; so a kill
    loses no more than that.

    Args:
        run: what the harness lends.
        settings: hyper-parameters.
    """

    settings: GradientMatchingSettings

    def __init__(self, run: Run, settings: GradientMatchingSettings) -> None:
        """Draws the initial images."""
        super().__init__(run, settings)
        self.matcher = GradientMatcher(run, self.real, self.augmentation)
        self.flat = FlatNetwork(self.network)
        self.vector = self.flat.vector()
        self.velocity = torch.zeros_like(self.vector)
        self.gradient = torch.zeros_like(self.vector)
        self.flat.attach(self.vector, self.gradient)
        self.network_optimiser = FlatSGD(
            settings.network_lr, settings.network_momentum, weight_decay=0.0
        )
        self.shuffling = run.generator("network/shuffle")
        self.training_draws = run.generator("network/augmentation", device="cpu")

    def step(self, index: int) -> None:
        """Brings the network to the step's stage, then updates all images."""
        with tensor_cores(self.settings.precision):
            self._step(index)

    def _step(self, index: int) -> None:
        with self.run.phase("queue"):  # the timing table's name for networks
            if index % self.settings.outer_loop == 0:
                networks.reinitialize(self.network, self.run.generator("network"))
                self.velocity.zero_()
            else:
                self._train()
            self._freeze_statistics()
        losses, gradient = self.matcher(self.network, *self._draw(), self.images)
        with self.run.phase("update"):
            self.optimiser.step(self.images, gradient)
        self.run.watch("loss", losses.mean())

    def _freeze_statistics(self) -> None:
        """Batch norm sees some real images of all classes, then is held fixed.

        As published: one such batch moves running statistics by a tenth.
        """
        if self.joint:
            self.network.train()
            stream = self.run.generator("network/statistics")
            index = self.real.draw(STATISTICS, stream)
            with torch.no_grad():
                self.network(self.real.take(index).flatten(0, 1))
        self.network.eval()

    def _train(self) -> None:
        """Trains the network on the images as they stand."""
        self.network.train()
        images = self.images.flatten(0, 1)
        ipc = self.images.shape[1]
        for _ in range(self.settings.inner_loop):
            order = torch.randperm(
                len(images), generator=self.shuffling, device=images.device
            )
            for index in torch.split(order, self.settings.network_batch):
                self._train_on(images[index], index // ipc)

    def _train_on(
        self, images: Float[Tensor, "n ch h w"], labels: Int64[Tensor, "n"]
    ) -> None:
        """One update of the network; an operation a batch, parameters an image."""
        draw = self.augmentation.draw(1, self.training_draws, samples=len(images))
        images = self.augmentation.apply(images.unsqueeze(0), draw).squeeze(0)
        self.gradient.zero_()
        loss = F.cross_entropy(self.network(images), labels)
        torch.autograd.backward(loss)
        self.network_optimiser.step(self.vector, self.velocity, self.gradient)
        self.run.count(len(images))

    def state_dict(self) -> State:
        """The images and the network, with their velocities."""
        return {
            **super().state_dict(),
            "network": self.vector,
            "network_velocity": self.velocity,
            "buffers": dict(self.network.named_buffers()),
        }

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        super().load_state_dict(state)
        self.vector.copy_(state["network"])
        self.velocity.copy_(state["network_velocity"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
