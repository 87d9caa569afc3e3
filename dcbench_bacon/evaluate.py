"""Fair evaluation: train fresh networks on a set, test them on real images.

The protocol is the field's (``evaluate_synset`` of VICO-UoE/DatasetCondensation):
``epochs + 1`` passes of SGD; after the pass of index ``epochs // 2 + 1`` the learning
rate falls to a tenth and the optimiser starts anew, so that its momentum is lost. The
accuracy is that after the last pass unless the protocol selects otherwise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon import networks
from dcbench_bacon.augment import Augmentation, Draw
from dcbench_bacon.clock import Clock
from dcbench_bacon.compiling import compile_network, forward_flops
from dcbench_bacon.data import normalize
from dcbench_bacon.errors import UsageError
from dcbench_bacon.flat import FlatNetwork, FlatSGD, NetworkStack
from dcbench_bacon.memory import images_per_call
from dcbench_bacon.networks import Network
from dcbench_bacon.precision import tensor_cores
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


def evaluate(
    clock: Clock, task: Task, prefix: str = "evaluate", *, together: bool | None = None
) -> list[Evaluation]:
    """Trains and tests every network of the protocol.

    Args:
        clock: supplies random streams, checkpoints and progress.
        task: what and how.
        prefix: names the stages: one for the networks of an architecture that train
            together, or one for each network.
        together: train the networks of an architecture in one pass, to the same
            numbers but for rounding. By default on a GPU; networks with batch
            statistics are trained one by one in any case.
    """
    protocol = task.protocol
    if (protocol.selection == "best_val") != (task.validation is not None):
        raise UsageError("selection best_val goes with a validation split, and only it")
    task = task._replace(synthetic=task.synthetic.decode().to(clock.device))
    together = clock.device.type == "cuda" if together is None else together
    found = []
    for architecture in protocol.architectures:
        stage = f"{prefix}/{architecture}"
        trials = range(protocol.networks)
        trainers = [Trainer(clock, task, architecture, f"{stage}/{i}") for i in trials]
        if together and trainers[0].stackable:
            found += _together(clock, task, stage, trainers)
        else:
            found += [_alone(clock, task, trainer) for trainer in trainers]
    return found


def _alone(clock: Clock, task: Task, trainer: "Trainer") -> Evaluation:
    """Trains and tests one network, a stage of its own."""
    images = task.protocol.networks * trainer.passes
    compile_network(clock, trainer.network, task.info, images)
    for epoch in clock.steps(trainer.stream, task.protocol.epochs + 1, state=trainer):
        trainer.epoch(epoch)
    return trainer.evaluation(clock.timings[trainer.stream].seconds)


def _together(
    clock: Clock, task: Task, stage: str, trainers: Sequence["Trainer"]
) -> list[Evaluation]:
    """Trains as many networks at a time as memory takes, and tests them."""
    batch = min(task.protocol.batch_size, len(trainers[0].images))
    fit = max(1, images_per_call(clock.device, task.info.size) // batch)
    found = []
    for start in range(0, len(trainers), fit):
        stack = TrainerStack(trainers[start : start + fit])
        name = f"{stage}/{start}-{start + len(stack.trainers) - 1}"
        flops = forward_flops(trainers[0].network, task.info) * trainers[0].passes
        stack.gradients.compile(clock, flops * len(trainers))
        for epoch in clock.steps(name, task.protocol.epochs + 1, state=stack):
            stack.epoch(epoch)
        seconds = clock.timings[name].seconds / len(stack.trainers)
        found += [trainer.evaluation(seconds) for trainer in stack.trainers]
    return found


def accuracy(network: Network, split: Split, info: DatasetInfo) -> float:
    """The share of a split that a network classifies rightly, in [0, 1].

    Never compiled: it is called too seldom for batches of a shape of their own.
    """
    most = images_per_call(split.images.device, info.size)
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.images.device)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
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
        stream: names the network's own random streams; ends in its number.
    """

    def __init__(
        self, clock: Clock, task: Task, architecture: str, stream: str
    ) -> None:
        """Builds the network and moves the set to the device."""
        self.clock = clock
        self.task = task
        self.protocol = task.protocol
        self.architecture = architecture
        self.stream = stream
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
        self.network.precision = self.protocol.precision
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

    @property
    def passes(self) -> int:
        """Forward passes of an image in training; a backward pass counts as two."""
        return 3 * (self.protocol.epochs + 1) * len(self.images)

    @property
    def stackable(self) -> bool:
        """Whether several such networks can be trained in one pass."""
        return not any(True for _ in self.network.buffers())

    def epoch(self, index: int) -> None:
        """One pass over the set; measures where the protocol says so."""
        optimiser = self.optimiser(index)
        self.network.train()
        with tensor_cores(self.protocol.precision):
            for batch in self.batches():
                self._step(optimiser, batch)
        self.measure(index)

    def optimiser(self, index: int) -> FlatSGD:
        """The optimiser of a pass; without momentum after the rate has dropped."""
        protocol = self.protocol
        dropped = protocol.epochs // 2 + 2  # the first pass after the drop
        if index == dropped:
            self.velocity.zero_()
        rate = protocol.learning_rate * (0.1 if index >= dropped else 1)
        return FlatSGD(rate, protocol.momentum, protocol.weight_decay)

    def batches(self) -> tuple[Int64[Tensor, "n"], ...]:
        """The indices of a pass's batches, shuffled."""
        order = torch.randperm(
            len(self.images), generator=self.shuffling, device=self.images.device
        )
        return torch.split(order, self.protocol.batch_size)

    def draw(self, count: int) -> Draw:
        """One operation for a batch, parameters of its own for each image."""
        return self.augmentation.draw(1, self.drawing, samples=count)

    def measure(self, index: int) -> None:
        """Tests the network after a pass where the protocol says so."""
        protocol = self.protocol
        last = index == protocol.epochs
        due = (index + 1) % protocol.measure_every == 0
        if last or (due and protocol.selection != "final"):
            with self.clock.phase("test"):
                self._measure(index)

    def evaluation(self, seconds: float) -> Evaluation:
        """The outcome, after the last pass."""
        best = self.best
        assert best is not None  # the last pass always measures
        return Evaluation(
            architecture=self.architecture,
            trial=int(self.stream.rpartition("/")[2]),
            accuracy=best.accuracy,
            epoch=best.epoch,
            validation=best.validation,
            seconds=seconds,
        )

    def _step(self, optimiser: FlatSGD, index: Tensor) -> None:
        """One update on the images at ``index``."""
        with self.clock.phase("augmentation"):
            draw = self.draw(len(index))
            images = self.augmentation.apply(self.images[index][None], draw)[0]
        with self.clock.phase("train"):
            self.flat.attach(self.vector, self.gradient.zero_())
            loss = F.cross_entropy(self.network(images), self.labels[index])
            torch.autograd.backward(loss)
            optimiser.step(self.vector, self.velocity, self.gradient)
        self.clock.count(len(index))
        self.clock.watch("loss", loss)

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


