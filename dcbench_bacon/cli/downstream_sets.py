"""The sets of a downstream command, and the training of networks on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from dcbench_bacon.cli.opening import open_set
from dcbench_bacon.data import synthetic_file
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.downstream_store import Folder, R, SetIdentity
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.judged import protocol_for_set
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.field_types import CompileMode
from dcbench_bacon.networks import pools
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import digests, overlay, protocols
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running import interrupt, trainings
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.running.trainings import TrainingJob, TrainingOutcome
from dcbench_bacon.runtime import progress
from dcbench_bacon.runtime.compilation import Compiler
from dcbench_bacon.runtime.devices import choose_device
from dcbench_bacon.runtime.memory import keep_freed_memory
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell, Recipe


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
        device: the device as typed.
        compiling: whether networks are compiled.
        data_root: the folder of data sets; None for the default one.
        output: the results folder.
        fresh: whether trainings with a record are repeated.
        request: preset, protocol and overrides.
    """

    files: Sequence[Path]
    stated: ReadingOptions
    device: str
    compiling: CompileMode
    data_root: Path | None
    output: Path
    fresh: bool
    request: protocols.Request

    @classmethod
    def asked(
        cls,
        *,
        preset: str | None,
        overrides: tuple[str, ...],
        protocol: str,
        architectures: tuple[str, ...] | None = None,
        **given: Any,
    ) -> "Sets":
        """Return the sets that the options of a command ask for, checked."""
        request = request_of(
            "paper",
            preset=preset,
            overrides=overrides,
            protocol=protocol,
            architectures=architectures,
        )
        overlay.check_overrides(request.overrides, [])
        pools.check_architectures(request.architectures)
        return cls(request=request, **given)

    def open(self) -> list[MemorySet]:
        """Read every file and its data set; keep equal data sets once."""
        where = choose_device(self.device)
        kept: dict[str, Dataset] = {}
        found: dict[str, MemorySet] = {}
        for path in self.files:
            synthetic, cell, loaded, _ = open_set(
                path, self.stated, where, self.data_root
            )
            loaded = kept.setdefault(loaded.fingerprint, loaded)
            identity = _identity(synthetic, cell)
            opened = MemorySet(path, synthetic, identity, loaded)
            found.setdefault(identity.sha256 + loaded.fingerprint, opened)
        return list(found.values())

    def protocol(
        self, cell: Cell, dataset: Dataset, synthetic: SyntheticSet
    ) -> Protocol:
        """Return the protocol for the networks of a set, the same for all methods.

        The learning rate of the set replaces that of the protocol if the protocol asks
        for it, so that it is part of the record.

        Raises:
            UsageError: the protocol chooses among passes.
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

    def run(
        self, jobs: Sequence[TrainingJob[R]], folder: Folder[R]
    ) -> TrainingOutcome[R]:
        """Run jobs and show progress; Ctrl-C loses nothing."""
        keep_freed_memory()
        with interrupt.stoppable() as stop:
            policy = RunPolicy(
                stop=stop,
                reporter=progress.reporter(Console(stderr=True)),
                compiler=Compiler(self.compiling),
            )
            where = choose_device(self.device)
            config = RunConfig(where, fresh=self.fresh, policy=policy)
            return trainings.run(jobs, folder, config)


def _identity(synthetic: SyntheticSet, cell: Cell) -> SetIdentity:
    """Return the identity of a set; a set of another tool has no recipe."""
    try:
        made = msgspec.convert(synthetic.provenance["recipe"], Recipe)
    except (KeyError, msgspec.ValidationError):
        made = None
    return SetIdentity(
        cell=cell,
        recipe=digests.distillation_digest(made) if made else "",
        preset=made.preset if made else "paper",
        sha256=synthetic_file.digest(synthetic),
        name=str(synthetic.provenance.get("name") or ""),
    )
