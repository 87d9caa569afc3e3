"""One cell on its way from data to record."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from dcbench_bacon import (
    container,
    data,
    networks,
    policies,
    pools,
    recipe,
    set_files,
    shared,
    teachers,
)
from dcbench_bacon.augment import parse_strategy
from dcbench_bacon.clock import Clock, Policy, Schedule, stream
from dcbench_bacon.errors import DataError, DivergedError, RecordError, UsageError
from dcbench_bacon.evaluate import evaluate
from dcbench_bacon.exchange import identity
from dcbench_bacon.files import write_atomically
from dcbench_bacon.records import Store
from dcbench_bacon.registry import METHODS
from dcbench_bacon.schema import (
    Cell,
    Evaluation,
    LabelKind,
    Protocol,
    Recipe,
    Record,
    Timing,
)
from dcbench_bacon.spec import (
    Configured,
    Method,
    Reference,
    Run,
    Split,
    State,
    SyntheticSet,
)
from dcbench_bacon.task import Task
from dcbench_bacon.timing import environment

DISTILLED_ON = "ConvNet"  # stands in where a set was selected, not distilled


class Job(NamedTuple):
    """A cell with its recipe, ready to run.

    Attributes:
        source: the data set as typed; for a folder, with its path.
        another: sha256 of a set from a file, where there is already a result of
            another set that was made by the same recipe, on another machine perhaps.
    """

    cell: Cell
    source: str
    resolved: recipe.Resolved
    another: str = ""

    @property
    def digest(self) -> str:
        """Of the whole recipe, and of the set where the recipe does not tell which."""
        digest = recipe.digest(self.resolved.recipe)
        if not self.another:
            return digest
        return hashlib.sha256(f"{digest} {self.another}".encode()).hexdigest()[:8]

    @property
    def distillation_digest(self) -> str:
        """Of what decides the synthetic set."""
        return recipe.distillation_digest(self.resolved.recipe)


@dataclass(frozen=True)
class Options:
    """How cells run; nothing here changes their numbers on one kind of device.

    Attributes:
        device: where.
        data_root: where data sets lie.
        download: whether missing data may be fetched.
        fresh: run finished cells again, from the start.
        policy: checkpoints, progress and stopping; its folder is set a cell.
    """

    device: torch.device
    data_root: Path | None = None
    download: bool = False
    fresh: bool = False
    policy: Policy = field(default_factory=Policy)

    @property
    def tell(self) -> Callable[[str], None]:
        """Takes a line for the user."""
        return self.policy.reporter.tell


class CellRun(Clock):
    """The run that a method sees: the clock, and what belongs to the cell.

    Args:
        cell: what is run.
        dataset: what it is run on.
        options: how it runs.
        folder: of its checkpoints; none are written without it.
        shared: where what several cells need is kept; not kept without it.
        key: what the random streams derive from, instead of the cell.
    """

    def __init__(
        self,
        cell: Cell,
        dataset: data.Dataset,
        options: Options,
        folder: Path | None,
        shared: Path | None = None,
        *,
        key: str | None = None,
    ) -> None:
        """Joins clock and data."""
        policy = replace(options.policy, folder=folder)
        super().__init__(key or str(cell), options.device, policy)
        self.cell = cell
        self.info = dataset.info
        self.train = dataset.train
        self.shared = shared
        self._parts = (cell, dataset, options)

    def once(self, name: str, make: Callable[[Run], State]) -> State:
        """See ``Run.once``."""

        def made(folder: Path | None) -> State:
            run = CellRun(*self._parts, folder, key=name)
            content = make(run)
            return {"content": content, "timings": msgspec.to_builtins(run.timings)}

        if self.shared is None:
            found = made(None)
        else:
            found = shared.once(self.shared, name, self.policy, made)
        self.timings |= msgspec.convert(found["timings"], dict[str, Timing])
        content: State = found["content"]
        return content


def method_class(name: str) -> type[Configured]:
    """What a module of ``methods/`` defines: a ``Method``, or a ``Reference``.

    Raises:
        UsageError: the module defines none, or several.
    """
    module = METHODS.module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method | Reference)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UsageError(f"{module.__name__} defines {len(found)} methods, not one")
    return found[0]


def cell_of(method: str, dataset: str, ipc: int, seed: int = 0) -> Cell:
    """The cell of a method; that of a reference is the same for all ``ipc``."""
    reference = issubclass(method_class(method), Reference)
    return Cell(method, dataset, 0 if reference else ipc, seed)


def method_sha256(name: str) -> str:
    """Of the module's source."""
    return hashlib.sha256(METHODS.source(name).read_bytes()).hexdigest()