class TrainerStack:
    """Networks of one architecture in training on one set, a batch of each at a time.

    Args:
        trainers: share task and architecture; from here on their parameters are rows
            of this object's.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        """Makes one matrix of all parameters."""
        self.trainers = trainers
        self.gradients = NetworkStack(trainers[0].flat)
        self.vectors = torch.stack([each.vector for each in trainers])
        self.velocities = torch.zeros_like(self.vectors)
        for row, each in enumerate(trainers):
            each.vector, each.velocity = self.vectors[row], self.velocities[row]

    def epoch(self, index: int) -> None:
        """One pass of every network over the set."""
        optimisers = [each.optimiser(index) for each in self.trainers]
        passes = [each.batches() for each in self.trainers]
        with tensor_cores(self.trainers[0].protocol.precision):
            for batches in zip(*passes, strict=True):
                self._step(optimisers[0], torch.stack(batches))
        for each in self.trainers:
            each.flat.attach(each.vector)
            each.measure(index)

    def _step(self, optimiser: FlatSGD, index: Int64[Tensor, "k n"]) -> None:
        """One update of every network on images of its own."""
        first, clock = self.trainers[0], self.trainers[0].clock
        with clock.phase("augmentation"):
            draws = [each.draw(index.shape[1]) for each in self.trainers]
            images = torch.unflatten(first.images[index.flatten()], 0, index.shape)
            images = first.augmentation.apply(images, Draw.cat(draws))
        with clock.phase("train"):
            labels = first.labels[index]
            stacked = self.gradients(self.vectors, images, labels)
            optimiser.step(self.vectors, self.velocities, stacked.gradient)
        clock.count(index.numel())
        clock.watch("loss", stacked.losses.mean())

    def state_dict(self) -> State:
        """The states of all trainers."""
        return {"trainers": [each.state_dict() for each in self.trainers]}

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        for each, own in zip(self.trainers, state["trainers"], strict=True):
            each.load_state_dict(own)
