"""Fair evaluation: train fresh networks on a set, test them on real images.

The protocol is the field's (``evaluate_synset`` of VICO-UoE/DatasetCondensation):
``epochs + 1`` passes of SGD; after the pass of index ``epochs // 2 + 1`` the learning
rate falls to a tenth and the optimiser starts anew, so that its momentum is lost. The
accuracy is that after the last pass unless the protocol selects otherwise.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon import networks
from dcbench_bacon.augment import Augmentation
from dcbench_bacon.clock import Clock
from dcbench_bacon.data import normalize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.flat import FlatNetwork, FlatSGD
from dcbench_bacon.memory import images_per_call
from dcbench_bacon.networks import Network
from dcbench_bacon.schema import DatasetInfo, Evaluation, Protocol
from dcbench_bacon.spec import Split, State, SyntheticSet


class Task(NamedTuple):
    """What is evaluated, and against what.

    Attributes:
        synthetic: the set; decoded before use.
        test: real images.
        info: facts of the data set.
        protocol: how.
        validation: held out of train, for ``best_val``.
    """

    synthetic: SyntheticSet
    test: Split
    info: DatasetInfo
    protocol: Protocol
    validation: Split | None = None


def evaluate(clock: Clock, task: Task, prefix: str = "evaluate") -> list[Evaluation]:
    """Trains and tests every network of the protocol, one stage each.

    Args:
        clock: supplies random streams, checkpoints and progress.
        task: what and how.
        prefix: names the stages.
    """
    protocol = task.protocol
    if (protocol.selection == "best_val") != (task.validation is not None):
        raise UsageError("selection best_val goes with a validation split, and only it")
    return [
        _one(clock, task, architecture, trial, f"{prefix}/{architecture}/{trial}")
        for architecture in protocol.architectures
        for trial in range(protocol.networks)
    ]


def _one(
    clock: Clock, task: Task, architecture: str, trial: int, stage: str
) -> Evaluation:
    """Trains and tests one network."""
    trainer = Trainer(clock, task, architecture, stage)
    for epoch in clock.steps(stage, task.protocol.epochs + 1, state=trainer):
        trainer.epoch(epoch)
    best = trainer.best
    assert best is not None  # the last pass always measures
    return Evaluation(
        architecture=architecture,
        trial=trial,
        accuracy=best.accuracy,
        epoch=best.epoch,
        validation=best.validation,
        seconds=clock.timings[stage].seconds,
    )


def accuracy(network: Network, split: Split, info: DatasetInfo) -> float:
    """The share of a split that a network classifies rightly, in [0, 1]."""
    most = images_per_call(split.images.device, info.size)
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.images.device)
    with torch.no_grad():
        pieces = (torch.split(each, most) for each in (split.images, split.labels))
        for images, labels in zip(*pieces, strict=True):
            logits = network(normalize(images, info))
            correct += (logits.argmax(1) == labels).sum()
    return correct.item() / len(split.labels)


class Measured(NamedTuple):
    """Accuracies after a pass."""

    epoch: int
    accuracy: float
    validation: float | None


class Trainer:
    """One network in training on a synthetic set.

    Args:
        clock: supplies the random streams.
        task: what and how.
        architecture: of the network.
        stream: names the network's own random streams.
    """

    def __init__(
        self, clock: Clock, task: Task, architecture: str, stream: str
    ) -> None:
        """Builds the network and moves the set to the device."""
        self.clock = clock
        self.task = task
        self.protocol = task.protocol
        decoded = task.synthetic.decode().to(clock.device)
        self.images, self.labels = decoded.images, decoded.labels
        info = task.info
        self.network = networks.build(
            architecture,
            channels=info.channels,
            size=info.size,
            classes=info.classes,
            generator=clock.generator(f"{stream}/init", device="cpu"),
        ).to(clock.device)
        self.shuffling = clock.generator(f"{stream}/shuffle")
        self.drawing = clock.generator(f"{stream}/augmentation", device="cpu")
        self.augmentation = Augmentation(
            self.protocol.augmentation, (info.size, info.size)
        )
        self.flat = FlatNetwork(self.network)
        self.vector = self.flat.vector()
        self.velocity = torch.zeros_like(self.vector)
        self.gradient = torch.zeros_like(self.vector)
        self.best: Measured | None = None

    def epoch(self, index: int) -> None:
        """One pass over the set; measures where the protocol says so."""
        protocol = self.protocol
        dropped = protocol.epochs // 2 + 2  # the first pass after the drop
        if index == dropped:
            self.velocity.zero_()
        rate = protocol.learning_rate * (0.1 if index >= dropped else 1)
        optimiser = FlatSGD(rate, protocol.momentum, protocol.weight_decay)
        self.network.train()
        device = self.images.device
        order = torch.randperm(
            len(self.images), generator=self.shuffling, device=device
        )
        for index_batch in torch.split(order, protocol.batch_size):
            self._step(optimiser, index_batch)
        last = index == protocol.epochs
        due = (index + 1) % protocol.measure_every == 0
        if last or (due and protocol.selection != "final"):
            with self.clock.phase("test"):
                self._measure(index)

    def _step(self, optimiser: FlatSGD, index: Tensor) -> None:
        """One update on the images at ``index``."""
        with self.clock.phase("augmentation"):
            images = self._augment(self.images[index])
        with self.clock.phase("train"):
            self.flat.attach(self.vector, self.gradient.zero_())
            loss = F.cross_entropy(self.network(images), self.labels[index])
            torch.autograd.backward(loss)
            optimiser.step(self.vector, self.velocity, self.gradient)
        self.clock.count(len(index))
        self.clock.watch("loss", loss)

    def _augment(
        self, images: Float32[Tensor, "n c h w"]
    ) -> Float32[Tensor, "n c h w"]:
        """One operation for the batch, parameters of its own for each image."""
        draw = self.augmentation.draw(1, self.drawing, samples=len(images))
        return self.augmentation.apply(images.unsqueeze(0), draw).squeeze(0)

    def _measure(self, epoch: int) -> None:
        """Keeps the accuracies of this pass if it is the best so far."""
        validation = None
        if self.task.validation is not None:
            validation = accuracy(self.network, self.task.validation, self.task.info)
            if self.best is not None and validation <= (self.best.validation or 0):
                return
        tested = accuracy(self.network, self.task.test, self.task.info)
        chosen_on_test = self.protocol.selection == "best_test"
        if chosen_on_test and self.best and tested <= self.best.accuracy:
            return
        self.best = Measured(epoch, tested, validation)

    def state_dict(self) -> State:
        """The network, its optimiser and the best pass so far."""
        return {
            "vector": self.vector,
            "velocity": self.velocity,
            "buffers": dict(self.network.named_buffers()),
            "best": self.best,
        }

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        self.vector.copy_(state["vector"])
        self.velocity.copy_(state["velocity"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.best = Measured(*state["best"]) if state["best"] else None