def say_if_changed(cell: Cell, made_by: Any, tell: Callable[[str], None]) -> None:
    """Says that a method is not any more what made a set.

    Args:
        cell: of the set.
        made_by: the method's sha256 at the time; none where it is not known.
        tell: takes the line.
    """
    if made_by is not None and made_by != method_sha256(cell.method):
        name = METHODS.source(cell.method).name
        tell(f"{cell}: {name} has changed since; --fresh distils anew")


def recipe_file(method: str) -> Path:
    """The TOML file beside a method's module."""
    return METHODS.source(method).with_suffix(".toml")


def check_architectures(names: Iterable[str]) -> None:
    """Makes sure that there is a network or a pool of each name.

    Raises:
        UsageError: there is none.
    """
    for name in plain(names, DISTILLED_ON):
        networks.check(name)


def check_names(resolved: recipe.Resolved, path: Path) -> None:
    """Makes sure that the networks and augmentations of a recipe exist.

    Raises:
        UsageError: one does not; names the recipe and lists what there is.
    """
    settings, protocol = resolved.recipe.settings, resolved.recipe.protocol
    try:
        parse_strategy(str(settings.get("augmentation", "")))
        check_architectures([distilled_on(resolved.recipe)])
        check_protocol(protocol)
        policies.check_whitened(protocol.augmentation, bool(settings.get("zca")))
    except UsageError as error:
        raise UsageError(f"recipe {path.name}: {error}") from error


def in_force(protocol: Protocol, synthetic: SyntheticSet) -> Protocol:
    """The protocol, at the learning rate of the set where it asks for that.

    Raises:
        DataError: the set carries no learning rate, or none that can be used.
    """
    if not protocol.use_learned_rate:
        return protocol
    learned = synthetic.provenance.get("learning_rate")
    if not isinstance(learned, float) or not 0 < learned < math.inf:
        raise DataError(
            f"use_learned_rate: the set's own learning rate is {learned!r}; give it "
            "with --learned-rate where its authors state it, or use that of the "
            "protocol with --set protocol.use_learned_rate=false"
        )
    return msgspec.structs.replace(protocol, learning_rate=learned)


def check_protocol(protocol: Protocol) -> None:
    """Makes sure that the networks and the augmentation of a protocol exist.

    Raises:
        UsageError: one does not; lists what there is.
    """
    policies.check(protocol.augmentation)
    for each in protocol.exemptions:
        policies.check(each.augmentation or "none")
        networks.check(each.architecture)
    check_architectures((*protocol.architectures, *protocol.teachers))


def hold_out(cell: Cell, train: Split, share: float) -> tuple[Split, Split]:
    """What a cell's method may see of train, and what is kept for validation.

    The same for all methods and numbers of images: they are compared on one split, and
    share what is trained on the other.
    """
    draws = stream(f"{cell.dataset}-s{cell.seed}", "validation")
    return data.split_validation(train, share, draws)


def held_out_sha256(validation: Split | None) -> str | None:
    """Return what tells held-out images apart; none where nothing is held out."""
    if validation is None:
        return None
    return data.sha256(validation.images, validation.labels)


