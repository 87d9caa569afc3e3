"""Networks in training on a synthetic set, one by one or several in one pass.

A batch is augmented, then mixed, and then labelled: a teacher sees what the student
sees.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcbench_bacon.augmentation import policies
from dcbench_bacon.augmentation.mixing import Mix
from dcbench_bacon.contract import Stages, State
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork, Scalar
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.schema import Evaluation
from dcbench_bacon.training import schedules
from dcbench_bacon.training.label_store import see
from dcbench_bacon.training.labelling import mean_logits
from dcbench_bacon.training.losses import Criterion, Targets
from dcbench_bacon.training.optimisers import FlatAdamW, FlatSGD
from dcbench_bacon.training.step import TrainingStep
from dcbench_bacon.training.task import LabelledBatch, Task


class PassAccuracies(NamedTuple):
    """Accuracies after a pass."""

    epoch: int
    accuracy: float
    validation: float | None


class SetTrainer:
    """One network in training on a synthetic set.

    Args:
        clock: supplies the random streams.
        task: what and how.
        architecture: of the network.
        stream: names the network's own random streams; ends in its number.
    """

    def __init__(
        self, clock: Stages, task: Task, architecture: str, stream: str
    ) -> None:
        """Build the network and move the set to the device."""
        self.clock = clock
        self.task = task
        self.protocol = task.protocol
        self.architecture = architecture
        self.stream = stream
        decoded = task.synthetic.decode().to(clock.device)
        self.images, self.labels = decoded.images, decoded.labels
        self.network = self._network().to(clock.device)
        self.network.precision = self.protocol.precision
        self.shuffling = clock.generator(f"{stream}/shuffle")
        self.drawing = clock.generator(f"{stream}/augmentation", device="cpu")
        self.augmentation = policies.build(self.protocol.augmentation, task.info)
        self.mixer = task.mixer
        if self.mixer is not None:
            self.pairing = clock.generator(f"{stream}/mixing", device="cpu")
        self.criterion = Criterion(self.protocol)
        self.criterion.check(self.labels)
        self.flat = FlatNetwork(self.network)
        # The images of a shuffled set that no batch has taken yet.
        self.waiting = torch.empty(0, dtype=torch.int64, device=clock.device)
        self._start()
        self.best: PassAccuracies | None = None

    def _network(self) -> Network:
        """Return the network before its training."""
        if self.task.start is not None:
            return self.task.start(int(self.stream.rpartition("/")[2]))
        info, stream = self.task.info, f"{self.stream}/init"
        return builder.build(
            self.architecture,
            channels=info.channels,
            size=info.size,
            classes=info.classes,
            generator=self.clock.generator(stream, device="cpu"),
            residual_init=self.protocol.residual_init,
        )

    def _start(self) -> None:
        """Set the parameters and the memories of the optimiser and of the average."""
        protocol = self.protocol
        self.vector = self.flat.vector()
        # Networks with batch statistics want the batch whole.
        demand = self.network.memory_demand
        fit = images_per_call(self.images.device, self.task.info.size, demand)
        most = fit if self.stackable else None
        self.update = TrainingStep(self.flat, self.criterion, most)
        # AdamW has two moments a parameter, SGD one velocity.
        moments = 2 if protocol.optimiser == "adamw" else 1
        self.velocity = torch.zeros_like(self.vector).repeat(moments)
        self.average = self.vector.clone() if protocol.ema else None
        self.decay: float | Tensor = protocol.weight_decay
        if protocol.decayed == "matrices":
            self.decay = protocol.weight_decay * self.flat.matrices()

    @property
    def passes(self) -> int:
        """Forward passes of an image in training; a backward pass counts as two."""
        return 3 * self.protocol.images_seen(len(self.images))

    @property
    def stackable(self) -> bool:
        """Whether several such networks can be trained in one pass."""
        return not self.network.batch_statistics and self.task.kept is None

    def epoch(self, index: int) -> None:
        """Train for one pass over the set; measure where the protocol asks for it."""
        optimiser = self.optimiser(*self.begin(index))
        self.network.train()
        with tensor_cores(self.protocol.precision):
            if self.task.kept is None:
                for batch in self.batches(index):
                    self._step(optimiser, prepare([self], batch[None]))
            else:
                for kept in self.task.kept(index):
                    self._step(optimiser, replayed(self, kept))
        self.measure(index)

    def begin(self, index: int) -> tuple[float, int]:
        """Return the learning rate of a pass, and the steps its optimiser has taken."""
        protocol = self.protocol
        if schedules.restarts(protocol, index):
            self.velocity.zero_()
        restart = schedules.last_restart(protocol, index)
        return schedules.learning_rate(protocol, index), (
            self._updates_before(index) - self._updates_before(restart)
        )

    def _updates_before(self, index: int) -> int:
        """Return the number of updates before the pass of an index."""
        return self.protocol.updates_before(index, len(self.images))

    def optimiser(self, rate: Scalar, steps_taken: Scalar) -> FlatSGD | FlatAdamW:
        """Return the optimiser at a rate, after so many steps."""
        if self.protocol.optimiser == "adamw":
            return FlatAdamW(rate, self.decay, steps_taken)
        return FlatSGD(rate, self.protocol.momentum, self.decay)

    def batches(self, index: int) -> list[Int64[Tensor, "n"]]:
        """Return the indices of the images of a pass's batches, shuffled.

        Under a budget of updates, a pass takes its share of them from an endless row of
        shuffled sets.
        """
        count = self._updates_before(index + 1) - self._updates_before(index)
        pieces: list[Tensor] = []
        while len(pieces) < count:
            if not len(self.waiting):
                self.waiting = torch.randperm(
                    len(self.images),
                    generator=self.shuffling,
                    device=self.images.device,
                )
            size = self.protocol.batch_size
            pieces.append(self.waiting[:size])
            self.waiting = self.waiting[size:]
        return pieces

    def measure(self, index: int) -> None:
        """Test the network after a pass where the protocol asks for it."""
        protocol = self.protocol
        last = index == protocol.epochs - 1
        due = (index + 1) % protocol.measure_every == 0
        if last or (due and protocol.selection != "final"):
            with self.clock.phase("test"):
                if self.average is not None:  # batch statistics stay the live ones
                    self.flat.attach(self.average)
                self._measure(index)
                self.flat.attach(self.vector)

    def evaluation(self, seconds: float) -> Evaluation:
        """Return the outcome, after the last pass."""
        best = self.best
        assert best is not None  # the last pass always measures
        return Evaluation(
            architecture=self.architecture,
            trial=int(self.stream.rpartition("/")[2]),
            accuracy=best.accuracy,
            epoch=best.epoch,
            validation=best.validation,
            seconds=seconds,
            learning_rate=self.protocol.learning_rate,
        )

    def _step(self, optimiser: FlatSGD | FlatAdamW, batch: "TrainingBatch") -> None:
        """Update the network once on a batch."""
        targets = Targets(*(target[0] for target in batch.targets))
        with self.clock.phase("train"):
            self.update.attach(self.vector)  # a measurement has let go of the gradient
            outcome = self.update(optimiser, self.velocity, batch.images[0], targets)
            if self.average is not None:
                self.average.lerp_(self.vector, 1 - self.protocol.ema)
        self.clock.count(batch.images.shape[1])
        self.clock.watch("loss", outcome.loss)

    def _measure(self, epoch: int) -> None:
        """Keep the accuracies of this pass if it is the best so far."""
        task, validation = self.task, None
        if task.validation is not None:
            validation = task.measure(self.network, task.validation, task.info)
            chosen_on_it = self.protocol.selection == "best_val"
            if chosen_on_it and self.best and validation <= (self.best.validation or 0):
                return
        tested = task.measure(self.network, task.test, task.info)
        chosen_on_test = self.protocol.selection == "best_test"
        if chosen_on_test and self.best and tested <= self.best.accuracy:
            return
        self.best = PassAccuracies(epoch, tested, validation)

    def state_dict(self) -> State:
        """Return the network, its optimiser and the best pass so far."""
        return {
            "vector": self.vector,
            "velocity": self.velocity,
            "average": self.average,
            "buffers": dict(self.network.named_buffers()),
            "best": self.best,
            "waiting": self.waiting,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from ``state_dict``."""
        self.vector.copy_(state["vector"])
        self.velocity.copy_(state["velocity"])
        if self.average is not None:
            self.average.copy_(state["average"])
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.best = PassAccuracies(*state["best"]) if state["best"] else None
        if "waiting" in state:  # not in the checkpoints of earlier versions
            self.waiting = state["waiting"].to(self.waiting.device)


