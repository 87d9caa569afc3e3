"""What ``dcbench continual`` and ``dcbench nas`` do: sets in, trainings, a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from rich.console import Console
from torch.nn import functional as F

from dcbench_bacon import (
    container,
    continual,
    data,
    downstream_tables,
    nas,
    progress,
    recipe,
    runner,
    trainings,
    work,
)
from dcbench_bacon.clock import Clock, Policy
from dcbench_bacon.commands import choose_device, open_set
from dcbench_bacon.compiling import Compiler
from dcbench_bacon.downstream import (
    Candidate,
    Folder,
    R,
    SetIdentity,
    Stage,
    continual_folder,
    search_folder,
)
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.evaluate import Task
from dcbench_bacon.memory import keep_freed_memory
from dcbench_bacon.records import Store
from dcbench_bacon.schema import (
    Cell,
    CompileMode,
    DatasetInfo,
    Profile,
    Protocol,
    Recipe,
)
from dcbench_bacon.spec import Split, SyntheticSet
from dcbench_bacon.trainings import Job, Outcome

REFERENCE = "reference"  # the protocol of the whole train split in a search


class Opened(NamedTuple):
    """A set and the data set that its networks are tested on."""

    path: Path
    synthetic: SyntheticSet
    identity: SetIdentity
    dataset: data.Dataset


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The files of a command, and how their networks are trained.

    Attributes:
        files: synthetic sets.
        dataset: what to test on; by default what each file names.
        device: as typed.
        compiling: of networks.
        data_root: where data sets lie.
        output: the results folder.
        fresh: train again what has a record.
        request: profile, protocol and overrides.
    """

    files: Sequence[Path]
    dataset: str | None
    device: str
    compiling: CompileMode
    data_root: Path | None
    output: Path
    fresh: bool
    request: recipe.Request

    @classmethod
    def asked(
        cls,
        *,
        profile: str | None,
        pairs: tuple[str, ...],
        protocol: str,
        architectures: tuple[str, ...] | None = None,
        **given: Any,
    ) -> "Sets":
        """From the options of a command; checks them."""
        request = recipe.Request(
            profile=msgspec.convert(profile or "paper", Profile),
            protocol=protocol,
            overrides=recipe.parse_overrides(pairs),
            architectures=architectures or (),
        )
        recipe.check_overrides(request.overrides, [])
        work.check_architectures(request.architectures)
        return cls(request=request, **given)

    def open(self) -> list[Opened]:
        """Reads every file and its data set; the same data are kept once."""
        where = choose_device(self.device)
        kept: dict[str, data.Dataset] = {}
        found: dict[str, Opened] = {}
        for path in self.files:
            synthetic, cell, loaded = open_set(
                path, self.dataset, where, self.data_root
            )
            _check_shapes(path, synthetic, loaded.info)
            loaded = kept.setdefault(loaded.fingerprint, loaded)
            identity = _identity(synthetic, cell)
            opened = Opened(path, synthetic, identity, loaded)
            found.setdefault(identity.sha256 + loaded.fingerprint, opened)
        return list(found.values())

    def protocol(self, cell: Cell, dataset: data.Dataset) -> Protocol:
        """How networks are trained on a set: alike for all methods."""
        where = msgspec.structs.replace(cell, dataset=dataset.info.name)
        protocol = recipe.protocol(where, self.request)
        if protocol.selection != "final":
            raise UsageError(
                f"--set protocol.selection={protocol.selection}: leave it out; "
                "downstream uses report the last pass"
            )
        return protocol

    def recipe(self, protocol: Protocol, **settings: int) -> Recipe:
        """A recipe to record."""
        return Recipe(
            settings=dict(settings),
            protocol=protocol,
            profile=self.request.profile,
            overrides=dict(self.request.overrides),
        )

    def run(self, jobs: Sequence[Job[R]], folder: Folder[R]) -> Outcome[R]:
        """Runs jobs, showing progress; Ctrl-C loses nothing."""
        keep_freed_memory()
        console = Console(stderr=True)
        tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        with runner.stoppable() as stop:
            policy = Policy(
                stop=stop,
                reporter=progress.reporter(console),
                compiler=Compiler(self.compiling),
            )
            where = choose_device(self.device)
            options = work.Options(where, fresh=self.fresh, policy=policy, tell=tell)
            return trainings.run(jobs, folder, options)


def learn_continually(*, tasks: int, orders: int, form: str, **given: Any) -> int:
    """Class-incremental learning with each set as the memory; prints the table.

    Returns:
        The exit status: 0 when all is done, 1 when some trainings diverged.
    """
    sets = Sets.asked(**given)
    jobs = [
        job
        for opened in sets.open()
        for job in _stages(sets, opened, tasks=tasks, orders=orders)
    ]
    folder = continual_folder(Store(sets.output).open())
    outcome = sets.run(jobs, folder)
    table = downstream_tables.continual(outcome.records)
    print(downstream_tables.render(table, form), end="", flush=True)
    return 1 if outcome.failures else 0