def judged_as(method: str, cell: Cell, request: recipe.Request) -> recipe.Judged:
    """Return how a set is evaluated as the sets of a method are.

    Raises:
        UsageError: the protocol has a network or an augmentation that does not exist.
    """
    found = recipe.judged_as(
        recipe_file, msgspec.structs.replace(cell, method=method), request
    )
    check_protocol(found.protocol)
    return found


def resolve(cell: Cell, request: recipe.Request) -> recipe.Resolved:
    """The recipe in force for a cell."""
    settings = method_class(cell.method).Settings
    resolved = recipe.resolve(recipe_file, settings, cell, request)
    check_names(resolved, recipe_file(cell.method))
    found = resolved.recipe
    names = plain(found.protocol.architectures, distilled_on(found))
    protocol = msgspec.structs.replace(found.protocol, architectures=names)
    return resolved._replace(recipe=msgspec.structs.replace(found, protocol=protocol))


def distilled_on(found: Recipe) -> str:
    """The network of a recipe; for a method without one the field's default."""
    return str(found.settings.get("architecture") or DISTILLED_ON)


def plain(names: Iterable[str], source: str) -> tuple[str, ...]:
    """Names of networks in place of pools.

    Args:
        names: as they were typed.
        source: the network that the set was distilled on.
    """
    return pools.expand(names, source, networks.names())


class Opened(NamedTuple):
    """A set from a file, and the real images that it is judged by.

    Attributes:
        synthetic: the set.
        cell: what it was made as.
        dataset: whitened if the set is; without what is held out.
        validation: held out of train, where the protocol chooses by it.
    """

    synthetic: SyntheticSet
    cell: Cell
    dataset: data.Dataset
    validation: Split | None = None


