"""IDM's queue of networks at different stages of training (IDM, section 3.3)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcbench_bacon.contract import Run, State
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.compilation import forward_flops
from dcbench_bacon.networks.flat_parameters import FlatNetwork, NetworkStack
from dcbench_bacon.runtime.compute.cuda_graphs import Tensors
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.step import TrainingStep


class QueueSize(NamedTuple):
    """How many networks are in the queue; defaults as published.

    Attributes:
        capacity: networks kept; the oldest makes room (``net_num``).
        start: networks before the first step.
    """

    capacity: int = 100
    start: int = 3


class Minibatches(NamedTuple):
    """A step's batch of each of k networks."""

    images: Float[Tensor, "k n c h w"]
    labels: Int64[Tensor, "k n"]


class NetworkQueue:
    """Networks as rows of one matrix, with their optimisers and accuracy meters.

    Args:
        run: supplies device, facts and random streams.
        training: of all networks.
        size: of the queue.
    """

    def __init__(
        self, run: Run, training: Training, size: QueueSize | None = None
    ) -> None:
        """Fill the queue with ``size.start`` fresh networks."""
        self.device = run.device
        self.size = size = size or QueueSize()
        info, architecture = run.info, training.architecture
        template = builder.build(
            architecture, channels=info.channels, size=info.size, classes=info.classes
        )
        if template.batch_statistics:
            raise UsageError(
                f"{architecture} keeps batch statistics, which a queue of networks "
                "does not; choose one with instance norm, such as ConvNet"
            )
        template.precision = training.precision  # before the stack copies the design
        self.template = template.to(run.device)
        self.flat = FlatNetwork(self.template)
        self.stack = NetworkStack(self.flat)
        self.together = run.device.type == "cuda"
        self._advance = run.graphed(self._advanced)
        fit = images_per_call(run.device, info.size, template.memory_demand)
        self.update = TrainingStep(self.flat, most=fit)
        self.optimiser = training.optimiser()
        self.fresh = run.generator("queue/networks")
        self.choice = run.generator("queue/choice", device="cpu")
        shape = (size.capacity, len(self.flat))
        self.parameters = torch.zeros(shape, device=run.device)
        self.velocities = torch.zeros(shape, device=run.device)
        self.loaded = torch.zeros(len(self.flat), device=run.device)
        self.correct = torch.zeros(size.capacity, device=run.device)
        self.seen = torch.zeros(size.capacity, device=run.device)
        self.pushed = 0
        for _ in range(size.start):
            self.push()

    def compile(self, run: Run, images: int) -> None:
        """Compile the pass of several networks, if that pays.

        Args:
            run: decides.
            images: forward passes of an image to come, a backward pass counted as two.
        """
        if self.together:
            flops = forward_flops(self.template, run.info)
            self.stack.compile(run, flops * images)

    def __len__(self) -> int:
        """Return the number of networks in the queue."""
        return min(self.pushed, self.size.capacity)

    def push(self) -> None:
        """Add a fresh network in the place of the oldest, if the queue is full."""
        row = self.pushed % self.size.capacity
        self.flat.attach(self.parameters[row])
        builder.reinitialize(self.template, self.fresh)
        for state in (self.velocities, self.correct, self.seen):
            state[row] = 0
        self.pushed += 1

    def pick(self, count: int) -> list[int]:
        """Different networks, uniformly at random, as rows."""
        order = torch.randperm(len(self), generator=self.choice)
        return order[:count].tolist()  # on the host: the generator is

    def load(self, row: int) -> Network:
        """Return the template with a copy of a row's parameters, held constant.

        They are at the same place in memory whatever the row.
        """
        self.loaded.copy_(self.parameters[row])
        self.flat.attach(self.loaded)
        return self.template

    def accuracy(self, row: int) -> Float[Tensor, ""]:
        """Share of training images classified rightly since the last reset.

        Zero when there were none, so that an untrained network adds no cross-entropy.
        """
        return self.correct[row] / self.seen[row].clamp_min(1)

    def reset_meters(self) -> None:
        """Forget all accuracies, as the published code does at every evaluation."""
        self.correct.zero_()
        self.seen.zero_()

    def train(self, rows: Sequence[int], batches: Iterable[Minibatches]) -> None:
        """SGD steps of each of k networks; counts their accuracies.

        Args:
            rows: of the networks.
            batches: of a step each, all of one size.
        """
        if self.together:
            batches = list(batches)
            side, demand = batches[0].images.shape[-1], self.template.memory_demand
            most = images_per_call(self.device, side, demand)
            if batches[0].labels.numel() <= most:
                self._train_together(rows, batches)
                return
        for batch in batches:
            for row, images, labels in zip(rows, *batch, strict=True):
                self._train(row, images, labels)

    def _train(
        self, row: int, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, "n"]
    ) -> None:
        """Train one network, in pieces that fit into memory."""
        self.update.attach(self.parameters[row])
        velocity = self.velocities[row]
        logits = self.update(self.optimiser, velocity, images, labels).logits
        self.correct[row] += (logits.argmax(1) == labels).sum()
        self.seen[row] += len(labels)

    def _train_together(
        self, rows: Sequence[int], batches: Sequence[Minibatches]
    ) -> None:
        """Train all networks in one pass, and all steps in one graph."""
        # Rows one by one: an index of several would have to travel to the device.
        vectors = torch.stack([self.parameters[row] for row in rows])
        velocities = torch.stack([self.velocities[row] for row in rows])
        pieces = [tensor for batch in batches for tensor in batch]
        vectors, velocities, correct = self._advance(vectors, velocities, *pieces)
        for index, row in enumerate(rows):
            self.parameters[row] = vectors[index]
            self.velocities[row] = velocities[index]
            self.correct[row] += correct[index]
            self.seen[row] += sum(batch.labels.shape[1] for batch in batches)

    def _advanced(
        self,
        vectors: Float[Tensor, "k p"],
        velocities: Float[Tensor, "k p"],
        *pieces: Tensor,
    ) -> Tensors:
        """Return parameters, velocities and counts of right images after some steps.

        Args:
            vectors: the parameters before.
            velocities: those before.
            pieces: images and labels of the first step, of the second, and so on.
        """
        vectors, velocities = vectors.clone(), velocities.clone()
        correct = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
        alternating = iter(pieces)
        for images, labels in zip(alternating, alternating, strict=True):
            stacked = self.stack(vectors, images, labels)
            self.optimiser.step(vectors, velocities, stacked.gradient)
            correct += (stacked.logits.argmax(2) == labels).sum(1)
        return vectors, velocities, correct

    def state_dict(self) -> State:
        """Return the rows in use and the meters."""
        used = len(self)
        return {
            "pushed": self.pushed,
            "parameters": self.parameters[:used],
            "velocities": self.velocities[:used],
            "correct": self.correct[:used],
            "seen": self.seen[:used],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from ``state_dict``."""
        self.pushed = state["pushed"]
        for name in ("parameters", "velocities", "correct", "seen"):
            getattr(self, name)[: len(self)] = state[name]
