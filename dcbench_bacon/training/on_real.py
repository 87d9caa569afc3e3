"""Training on real images, which stay on the device as bytes.

Each batch is normalised and augmented by itself, so that 50,000 images take 150 MB
and not 600. Every batch is a step of its own: a pass over a large data set can be
stopped and resumed in its middle. The rest is the protocol's (``evaluate.py``) unless
the settings say otherwise: SGD, and in the second half of the epochs a tenth of the
learning rate with a momentum that starts anew.
"""

import torch

from dcbench_bacon.augmentation import policies
from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.splits import Feed
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.compilation import compile_network
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.training.optimisers import FlatSGD
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.step import TrainingStep


def train(run: Run, training: Training, stage: str) -> Network:
    """Train a network on the run's train split, as a stage of the run.

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
        """Build the network."""
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
        images = 3 * training.epochs * len(run.train.labels)
        compile_network(run, self.network, info, images)
        self.shuffling = run.generator(f"{stream}/shuffle")
        self.drawing = run.generator(f"{stream}/augmentation", device="cpu")
        self.augmentation = policies.build(training.augmentation, info)
        flat = FlatNetwork(self.network)
        self.vector = flat.vector()
        self.velocity = torch.zeros_like(self.vector)
        self.update = TrainingStep(flat)
        self.update.attach(self.vector)
        self.order = torch.arange(len(run.train.labels), device=run.device)
        self.batches = -(-len(self.order) // training.batch_size)
        self.feed = Feed(run.train, training.batch_size)

    @property
    def steps(self) -> int:
        """Batches of all epochs."""
        return self.batches * self.training.epochs

    def step(self, index: int) -> None:
        """Update the network once; the first update of a pass draws the order."""
        training = self.training
        epoch, batch = divmod(index, self.batches)
        if batch == 0:
            self._begin(afresh=training.restarts(epoch))
        optimiser = training.optimiser(training.factor(epoch))
        self._update(optimiser, batch)

    def _begin(self, afresh: bool) -> None:
        """Draw the order of a pass, and forget the momentum if ``afresh``."""
        self.order = torch.randperm(
            len(self.order), generator=self.shuffling, device=self.order.device
        )
        if afresh:
            self.velocity.zero_()

    def _update(self, optimiser: FlatSGD, batch: int) -> None:
        """Update the network once on a batch of the pass."""
        with self.run.phase("augmentation"):
            images, labels = self.feed.batch(batch, self.order)
            draw = self.augmentation.draw(1, self.drawing, samples=len(images))
            images = self.augmentation.apply(images.unsqueeze(0), draw).squeeze(0)
        with self.run.phase("train"), tensor_cores(self.training.precision):
            self.network.train()
            outcome = self.update(optimiser, self.velocity, images, labels)
        self.run.count(len(labels))
        self.run.watch("loss", outcome.loss)

    def state_dict(self) -> State:
        """Return the network, its optimiser and the order of the pass."""
        return {
            "vector": self.vector,
            "velocity": self.velocity,
            "buffers": dict(self.network.named_buffers()),
            "order": self.order,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from ``state_dict``."""
        self.vector.copy_(state["vector"])
        self.velocity.copy_(state["velocity"])
        self.order.copy_(state["order"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