class Work:
    """Runs one cell.

    Args:
        job: the cell and its recipe.
        fingerprint: of its data set before whitening; None if that is not at hand.
        store: where its files go.
        options: how it runs.
        anew: make its set although there is one, which stays until the new one has
            been judged.
    """

    dataset: data.Dataset
    validation: Split | None = None
    teachers = teachers.Teachers()

    def __init__(
        self,
        job: Job,
        fingerprint: str | None,
        store: Store,
        options: Options,
        *,
        anew: bool = False,
    ) -> None:
        """Nothing runs yet."""
        self.job = job
        self.fingerprint = fingerprint
        self.store = store
        self.options = options
        self.anew = anew
        self.recipe = job.resolved.recipe
        self.folder = store.checkpoint_folder(job.cell, job.digest, fingerprint)

    def run(self, dataset: data.Dataset) -> Record:
        """Distils (or finds the set on disk), evaluates, and makes the record.

        Args:
            dataset: whitened where the recipe says so.
        """
        cell = self.job.cell
        self._take(dataset)
        method = method_class(cell.method).create(self.recipe.settings)
        if isinstance(method, Reference):
            facts = self._judge(method.images(self._cell_run()))
        else:
            assert isinstance(method, Method)
            path = self._made(method)
            synthetic = self._read(path)
            facts = self._judge(synthetic) | described(synthetic)
            made_by = synthetic.provenance.get("method_sha256")
            say_if_changed(cell, made_by, self.options.tell)
            facts["method_sha256"] = made_by
            if path != self.set_path:
                set_files.replace(self.set_path, path)
        return self.record("done", **facts)

    def judge(self, opened: Opened) -> Record:
        """Evaluates a set that was read from a file, and makes the record."""
        self.dataset, self.validation = opened.dataset, opened.validation
        synthetic = opened.synthetic
        return self.record("done", **self._judge(synthetic), **described(synthetic))

    @property
    def set_path(self) -> Path:
        """Where the set of the cell lies."""
        digest = self.job.distillation_digest
        return self.store.synthetic_path(self.job.cell, digest, self.fingerprint)

    def _made(self, method: Method) -> Path:
        """The file of the set, distilled now if there is none."""
        path = self.folder / "anew.set" if self.anew else self.set_path
        if path.exists():
            return path
        if not self.anew and (older := self._older_set()):
            return older
        self._distill(method, path)
        return path

    def _older_set(self) -> Path | None:
        """A set that was named without a fingerprint, if it is of these images."""
        digest = self.job.distillation_digest
        path = self.store.synthetic_path(self.job.cell, digest, None)
        if not path.exists():
            return None
        try:
            made_from = container.read(path).provenance.get("dataset_sha256")
        except RecordError as error:
            self.options.tell(f"warning: {error}; distilled again")
            return None
        return path if made_from == self.dataset.fingerprint else None

    def _judge(self, synthetic: SyntheticSet) -> dict[str, Any]:
        """Trains and tests the networks of the protocol: fields of the record."""
        self._find_teachers()
        run = self._cell_run()
        evaluations = evaluate(run, self._task(synthetic))
        return {
            "evaluations": tuple(evaluations),
            "history": tuple(self._read_history()),
            "evaluation": {**self.teachers.timings, **run.timings},
            "teachers": self.teachers.origins,
        }

    def _find_teachers(self) -> None:
        """Trains the teachers, or finds them on disk; once."""
        if not self.teachers.networks:
            self.teachers = teachers.find(self._cell_run(), self.recipe.protocol)

    def _cell_run(self) -> CellRun:
        """The run of this cell."""
        return CellRun(
            self.job.cell, self.dataset, self.options, self.folder, self.store.shared
        )

    def _take(self, dataset: data.Dataset) -> None:
        """Holds out what the protocol wants."""
        cell, protocol = self.job.cell, self.recipe.protocol
        if cell.dataset != dataset.info.name:
            raise DataError(f"{self.job.source} holds {dataset.info.name}")
        train = dataset.train
        if protocol.held_out:
            train, self.validation = hold_out(cell, train, protocol.validation)
        self.dataset = replace(dataset, train=train)
        check_ipc(cell, self.dataset)

    def _read(self, path: Path) -> SyntheticSet:
        """The stored set.

        Raises:
            RecordError: it is damaged, or not what its name says.
        """
        try:
            synthetic = container.read(path, self.options.device)
        except RecordError as error:
            raise RecordError(f"{error}; distil it again with --fresh") from error
        if synthetic.provenance.get("dataset_sha256") != self.dataset.fingerprint:
            raise RecordError(
                f"{path} was not distilled from {self.job.source}, as its name says; "
                "move it away, or distil it again with --fresh"
            )
        held_out = held_out_sha256(self.validation)
        if synthetic.provenance.get("validation_sha256") != held_out:
            raise DataError(
                f"{path} was distilled with other images held out for validation; use "
                "--fresh, or another --output"
            )
        return synthetic

    def record(self, status: Any, **fields: Any) -> Record:
        """A record of this cell."""
        return Record(
            cell=self.job.cell,
            recipe=self.recipe,
            digest=self.job.digest,
            status=status,
            environment=environment(self.options.device),
            dataset_sha256=self.fingerprint,
            **fields,
        )

    def _distill(self, method: Method, path: Path) -> None:
        """Runs the method and stores its set with where it comes from."""
        cell = self.job.cell
        run = self._cell_run()
        if every := self.recipe.protocol.evaluate_every:
            self._find_teachers()
            run.schedule = Schedule(every, self._evaluate_snapshot)
        synthetic = method.distill(run)
        if not torch.isfinite(synthetic.images).all():
            raise DivergedError("the images are not finite; try a smaller image_lr")
        if every and self.recipe.protocol.selection != "final":
            self._evaluate_snapshot(
                int(self.recipe.settings.get("steps") or 0), synthetic
            )
            synthetic = container.read(self.folder / "best.set", self.options.device)
        provenance = {
            "cell": msgspec.to_builtins(cell),
            "method_sha256": method_sha256(cell.method),
            "dataset": msgspec.to_builtins(self.dataset.info),
            "dataset_sha256": self.dataset.fingerprint,
            "validation_sha256": held_out_sha256(self.validation),
            "recipe": msgspec.to_builtins(self.recipe),
            "zca": self.dataset.zca,
            "learning_rate": None,
            "environment": msgspec.to_builtins(environment(self.options.device)),
            "distillation": msgspec.to_builtins(run.timings),
        }
        try:
            container.write(
                path,
                replace(synthetic, provenance={**provenance, **synthetic.provenance}),
            )
        except ValueError as error:
            raise DataError(f"{cell.method} made no valid set: {error}") from error

    def _evaluate_snapshot(self, step: int, synthetic: SyntheticSet) -> None:
        """Evaluates a set on the way, once, and keeps it if it is the best so far."""
        history = self._read_history()
        if any(entry.step == step for entry in history):
            return
        policy = replace(self.options.policy, folder=None)
        clock = Clock(f"{self.job.cell}@{step}", self.options.device, policy)
        new = [
            msgspec.structs.replace(entry, step=step)
            for entry in evaluate(clock, self._task(synthetic), f"step {step}")
        ]
        best = max(map(self._score, _by_step(history)), default=-1.0)
        if self.recipe.protocol.selection != "final" and self._score(new) > best:
            container.write(self.folder / "best.set", synthetic)
        encoded = msgspec.json.encode([*history, *new])
        write_atomically(self.folder / "history.json", encoded)

    def _task(self, synthetic: SyntheticSet) -> Task:
        """How a set of this cell is judged."""
        protocol = in_force(self.recipe.protocol, synthetic)
        provenance = {"zca": self.dataset.zca, **synthetic.provenance}
        return Task(
            replace(synthetic, provenance=provenance),
            self.dataset.test,
            self.dataset.info,
            protocol,
            self.validation,
            self.teachers.networks,
        )

    def _score(self, evaluations: Sequence[Evaluation]) -> float:
        """What snapshots are compared by; never test unless the name says so."""
        on_test = self.recipe.protocol.selection != "best_val"
        values = [e.accuracy if on_test else e.validation or 0.0 for e in evaluations]
        return sum(values) / len(values)

    def _read_history(self) -> list[Evaluation]:
        path = self.folder / "history.json"
        if not path.exists():
            return []
        return msgspec.json.decode(path.read_bytes(), type=list[Evaluation])


