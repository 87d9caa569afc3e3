"""Trains expert networks on real images and stores what becomes of their parameters.

On a GPU several experts are trained in one pass, on a CPU one after another; an expert
is the same either way, to rounding.
"""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.contract import Run, State
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork, NetworkStack
from dcbench_bacon.runtime.compute.memory import networks_per_call
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.runtime.seeds import stable_seed
from dcbench_bacon.training.expert_store import ExpertStore
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.step import TrainingStep

STAGE = "experts"
TOGETHER = 10  # experts in one pass at most: their snapshots wait in memory


def expert_network(run: Run, architecture: str) -> Network:
    """Return a network without batch statistics, on the run's device.

    Raises:
        UsageError: it keeps batch statistics.
    """
    info = run.info
    network = builder.build(
        architecture, channels=info.channels, size=info.size, classes=info.classes
    )
    if network.batch_statistics:
        raise UsageError(
            f"--set architecture={architecture}: it keeps batch statistics, which are "
            "no part of a trajectory; choose one with instance norm, such as ConvNet"
        )
    return network.to(run.device)


def train_experts(
    run: Run, training: Training, count: int, *, at_once: int | None = None
) -> ExpertStore:
    """Return the first ``count`` experts, after training those that are not on disk.

    The training is the stage ``experts`` of the run, with a step per pass; a run that
    finds all of them has the stage without steps. Its seconds are those of all experts,
    whichever run trained them, so that costs are comparable.

    Args:
        run: supplies images, device and clock.
        training: how.
        count: of experts.
        at_once: the most experts in one pass; None for ``TOGETHER`` on a GPU and one
            on a CPU.

    Raises:
        OutputError: there is no room for them.
        UsageError: the network keeps batch statistics.
    """
    network = expert_network(run, training.architecture)
    store = ExpertStore.of(run, training, len(FlatNetwork(network)))
    with store.locked():
        missing = store.missing(count)
        if missing:
            store.check_room(len(missing))
        trainer = ExpertTrainer(run, store, count, at_once=at_once)
        steps = trainer.steps if missing or store.index.complete < count else 0
        for step in run.steps(STAGE, steps, state=trainer):
            trainer.step(step)
        for expert in store.missing(count):  # damaged since the stage has ended
            trainer.train([expert])
        store.finish(count)
    run.spent(STAGE, store.origin(count)["seconds"])
    return store


