"""The sets of a downstream command, and the training of networks on them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from dcbench_bacon.cli.arguments.executor_options import per_cell
from dcbench_bacon.cli.cells.opening import SetReader, read_anywhere
from dcbench_bacon.cli.setup import Setup
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.downstream_store import Folder, R, SetIdentity
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.judged import protocol_for_set
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.networks import pools
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import digests, overlay, protocols
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running.grids import ray_trainings, trainings
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.grids.ray_cluster import Cluster, asked
from dcbench_bacon.running.grids.trainings import TrainingJob, TrainingOutcome
from dcbench_bacon.running.run import RunContext
from dcbench_bacon.running.saved_sets import made_by
from dcbench_bacon.runtime.compute.memory import keep_freed_memory
from dcbench_bacon.schema import Cell, Recipe
from dcbench_bacon.store import Store


class MemorySet(NamedTuple):
    """A set, and the data set that its networks are tested on.

    Attributes:
        path: the file of the set.
        synthetic: the set.
        identity: cell, recipe and sha256 of the set.
        dataset: the data set, whitened if the set is.
    """

    path: Path
    synthetic: SyntheticSet
    identity: SetIdentity
    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The files of a command, and how their networks are trained.

    Attributes:
        files: files of synthetic sets.
        stated: what the user states about the files.
        setup: where the command works and how.
        request: preset, protocol and overrides.
        cluster: where trainings run; None for this process.
    """

    files: Sequence[Path]
    stated: ReadingOptions
    setup: Setup
    request: protocols.Request
    cluster: Cluster | None = None

    @classmethod
    def asked(
        cls, *, files: Sequence[Path], stated: ReadingOptions, **given: Any
    ) -> "Sets":
        """Return the sets that the options of a command ask for, checked.

        Args:
            files: files of synthetic sets.
            stated: what the user states about the files.
            given: the options of the executor, and the fields of ``Setup`` and of a
                request.
        """
        setup = Setup.pop_from(given)
        cluster = asked(**per_cell(given))
        request = request_of("paper", **given)
        overlay.check_overrides(request.overrides, [])
        pools.check_architectures(request.architectures)
        return cls(
            files=files, stated=stated, setup=setup, request=request, cluster=cluster
        )

    def train(
        self,
        jobs_of: Callable[["Sets", Store, RunContext], Sequence[TrainingJob[R]]],
        folder_of: Callable[[Store], Folder[R]],
    ) -> TrainingOutcome[R]:
        """Run the trainings of a downstream use, here or on the cluster.

        Args:
            jobs_of: returns the trainings on these sets.
            folder_of: returns the folder of the records.
        """
        with self.ready() as (store, context):
            jobs = jobs_of(self, store, context)
            if self.cluster is None:
                return trainings.run(jobs, folder_of(store), context)
            use = ray_trainings.Use(partial(jobs_of, self.anywhere()), folder_of)
            return ray_trainings.run(jobs, use, store, context, self.cluster)

    def anywhere(self) -> "Sets":
        """Return the same sets for a process with another working directory."""
        files = [path.expanduser().absolute() for path in self.files]
        return replace(self, files=files, stated=read_anywhere(self.stated))

    @contextmanager
    def ready(self) -> Iterator[tuple[Store, RunContext]]:
        """Yield the store and the options of training; Ctrl-C stops after a step."""
        keep_freed_memory()
        with self.setup.ready(Console(stderr=True)) as ready:
            yield ready

    def open(self, context: RunContext) -> list[MemorySet]:
        """Read every file and its data set; keep equal sets once."""
        reader = SetReader(self.stated, Datasets(context.config))
        opened: dict[Path, MemorySet] = {}
        for read in reader.read_all(self.files):
            synthetic, cell, loaded, _ = reader.open(read)
            identity = _identity(synthetic, cell)
            opened[read.path] = MemorySet(read.path, synthetic, identity, loaded)
        different: dict[str, MemorySet] = {}
        for path in self.files:
            key = opened[path].identity.sha256 + opened[path].dataset.fingerprint
            different.setdefault(key, opened[path])
        return list(different.values())

    def protocol(
        self, cell: Cell, dataset: Dataset, synthetic: SyntheticSet
    ) -> Protocol:
        """Return the protocol for the networks of a set, the same for all methods.

        The learning rate of the set replaces that of the protocol if the protocol asks
        for it, so that it is part of the record.

        Raises:
            UsageError: the protocol chooses among epochs.
            DataError: it asks for the set's learning rate, and the set has none.
        """
        where = msgspec.structs.replace(cell, dataset=dataset.info.name)
        protocol = protocols.protocol(where, self.request)
        if protocol.selection != "final":
            raise UsageError(
                f"--set protocol.selection={protocol.selection}: leave it out, because "
                "downstream uses report the last pass"
            )
        return protocol_for_set(protocol, synthetic)

    def recipe(self, protocol: Protocol, **settings: int) -> Recipe:
        """Return the recipe for the records of a downstream use."""
        return Recipe(
            settings=dict(settings),
            protocol=protocol,
            preset=self.request.preset,
            overrides=dict(self.request.overrides),
        )


def _identity(synthetic: SyntheticSet, cell: Cell) -> SetIdentity:
    """Return the identity of a set; a set of another tool has no recipe."""
    recipe = made_by(synthetic)
    return SetIdentity(
        cell=cell,
        recipe=digests.distillation_digest(recipe) if recipe else "",
        preset=recipe.preset if recipe else "paper",
        sha256=synthetic_file.digest(synthetic),
        name=str(synthetic.provenance.get("name") or ""),
    )