def described(synthetic: SyntheticSet) -> dict[str, Any]:
    """What a record says of a set: its cost, its content and its size."""
    cost = synthetic.provenance.get("distillation", {})
    return {
        "distillation": msgspec.convert(cost, dict[str, Timing]),
        "synthetic_sha256": container.digest(synthetic),
        "synthetic_bytes": synthetic.images.nbytes + synthetic.labels.nbytes,
        "label_bytes": synthetic.labels.nbytes,
        "label_kind": _label_kind(synthetic.labels),
        **identity.recorded(synthetic),
    }


def _label_kind(labels: torch.Tensor) -> LabelKind:
    """Whether every row of labels (images, classes) names one class alone."""
    return "hard" if bool(((labels != 0).sum(1) == 1).all()) else "soft"


def _by_step(history: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """The evaluations of each snapshot."""
    steps = dict.fromkeys(entry.step for entry in history)
    return [[entry for entry in history if entry.step == step] for step in steps]


def check_ipc(cell: Cell, dataset: data.Dataset) -> None:
    """Makes sure that every class has enough images.

    Raises:
        UsageError: the smallest class has fewer than ``ipc``.
    """
    counts = torch.bincount(dataset.train.labels, minlength=dataset.info.classes)
    smallest = int(counts.argmin())
    if cell.ipc > counts[smallest]:
        raise UsageError(
            f"ipc {cell.ipc} is more than the {int(counts[smallest])} training images "
            f"of class {dataset.info.class_names[smallest]!r} of {cell.dataset}; "
            "choose a smaller --ipc"
        )
