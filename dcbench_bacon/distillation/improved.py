"""IDM's pipeline (Zhao et al., CVPR 2023): partitioned images and a network queue."""

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
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.training.settings import Training


class ImprovedMatchingSettings(MatchingSettings, frozen=True, kw_only=True):
    """Hyper-parameters of IDM's pipeline; published names in brackets.

    Attributes:
        partition: number of parts along each side of a synthetic image.
        ce_weight: weight of the cross-entropy, multiplied by the network's accuracy.
        accuracy_unit: unit of that accuracy: ``percent`` (0 to 100, as in the
            published code) or ``fraction`` (0 to 1).
        meter_reset_interval: steps between resets of the accuracies; the published
            code resets them at each evaluation (``eval_interval``). 0 means never.
        queue_size: largest number of networks in the queue (``net_num``).
        queue_start: number of networks before the first step.
        queue_interval: steps between fresh networks (``net_generate_interval``).
        queue_trained: networks trained after each step (``fetch_net_num``).
        queue_train_steps: mini-batches per step and trained network
            (``model_train_steps``).
        queue_batch: images per mini-batch.
        network_lr: learning rate of the networks.
        network_momentum: momentum of the networks (``--net_decay``).
        network_weight_decay: weight decay of the networks (``--net_decay``).
        update: ``closed`` for one update of all classes, ``sequential`` for the
            published loop over classes.
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
        run: the cell's data, random streams and clock.
        settings: the hyper-parameters.
        objective: computes one loss per class from features.
    """

    settings: ImprovedMatchingSettings

    def __init__(
        self, run: Run, settings: ImprovedMatchingSettings, objective: Objective
    ) -> None:
        """Draw the initial images and fill the queue."""
        self.minibatches = run.generator("queue/minibatches")
        visits = run.info.classes if settings.update == "closed" else 1
        super().__init__(run, settings, objective, settings.partition, visits)

    def _network(self) -> base.Network:
        """Return the network that takes its parameters from the queue."""
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
        """Return the passes per step of matching and of training the queue."""
        return super()._passes() + self._trained()

    def _trained(self) -> int:
        """Return the passes per step of training the queue."""
        settings = self.settings
        trained = settings.queue_trained * settings.queue_train_steps
        return 3 * trained * settings.queue_batch

    def step(self, index: int) -> None:
        """Update all images once, then train networks of the queue."""
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
        """Run the published loop: one optimiser step on all images per class."""
        total = torch.zeros((), device=self.images.device)
        for label in range(len(self.images)):
            group = slice(label, label + 1)
            losses, of_group = self.matcher.classes(batch, self.images, group)
            gradient = torch.zeros_like(self.images)
            gradient[group] = of_group
            self.optimiser.step(self.images, gradient)
            total += losses.sum()
        self.run.watch("loss", total / len(self.images))

    def _train(self) -> None:
        """Train ``queue_trained`` networks, each on mini-batches of its own."""
        settings = self.settings
        rows = self.queue.pick(settings.queue_trained)
        shape = (len(rows), settings.queue_train_steps, settings.queue_batch)
        index = self.real.minibatches(shape, self.minibatches)
        steps = (
            Minibatches(*self.real.labelled(rows_of_step))
            for rows_of_step in index.unbind(1)
        )
        self.queue.train(rows, steps)
        self.run.count(index.numel())

    def state_dict(self) -> State:
        """Return the images, their velocity and the queue."""
        return {**super().state_dict(), "queue": self.queue.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        super().load_state_dict(state)
        self.queue.load_state_dict(state["queue"])
