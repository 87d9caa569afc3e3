"""Gradient matching: the pipeline of DC and DSA.

Zhao, Mopuri and Bilen, ICLR 2021, https://openreview.net/forum?id=mSAKhLYLSsl (DC);
Zhao and Bilen, ICML 2021, https://arxiv.org/abs/2102.08259 (DSA). The images are moved
so that the gradient of a network's loss on them agrees with that on real images, at
every stage of the network's training on the images themselves.

The published code takes the gradients class by class. Here every class has a copy of
the weights, so that one pass gives the gradients of many classes;
``tests/reference_gradient.py`` holds the loop, and the tests compare.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcbench_bacon.contract import Run, State
from dcbench_bacon.distillation.gradient_matcher import GradientMatcher
from dcbench_bacon.distillation.pipeline import (
    Count,
    MatchingSettings,
    Momentum,
    Pipeline,
    Rate,
)
from dcbench_bacon.field_types import Positive
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.training.optimisers import FlatSGD
from dcbench_bacon.training.step import TrainingStep

STATISTICS = 16  # real images a class for batch norm; BNSizePC in main.py


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
        """Refuse loops that nobody has chosen."""
        if not (self.steps and self.outer_loop and self.inner_loop):
            raise ValueError(
                "no loops are published for this number of images a class; choose "
                "all three: --set steps=20000 --set outer_loop=20 --set inner_loop=25"
            )


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
        """Draw the initial images."""
        super().__init__(run, settings)
        self.matcher = GradientMatcher(run, self.real, self.augmentation)
        flat = FlatNetwork(self.network)
        self.vector = flat.vector()
        self.velocity = torch.zeros_like(self.vector)
        self.update = TrainingStep(flat)
        self.update.attach(self.vector)
        self.network_optimiser = FlatSGD(
            settings.network_lr, settings.network_momentum, weight_decay=0.0
        )
        self.shuffling = run.generator("network/shuffle")
        self.training_draws = run.generator("network/augmentation", device="cpu")

    def step(self, index: int) -> None:
        """Bring the network to the step's stage, then update all images."""
        with tensor_cores(self.settings.precision):
            self._step(index)

    def _step(self, index: int) -> None:
        with self.run.phase("queue"):  # the timing table's name for networks
            if index % self.settings.outer_loop == 0:
                builder.reinitialize(self.network, self.run.generator("network"))
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
        """Train the network on the images as they stand."""
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
        """Update the network once: one operation per batch, parameters per image."""
        draw = self.augmentation.draw(1, self.training_draws, samples=len(images))
        images = self.augmentation.apply(images.unsqueeze(0), draw).squeeze(0)
        self.update(self.network_optimiser, self.velocity, images, labels)
        self.run.count(len(images))

    def state_dict(self) -> State:
        """Return the images and the network, with their velocities."""
        return {
            **super().state_dict(),
            "network": self.vector,
            "network_velocity": self.velocity,
            "buffers": dict(self.network.named_buffers()),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from ``state_dict``."""
        super().load_state_dict(state)
        self.vector.copy_(state["network"])
        self.velocity.copy_(state["network_velocity"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
