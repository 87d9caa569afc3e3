"""The trainings of ``dcbench slim``: pruned networks that recover on sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import msgspec

from dcbench_bacon.cli.cells.downstream_sets import MemorySet, Sets
from dcbench_bacon.cli.printing import show
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.downstream_store import Slimmed, slimming_folder
from dcbench_bacon.evaluation.downstream import slimming
from dcbench_bacon.evaluation.downstream.slimming import Pruned
from dcbench_bacon.networks import builder, pools
from dcbench_bacon.networks.base import Network
from dcbench_bacon.recipes import overlay, protocols
from dcbench_bacon.reporting.numbers import slimming_tables
from dcbench_bacon.reporting.table import Table
from dcbench_bacon.running.grids.trainings import TrainingJob
from dcbench_bacon.running.run import CellRun, RunContext
from dcbench_bacon.schema import Cell
from dcbench_bacon.store import Store
from dcbench_bacon.training.features import trained
from dcbench_bacon.training.settings import SmoothTraining
from dcbench_bacon.training.task import Task, accuracy

STAGE = "slim"  # of the networks that are trained on real images
EPOCHS = {"paper": 60, "quick": 6, "demo": 20}


def slim_networks(
    *,
    network: str,
    ratios: Sequence[float],
    networks: int,
    epochs: int | None,
    table: str | None,
    **given: Any,
) -> int:
    """Prune networks, let them recover on each set, and print the table.

    Args:
        network: the architecture, which has batch norm.
        ratios: the shares of channels to remove, in (0, 1).
        networks: the number of networks that are trained on the real images.
        epochs: the epochs of that training; None for those of the preset.
        table: the format of the table.
        given: the fields of ``Setup`` and of a request.

    Returns:
        The exit status: 0 when all is done, 1 when some trainings diverged.
    """
    given["protocol"] = given["protocol"] or protocols.SHARED
    sets = Sets.asked(**given)
    pools.check_architectures([network])
    probe = builder.build(network, channels=3, size=32, classes=2)
    slimming.check(network, probe)
    rules = RealTraining(network, epochs or EPOCHS[sets.request.preset])
    jobs_of = partial(_recoveries, rules=rules, networks=networks, ratios=ratios)
    outcome = sets.train(jobs_of, slimming_folder)
    rows = slimming_tables.slimmed(outcome.records)
    show(Table("slim", rows), table)
    return 1 if outcome.failures else 0


@dataclass(frozen=True)
class RealTraining:
    """How the networks are trained on real images.

    Attributes:
        architecture: the name of the network.
        epochs: the passes over the train split.
    """

    architecture: str
    epochs: int

    def on(self, cell: Cell) -> SmoothTraining:
        """Return the training for the data set of a cell."""
        return SmoothTraining(
            architecture=self.architecture,
            epochs=self.epochs,
            learning_rate=0.05,
            batch_size=128,
            augmentation=overlay.augmentation_of_real(cell),
        )


@dataclass(frozen=True)
class Source:
    """A network that is trained on real images once, and what is left of it.

    Attributes:
        training: how it is trained.
        dataset: the real images.
        number: the number of the network, from 0.
        store: keeps the network.
        context: how it is trained.
    """

    training: RealTraining
    dataset: Dataset
    number: int
    store: Store
    context: RunContext

    @cached_property
    def network(self) -> Network:
        """The trained network, in evaluation mode."""
        cell = Cell("whole", self.dataset.info.name, 0, self.number)
        run = CellRun(cell, self.dataset, self.context, None, self.store.shared)
        return trained(run, self.training.on(cell), STAGE)[0]

    def pruned(self, ratio: float) -> Pruned:
        """Return the network without a share of its channels."""
        return slimming.pruned(self.network, ratio, self.dataset.info)

    def measured(self, ratio: float) -> dict[str, float]:
        """Return the facts of a record that no training decides."""
        left, info = self.pruned(ratio), self.dataset.info
        return {
            "whole_accuracy": accuracy(self.network, self.dataset.test, info),
            "pruned_accuracy": accuracy(left.network, self.dataset.test, info),
            "pruned_share": left.share,
        }


def _recoveries(
    sets: Sets,
    store: Store,
    context: RunContext,
    *,
    rules: RealTraining,
    networks: int,
    ratios: Sequence[float],
) -> list[TrainingJob[Slimmed]]:
    """Return the trainings of all pruned networks on all sets."""
    jobs = []
    for opened in sets.open(context):
        for number in range(networks):
            source = Source(rules, opened.dataset, number, store, context)
            jobs += [_recovery(sets, opened, source, ratio) for ratio in ratios]
    return jobs


def _recovery(
    sets: Sets, opened: MemorySet, source: Source, ratio: float
) -> TrainingJob[Slimmed]:
    """Return the training of a pruned network on a set."""
    _, synthetic, identity, dataset = opened
    name, info = source.training.architecture, dataset.info
    protocol = msgspec.structs.replace(
        sets.protocol(identity.cell, dataset, synthetic),
        architectures=(name,),
        teachers=(name,),
        networks=1,
    )
    plan = Slimmed(
        dataset=info.name,
        dataset_sha256=dataset.fingerprint,
        source=identity,
        recipe=sets.recipe(protocol, passes=source.training.epochs),
        architecture=name,
        ratio=ratio,
        network=source.number,
    )

    def task() -> Task:
        return Task(
            synthetic,
            dataset.test,
            info,
            protocol,
            teachers=(source.network,),
            start=lambda _: source.pruned(ratio).network,
        )

    shared = (
        f"network {source.number} of {info.name}, {dataset.fingerprint[:8]}",
        lambda: source.network,
    )
    return TrainingJob(plan, task, lambda: source.measured(ratio), shared)
