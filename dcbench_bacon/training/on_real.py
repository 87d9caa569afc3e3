"""Training on real images, which stay on the device as bytes.

Each batch is normalised and augmented by itself, so that 50,000 images take 150 MB
and not 600. Every batch is a step of its own: a pass over a large data set can be
stopped and resumed in its middle. The rest is the protocol's (``evaluate.py``):
``epochs + 1`` passes of SGD, and from the pass of index ``epochs // 2 + 2`` on a tenth
of the learning rate with a momentum that starts anew.
"""

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import normalize
from dcbench_bacon.field_types import Precision
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.compilation import compile_network
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.runtime.precision import tensor_cores
from dcbench_bacon.training import schedules
from dcbench_bacon.training.optimisers import FlatSGD


class Training(Struct, frozen=True, kw_only=True):
    """How a network is trained; the attributes are those of ``schema.Protocol``.

    Attributes:
        architecture: as ``networks.build`` takes it.
        epochs: one less than the passes.
        learning_rate: of SGD, before it drops.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: images a step.
        augmentation: DSA operations joined by ``_``, parameters drawn an image; empty
            for none.
        precision: of the network's arithmetic.
    """

    architecture: str
    epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    augmentation: str
    precision: Precision = "tf32"


def train(run: Run, training: Training, stage: str) -> Network:
    """Trains a network on the run's train split, as a stage of the run.

    Args:
        run: supplies images, random streams and the clock.
        training: how.
        stage: names the stage and the random streams.

    Returns:
        The network in evaluation mode.
    """
    learner = RealImageTrainer(run, training, stage)
    for index in run.steps(stage, learner.steps, state=learner):
        learner.step(index)
    return learner.network.eval()


class RealImageTrainer:
    """A network in training on real images.

    Args:
        run: supplies images, random streams and phases.
        training: how.
        stream: names the random streams.
    """

    def __init__(self, run: Run, training: Training, stream: str) -> None:
        """Builds the network."""
        self.run = run
        self.training = training
        info = run.info
        self.network = builder.build(
            training.architecture,
            channels=info.channels,
            size=info.size,
            classes=info.classes,
            generator=run.generator(f"{stream}/init", device="cpu"),
        ).to(run.device)
        self.network.precision = training.precision
        passes = 3 * (training.epochs + 1) * len(run.train.labels)
        compile_network(run, self.network, info, passes)
        self.shuffling = run.generator(f"{stream}/shuffle")
        self.drawing = run.generator(f"{stream}/augmentation", device="cpu")
        self.augmentation = Augmentation(training.augmentation, (info.size, info.size))
        self.flat = FlatNetwork(self.network)
        self.vector = self.flat.vector()
        self.velocity = torch.zeros_like(self.vector)
        self.gradient = torch.zeros_like(self.vector)
        self.flat.attach(self.vector, self.gradient)
        self.order = torch.arange(len(run.train.labels), device=run.device)
        self.batches = -(-len(self.order) // training.batch_size)

    @property
    def steps(self) -> int:
        """Batches of all passes."""
        return self.batches * (self.training.epochs + 1)

    def step(self, index: int) -> None:
        """One update; the first of a pass draws its order."""
        training = self.training
        epoch, batch = divmod(index, self.batches)
        dropped = schedules.dropped(training.epochs)
        if batch == 0:
            self._begin(afresh=epoch == dropped)
        rate = training.learning_rate * (0.1 if epoch >= dropped else 1)
        optimiser = FlatSGD(rate, training.momentum, training.weight_decay)
        start = batch * training.batch_size
        self._update(optimiser, self.order[start : start + training.batch_size])

    def _begin(self, afresh: bool) -> None:
        """Draws the order of a pass, and forgets the momentum if ``afresh``."""
        self.order = torch.randperm(
            len(self.order), generator=self.shuffling, device=self.order.device
        )
        if afresh:
            self.velocity.zero_()

    def _update(self, optimiser: FlatSGD, index: Tensor) -> None:
        """One update on the images at ``index``."""
        with self.run.phase("augmentation"):
            images = normalize(self.run.train.images[index], self.run.info)
            draw = self.augmentation.draw(1, self.drawing, samples=len(images))
            images = self.augmentation.apply(images.unsqueeze(0), draw).squeeze(0)
        with self.run.phase("train"), tensor_cores(self.training.precision):
            self.network.train()
            self.flat.attach(self.vector, self.gradient.zero_())
            loss = F.cross_entropy(self.network(images), self.run.train.labels[index])
            torch.autograd.backward(loss)
            optimiser.step(self.vector, self.velocity, self.gradient)
        self.run.count(len(index))
        self.run.watch("loss", loss)

    def state_dict(self) -> State:
        """The network, its optimiser and the order of the pass."""
        return {
            "vector": self.vector,
            "velocity": self.velocity,
            "buffers": dict(self.network.named_buffers()),
            "order": self.order,
        }

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        self.vector.copy_(state["vector"])
        self.velocity.copy_(state["velocity"])
        self.order.copy_(state["order"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
