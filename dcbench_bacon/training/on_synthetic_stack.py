"""Networks trained on a synthetic set together."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dcbench_bacon.contract import State
from dcbench_bacon.networks.flat_parameters import NetworkStack
from dcbench_bacon.runtime.compute.cuda_graphs import Tensors
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.training.losses import Targets
from dcbench_bacon.training.on_synthetic import SetTrainer, prepare

_GRAPH = 16  # batches of updates in one graph; their images are kept until then


class SetTrainerStack:
    """Networks of one architecture in training on one set, a batch of each at a time.

    On a GPU the updates of a pass, or of ``_GRAPH`` batches of a long one, are a graph.

    Args:
        trainers: share task and architecture; from here on their parameters are rows
            of this object's.
    """

    def __init__(self, trainers: Sequence[SetTrainer]) -> None:
        """Make one matrix of all parameters."""
        self.trainers = trainers
        self.gradients = NetworkStack(trainers[0].flat)
        self.vectors = torch.stack([trainer.vector for trainer in trainers])
        self.velocities = torch.stack([trainer.velocity for trainer in trainers])
        self.averages = self.vectors.clone() if trainers[0].protocol.ema else None
        for row, trainer in enumerate(trainers):
            trainer.vector, trainer.velocity = self.vectors[row], self.velocities[row]
            trainer.average = None if self.averages is None else self.averages[row]
        self._advance = trainers[0].clock.graphed(self._advanced)

    @property
    def state(self) -> Tensors:
        """The tensors that an update changes: parameters, moments, averages if kept."""
        averages = () if self.averages is None else (self.averages,)
        return self.vectors, self.velocities, *averages

    def epoch(self, index: int) -> None:
        """Train every network for one pass over the set."""
        (rate, steps_taken), *_ = [trainer.begin(index) for trainer in self.trainers]
        passes = zip(
            *[trainer.batches(index) for trainer in self.trainers], strict=True
        )
        batches = [torch.stack(batch) for batch in passes]
        with tensor_cores(self.trainers[0].protocol.precision):
            for start in range(0, len(batches), _GRAPH):
                self._train(rate, steps_taken + start, batches[start : start + _GRAPH])
        for trainer in self.trainers:
            trainer.flat.attach(trainer.vector)
            trainer.measure(index)

    def _train(
        self, rate: float, steps_taken: int, batches: Sequence[Int64[Tensor, "k _"]]
    ) -> None:
        """Update every network once for each batch, on images of its own."""
        clock = self.trainers[0].clock
        pieces: list[Tensor] = []
        for index in batches:
            images, targets = prepare(self.trainers, index)
            pieces += (images, *targets)
            clock.count(index.numel())
        with clock.phase("train"):
            # Filled on the device: a number from the host would be waited for.
            pace = torch.stack(
                [_filled(scalar, self.vectors) for scalar in (rate, steps_taken)]
            )
            *state, loss = self._advance(pace, *self.state, *pieces)
            for mine, new in zip(self.state, state, strict=True):
                mine.copy_(new)
        clock.watch("loss", loss)

    def _advanced(self, pace: Float64[Tensor, "2"], *tensors: Tensor) -> Tensors:
        """Return the state after one update per batch, and the last mean loss."""
        first, count = self.trainers[0], len(self.state)
        vectors, velocities, *averages = (tensor.clone() for tensor in tensors[:count])
        optimiser = first.optimiser(*pace.unbind())
        pieces = iter(tensors[count:])
        for images, *targets in zip(pieces, pieces, pieces, strict=True):
            stacked = self.gradients.under(
                first.criterion, vectors, images, Targets(*targets)
            )
            optimiser.step(vectors, velocities, stacked.gradient)
            for average in averages:
                average.lerp_(vectors, 1 - first.protocol.ema)
        return vectors, velocities, *averages, stacked.losses.mean()

    def state_dict(self) -> State:
        """Return the states of all trainers."""
        return {"trainers": [trainer.state_dict() for trainer in self.trainers]}

    def load_state_dict(self, state: State) -> None:
        """Go on from ``state_dict``."""
        for trainer, trainer_state in zip(
            self.trainers, state["trainers"], strict=True
        ):
            trainer.load_state_dict(trainer_state)


def _filled(value: int | float, like: Tensor) -> Float64[Tensor, ""]:
    return torch.full((), value, dtype=torch.float64, device=like.device)