def search_architectures(
    *, passes: int | None, top: int, form: str, **given: Any
) -> int:
    """Ranks a grid of networks on each set and on the whole train split.

    Returns:
        The exit status: 0 when all is done, 1 when some trainings diverged.
    """
    names = nas.Grid(*(given.pop(axis) for axis in nas.Grid._fields)).names()
    if len(names) < 2:
        raise UsageError(f"{names[0]} alone cannot be ranked: give more --widths")
    sets = Sets.asked(**given)
    work.check_architectures(names)
    every = sets.open()
    jobs = [job for opened in every for job in _candidates(sets, opened, names)]
    for dataset in {each.dataset.fingerprint: each.dataset for each in every}.values():
        jobs += _references(sets, dataset, names, passes)
    folder = search_folder(Store(sets.output).open())
    outcome = sets.run(jobs, folder)
    table = downstream_tables.search(outcome.records, top)
    print(downstream_tables.render(table, form), end="", flush=True)
    return 1 if outcome.failures else 0


def _check_shapes(path: Path, synthetic: SyntheticSet, info: DatasetInfo) -> None:
    """Makes sure that images and labels are what the file's header promises."""
    found = (*synthetic.images.shape[1:], synthetic.labels.shape[1])
    if found != (info.channels, info.size, info.size, info.classes):
        shape = "x".join(map(str, found[:3]))
        raise DataError(
            f"{path}: images of {shape} with labels of {found[3]} classes do not fit "
            f"{info.name}; name the right data set with --dataset"
        )


def _identity(synthetic: SyntheticSet, cell: Cell) -> SetIdentity:
    """What a file says of itself; one of another tool says nothing of a recipe."""
    try:
        made = msgspec.convert(synthetic.provenance["recipe"], Recipe)
    except (KeyError, msgspec.ValidationError):
        made = None
    return SetIdentity(
        cell=cell,
        recipe=recipe.distillation_digest(made) if made else "",
        profile=made.profile if made else "paper",
        sha256=container.digest(synthetic),
    )


def _stages(sets: Sets, opened: Opened, *, tasks: int, orders: int) -> list[Job[Stage]]:
    """The trainings of one memory: every stage of every order."""
    path, synthetic, identity, dataset = opened
    info = dataset.info
    continual.check_classes(path, synthetic, info.class_names)
    protocol = sets.protocol(identity.cell, dataset)
    given = sets.recipe(protocol, tasks=tasks)

    def task(seen: continual.Classes) -> Task:
        memory = continual.memory(synthetic, seen)
        test = continual.test_images(dataset.test, seen)
        return Task(memory, test, info, protocol)

    plans = [
        Stage(
            dataset=info.name,
            dataset_sha256=dataset.fingerprint,
            source=identity,
            recipe=given,
            order=index,
            classes=seen,
        )
        for index, order in enumerate(
            continual.class_orders(info.name, info.classes, orders)
        )
        for seen in continual.stages(order, tasks)
    ]
    return [Job(plan, partial(task, plan.classes)) for plan in plans]


def _candidates(
    sets: Sets, opened: Opened, names: Sequence[str]
) -> list[Job[Candidate]]:
    """The trainings of a search on one set."""
    _, synthetic, identity, dataset = opened
    protocol = sets.protocol(identity.cell, dataset)
    plan = Candidate(
        dataset=dataset.info.name,
        dataset_sha256=dataset.fingerprint,
        source=identity,
        recipe=sets.recipe(protocol),
        architecture="",
    )
    return _search(plan, dataset, names, lambda: synthetic)


def _references(
    sets: Sets, dataset: data.Dataset, names: Sequence[str], passes: int | None
) -> list[Job[Candidate]]:
    """The trainings of the same networks on the whole train split."""
    request = recipe.Request(profile=sets.request.profile, protocol=REFERENCE)
    protocol = recipe.protocol(Cell("whole", dataset.info.name, 1), request)
    given = Recipe(settings={}, protocol=protocol, profile=request.profile)
    if passes is not None:
        given = msgspec.structs.replace(
            given,
            protocol=msgspec.structs.replace(protocol, epochs=passes - 1),
            overrides={"passes": str(passes)},
        )
    plan = Candidate(
        dataset=dataset.info.name,
        dataset_sha256=dataset.fingerprint,
        source=None,
        recipe=given,
        architecture="",
    )
    return _search(plan, dataset, names, cache(lambda: whole(dataset)))


def _search(
    plan: Candidate,
    dataset: data.Dataset,
    names: Sequence[str],
    images: Callable[[], SyntheticSet],
) -> list[Job[Candidate]]:
    """A job a network; the record's recipe is that of all of them."""
    scored, ranked = halves(dataset)
    protocol, info = plan.recipe.protocol, dataset.info
    without = msgspec.structs.replace(protocol, architectures=())
    shared = msgspec.structs.replace(plan.recipe, protocol=without)

    def task(name: str) -> Task:
        # Both halves are measured after the last pass, and no pass is chosen.
        measured = msgspec.structs.replace(
            protocol,
            architectures=(name,),
            selection="best_val",
            measure_every=protocol.epochs + 1,
        )
        return Task(images(), scored, info, measured, ranked)

    plans = [
        msgspec.structs.replace(plan, recipe=shared, architecture=name)
        for name in names
    ]
    return [Job(each, partial(task, each.architecture)) for each in plans]


def halves(dataset: data.Dataset) -> tuple[Split, Split]:
    """The test images that score, and those that rank; the same for every set."""
    clock = Clock(f"{dataset.info.name} nas", torch.device("cpu"))
    return data.split_validation(dataset.test, 0.5, clock.generator("halves"))


def whole(dataset: data.Dataset) -> SyntheticSet:
    """The train split as a set."""
    labels = F.one_hot(dataset.train.labels, dataset.info.classes).float()
    return SyntheticSet(data.normalize(dataset.train.images, dataset.info), labels)