class TrainingBatch(NamedTuple):
    """A step's batch of each of several networks.

    Attributes:
        images: augmented and mixed.
        targets: what they are to be classified as.
    """

    images: Float[Tensor, "t n c h w"]
    targets: Targets


def prepare(
    trainers: Sequence[SetTrainer], index: Int64[Tensor, "t n"]
) -> TrainingBatch:
    """Draw, augments, mixes and labels a batch for each trainer.

    Args:
        trainers: share task and clock.
        index: of the images, a row a trainer.
    """
    first, count = trainers[0], index.shape[1]
    with first.clock.phase("augmentation"):
        draws = [
            trainer.augmentation.draw(1, trainer.drawing, samples=count)
            for trainer in trainers
        ]
        images = torch.unflatten(first.images[index.flatten()], 0, index.shape)
        # All of one kind, that of the augmentation that drew them.
        joined: Any = draws[0].cat(draws)
        images = first.augmentation.apply(images, joined)
        labels = original = first.labels[index]
        if first.mixer is not None:
            mixes = [first.mixer.draw(count, trainer.pairing) for trainer in trainers]
            mix = Mix.cat(mixes)
            images, labels = mix.images(images), mix.labels(labels)
    if first.task.teachers:
        with first.clock.phase("teacher"):
            logits = mean_logits(first.task.teachers, images.flatten(0, 1))
            labels = torch.unflatten(logits, 0, index.shape)
    return TrainingBatch(images, Targets(labels, original))


def replayed(trainer: SetTrainer, batch: LabelledBatch) -> TrainingBatch:
    """Return a batch as it was when its labels were made."""
    index = batch.positions.to(trainer.images.device)
    with trainer.clock.phase("augmentation"):
        how = (trainer.augmentation, index, batch.draw, batch.mix)
        images = see(trainer.images, *how)
    logits, original = batch.logits.to(images), trainer.labels[index]
    return TrainingBatch(images[None], Targets(logits[None], original[None]))
