"""IDM's pipeline: partitioned images, a queue of networks, a regulariser."""

from typing import Literal

import torch

from dcbench_bacon.contract import Run, State
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.feature_matching import MatchingBatch
from dcbench_bacon.distillation.network_queue import (
    Minibatches,
    NetworkQueue,
    QueueSize,
)
from dcbench_bacon.distillation.objectives import Objective
from dcbench_bacon.distillation.pipeline import (
    Count,
    MatchingSettings,
    Momentum,
    NonNegative,
    Rate,
)
from dcbench_bacon.field_types import Parts, Positive
from dcbench_bacon.networks import base
from dcbench_bacon.runtime.precision import tensor_cores
from dcbench_bacon.training.settings import Training


class ImprovedMatchingSettings(MatchingSettings, frozen=True, kw_only=True):
    """Hyper-parameters of IDM's pipeline; published names in brackets.

    Attributes:
        partition: parts along each side of a synthetic image.
        ce_weight: of the cross-entropy, times the network's accuracy.
        accuracy_unit: the published code multiplies by percent, 0 to 100.
        meter_reset_interval: steps between resets of the accuracies; the published
            code resets them at each evaluation (``eval_interval``). 0 for never.
        queue_size: networks kept (``net_num``).
        queue_start: networks before the first step.
        queue_interval: steps between fresh networks (``net_generate_interval``).
        queue_trained: networks trained after a step (``fetch_net_num``).
        queue_train_steps: their mini-batches a step (``model_train_steps``).
        queue_batch: images a mini-batch.
        network_lr: learning rate of the networks.
        network_momentum: momentum of the networks (``--net_decay``).
        network_weight_decay: weight decay of the networks (``--net_decay``).
        update: one update for all classes, or the published loop over classes.
    """

    image_lr: Rate = 0.2
    partition: Parts = 2
    ce_weight: NonNegative = 0.5
    accuracy_unit: Literal["percent", "fraction"] = "percent"
    meter_reset_interval: Count = 100
    queue_size: Positive = 100
    queue_start: Positive = 3
    queue_interval: Positive = 30
    queue_trained: Positive = 2
    queue_train_steps: Positive = 10
    queue_batch: Positive = 256
    network_lr: Rate = 0.01
    network_momentum: Momentum = 0.9
    network_weight_decay: NonNegative = 5e-4
    update: Literal["closed", "sequential"] = "closed"


class ImprovedMatching(DistributionMatching):
    """IDM's pipeline: partitioned images, a queue of networks, a cross-entropy.

    Args:
        run: what the harness lends.
        settings: hyper-parameters.
        objective: from features to a loss a class.
    """

    settings: ImprovedMatchingSettings

    def __init__(
        self, run: Run, settings: ImprovedMatchingSettings, objective: Objective
    ) -> None:
        """Draws the initial images and fills the queue."""
        self.minibatches = run.generator("queue/minibatches")
        visits = run.info.classes if settings.update == "closed" else 1
        super().__init__(run, settings, objective, settings.partition, visits)

    def _network(self) -> base.Network:
        """The network that takes its parameters from the queue."""
        settings = self.settings
        training = Training(
            architecture=settings.architecture,
            learning_rate=settings.network_lr,
            momentum=settings.network_momentum,
            weight_decay=settings.network_weight_decay,
            batch_size=settings.queue_batch,
            precision=settings.precision,
        )
        size = QueueSize(settings.queue_size, settings.queue_start)
        self.queue = NetworkQueue(self.run, training, size)
        self.queue.compile(self.run, settings.steps * self._trained())
        return self.queue.template

    def _passes(self) -> int:
        """Those of matching, and of training the queue."""
        return super()._passes() + self._trained()

    def _trained(self) -> int:
        """Passes of training the queue in a step."""
        settings = self.settings
        trained = settings.queue_trained * settings.queue_train_steps
        return 3 * trained * settings.queue_batch

    def step(self, index: int) -> None:
        """One update of all images, then some training of the queue."""
        with tensor_cores(self.settings.precision):
            self._step(index)

    def _step(self, index: int) -> None:
        settings = self.settings
        with self.run.phase("queue"):
            every = settings.meter_reset_interval
            if every and index and index % every == 0:
                self.queue.reset_meters()
            if index % settings.queue_interval == 0:
                self.queue.push()
            (row,) = self.queue.pick(1)
            self.queue.load(row)
            unit = 100 if settings.accuracy_unit == "percent" else 1
            weight = settings.ce_weight * unit * self.queue.accuracy(row)
        batch = MatchingBatch(*self._draw(), weight)
        if settings.update == "closed":
            self._match(batch)
        else:
            self._match_in_turn(batch)
        with self.run.phase("queue"):
            self._train()

    def _match_in_turn(self, batch: MatchingBatch) -> None:
        """The published loop: one optimiser step on all images after each class."""
        total = torch.zeros((), device=self.images.device)
        for label in range(len(self.images)):
            some = slice(label, label + 1)
            losses, own = self.matcher.classes(batch, self.images, some)
            gradient = torch.zeros_like(self.images)
            gradient[some] = own
            self.optimiser.step(self.images, gradient)
            total += losses.sum()
        self.run.watch("loss", total / len(self.images))

    def _train(self) -> None:
        """Trains ``queue_trained`` networks, each on mini-batches of its own."""
        settings = self.settings
        rows = self.queue.pick(settings.queue_trained)
        shape = (len(rows), settings.queue_train_steps, settings.queue_batch)
        index = self.real.minibatches(shape, self.minibatches)
        steps = (Minibatches(*self.real.labelled(some)) for some in index.unbind(1))
        self.queue.train(rows, steps)
        self.run.count(index.numel())

    def state_dict(self) -> State:
        """The images, their velocity and the queue."""
        return {**super().state_dict(), "queue": self.queue.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        super().load_state_dict(state)
        self.queue.load_state_dict(state["queue"])