class ExpertTrainer:
    """Experts in training, some at a time.

    The random streams of a pass derive from the store's key, the expert and the pass:
    an expert is the same whoever trains it, with whom and after how many kills.

    Args:
        run: supplies images, device and phases.
        store: takes what is trained.
        count: of experts in all.
        at_once: the most experts in one pass; None for ``TOGETHER`` on a GPU and one
            on a CPU.
    """

    def __init__(
        self, run: Run, store: ExpertStore, count: int, *, at_once: int | None = None
    ) -> None:
        """Train nothing yet."""
        self.run = run
        self.store = store
        self.training = training = store.index.training
        network = expert_network(run, training.architecture)
        network.precision = training.precision
        self.network = network
        self.flat = FlatNetwork(network)
        self.stack = NetworkStack(self.flat)
        self.update = TrainingStep(self.flat)
        if at_once is None:
            at_once = TOGETHER if run.device.type == "cuda" else 1
        fit = networks_per_call(
            run.device,
            run.info.size,
            training.batch_size,
            network.memory_demand,
            network.parameter_count,
        )
        most = min(fit, at_once)
        self.groups = [range(i, min(i + most, count)) for i in range(0, count, most)]
        self.augmentation = Augmentation(
            training.augmentation, (run.info.size, run.info.size)
        )
        self.optimiser = training.optimiser()
        self.members: list[int] = []
        self.vectors = torch.empty(0, len(self.flat), device=run.device)
        self.velocities = torch.zeros_like(self.vectors)
        self.snapshots = torch.empty(0, training.epochs + 1, len(self.flat))
        self.seconds = 0.0

    @property
    def steps(self) -> int:
        """Passes of all groups."""
        return len(self.groups) * self.training.epochs

    def step(self, index: int) -> None:
        """Train one group for one pass; do nothing if all of it is on disk."""
        group, passed = divmod(index, self.training.epochs)
        experts = self.groups[group]
        if all(self.store.path(expert).exists() for expert in experts):
            return
        if passed and self.members != list(experts):
            # The checkpoint was made with other groups, or when these were on disk.
            for earlier in range(passed):
                self._pass(experts, earlier)
        self._pass(experts, passed)

    def train(self, experts: Sequence[int]) -> None:
        """Train some experts for all epochs."""
        for passed in range(self.training.epochs):
            self._pass(experts, passed)

    def _pass(self, experts: Sequence[int], passed: int) -> None:
        """Train for one pass; the first builds the experts, the last stores them."""
        start = time.perf_counter()
        if passed == 0:
            self._begin(experts)
        streams = [self._stream(expert, passed) for expert in experts]
        count = len(self.run.train.labels)
        orders = [torch.randperm(count, generator=stream) for stream in streams]
        order = torch.stack(orders).to(self.run.device)
        with tensor_cores(self.training.precision):
            for index in torch.split(order, self.training.batch_size, dim=1):
                self._update(index, streams)
        # A copy, which waits for the device; the parameters go on changing.
        self.snapshots[:, passed + 1].copy_(self.vectors)
        self.seconds += (time.perf_counter() - start) / len(experts)
        if passed + 1 == self.training.epochs:
            for expert, snapshots in zip(experts, self.snapshots, strict=True):
                self.store.write(expert, snapshots, self.seconds)

    def _begin(self, experts: Sequence[int]) -> None:
        """Build the experts and keep their first snapshots."""
        self.members, vectors = list(experts), []
        for expert in experts:
            builder.reinitialize(self.network, self._stream(expert, "init"))
            vectors.append(self.flat.vector())
        self.vectors = torch.stack(vectors)
        self.velocities = torch.zeros_like(self.vectors)
        shape = (len(experts), self.training.epochs + 1, len(self.flat))
        self.snapshots = torch.empty(shape)
        self.snapshots[:, 0].copy_(self.vectors)
        self.seconds = 0.0

    def _stream(self, expert: int, purpose: object) -> torch.Generator:
        """Return a random stream on the CPU, the same for every device."""
        seed = stable_seed(self.store.key, expert, purpose)
        return torch.Generator().manual_seed(seed)

    def _update(
        self, index: Int64[Tensor, "k n"], streams: Sequence[torch.Generator]
    ) -> None:
        """Update every expert of the group once, on images of its own."""
        with self.run.phase("augmentation"):
            draws = [
                self.augmentation.draw(1, stream, samples=index.shape[1])
                for stream in streams
            ]
            images = self.run.train.take(index)
            images = self.augmentation.apply(images, Draw.cat(draws))
        with self.run.phase("train"):
            labels = self.run.train.labels[index]
            loss = self._descend(images, labels)
        self.run.count(index.numel())
        self.run.watch("loss", loss)

    def _descend(
        self, images: Float[Tensor, "k n c h w"], labels: Int64[Tensor, "k n"]
    ) -> Float[Tensor, ""]:
        """Update every expert on its own batch, and return the mean loss."""
        if len(self.vectors) > 1:
            stacked = self.stack(self.vectors, images, labels)
            self.optimiser.step(self.vectors, self.velocities, stacked.gradient)
            return stacked.losses.mean()
        self.update.attach(self.vectors[0])
        velocity = self.velocities[0]
        return self.update(self.optimiser, velocity, images[0], labels[0]).loss

    def state_dict(self) -> State:
        """Return the experts in training and their snapshots so far."""
        return {
            "members": self.members,
            "vectors": self.vectors,
            "velocities": self.velocities,
            "snapshots": self.snapshots,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from ``state_dict``."""
        self.members = state["members"]
        self.vectors = state["vectors"].to(self.run.device)
        self.velocities = state["velocities"].to(self.run.device)
        self.snapshots = state["snapshots"]
        self.seconds = state["seconds"]
