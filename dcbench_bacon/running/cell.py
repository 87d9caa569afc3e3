"""One cell on its way from data to record."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from dcbench_bacon.contract import Method, Reference, method_class
from dcbench_bacon.data.dataset import Dataset, held_out_sha256
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.sets.set_identity import set_facts
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, RecordError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.field_types import IdentifiedBy
from dcbench_bacon.plugins import title_of
from dcbench_bacon.running import set_files
from dcbench_bacon.running.clock import Clock, Schedule
from dcbench_bacon.running.plans.planning import CellJob, report_changed_method
from dcbench_bacon.running.run import CellRun, OpenedSet, RunContext
from dcbench_bacon.running.stages import (
    Images,
    check_finite,
    images_for,
    task_of,
    with_provenance,
)
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.schema import Evaluation, Record
from dcbench_bacon.store import Store
from dcbench_bacon.training.regimes import label_bytes, labelled
from dcbench_bacon.training.task import Task
from dcbench_bacon.training.teachers import Teachers, find


class CellRunner:
    """Runs one cell.

    Args:
        job: the cell and its recipe.
        fingerprint: of its data set before whitening; None if that is not at hand.
        store: where its files go.
        context: how it runs.
        anew: make its set although there is one, which stays until the new one has
            been judged.
    """

    images: Images
    teachers = Teachers()

    def __init__(
        self,
        job: CellJob,
        fingerprint: str | None,
        store: Store,
        context: RunContext,
        *,
        anew: bool = False,
    ) -> None:
        """Run nothing yet."""
        self.job = job
        self.fingerprint = fingerprint
        self.store = store
        self.context = context
        self.anew = anew
        self.recipe = job.resolved.recipe
        self.folder = store.checkpoint_folder(job.cell, job.digest, fingerprint)

    def run(self, dataset: Dataset) -> Record:
        """Distil, or find the set on disk, evaluate it, and return the record.

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
            facts = self._judge(synthetic) | set_facts(synthetic)
            made_by = synthetic.provenance.get("method_sha256")
            report_changed_method(cell, made_by, self.context.tell)
            facts["method_sha256"] = made_by
            if path != self.set_path:
                set_files.replace(self.set_path, path)
        return self.record("done", **facts)

    def judge(self, opened: OpenedSet) -> Record:
        """Evaluate a set that was read from a file, and return the record."""
        self.images = Images(opened.dataset, opened.validation)
        synthetic = opened.synthetic
        return self.record("done", **self._judge(synthetic), **set_facts(synthetic))

    @property
    def set_path(self) -> Path:
        """Where the set of the cell lies."""
        digest = self.job.distillation_digest
        return self.store.synthetic_path(self.job.cell, digest, self.fingerprint)

    def _made(self, method: Method) -> Path:
        """Return the file of the set, which is distilled if there is none."""
        path = self.folder / "anew.set" if self.anew else self.set_path
        if path.exists():
            return path
        if not self.anew and (older := self._older_set()):
            return older
        self._distill(method, path)
        return path

    def _older_set(self) -> Path | None:
        """Return a set named without a fingerprint, if it is of these images."""
        digest = self.job.distillation_digest
        path = self.store.synthetic_path(self.job.cell, digest, None)
        if not path.exists():
            return None
        try:
            made_from = synthetic_file.read(path).provenance.get("dataset_sha256")
        except RecordError as error:
            self.context.tell(f"warning: {error}; distilled again")
            return None
        return path if made_from == self.images.dataset.fingerprint else None

    def _judge(self, synthetic: SyntheticSet) -> dict[str, Any]:
        """Train and test the networks of the protocol; return fields of the record."""
        self._find_teachers()
        run = self._cell_run()
        asked = self._task(synthetic)
        task = labelled(run, asked)
        evaluations = evaluate(run, task)
        return {
            "regime": self.recipe.protocol.regime,
            "taught_bytes": label_bytes(task if task.kept else asked),
            "evaluations": tuple(evaluations),
            "history": tuple(self._read_history()),
            "evaluation": {**self.teachers.timings, **run.timings},
            "teachers": self.teachers.origins,
            "validation_sha256": held_out_sha256(self.images.validation),
            "whitening_sha256": (self.images.dataset.zca or {}).get("sha256"),
        }

    def _find_teachers(self) -> None:
        """Train the teachers once, or find them on disk."""
        if not self.teachers.networks:
            self.teachers = find(self._cell_run(), self.recipe.protocol)

    def _cell_run(self) -> CellRun:
        """Return the run of this cell."""
        return CellRun(
            self.job.cell,
            self.images.dataset,
            self.context,
            self.folder,
            self.store.shared,
        )

    def _take(self, dataset: Dataset) -> None:
        """Hold out the images that the protocol wants held out."""
        cell, protocol = self.job.cell, self.recipe.protocol
        if cell.dataset != dataset.info.name:
            raise DataError(f"{self.job.source} holds {dataset.info.name}")
        self.images = images_for(cell, dataset, protocol)

    def _read(self, path: Path) -> SyntheticSet:
        """Return the stored set.

        Raises:
            RecordError: it is damaged, or not what its name says.
        """
        try:
            synthetic = synthetic_file.read(path, self.context.device)
        except RecordError as error:
            raise RecordError(f"{error}; distil it again with --fresh") from error
        if (
            synthetic.provenance.get("dataset_sha256")
            != self.images.dataset.fingerprint
        ):
            raise RecordError(
                f"{path} was not distilled from {self.job.source}, as its name says; "
                "move it away, or distil it again with --fresh"
            )
        held_out = held_out_sha256(self.images.validation)
        if synthetic.provenance.get("validation_sha256") != held_out:
            raise DataError(
                f"{path} was distilled with other images held out for validation; use "
                "--fresh, or another --output"
            )
        return synthetic

    def record(self, status: Any, **fields: Any) -> Record:
        """Return a record of this cell."""
        return Record(
            cell=self.job.cell,
            recipe=self.recipe,
            digest=self.job.digest,
            status=status,
            environment=environment(self.context.device),
            dataset_sha256=self.fingerprint,
            titles=self._titles(),
            identified_by=self._identified_by(),
            **fields,
        )

    def _identified_by(self) -> IdentifiedBy:
        """Return what the fingerprint is of; the content until the data are read."""
        loaded = hasattr(self, "images")
        return self.images.dataset.identified_by if loaded else "content"

    def _titles(self) -> dict[str, str]:
        """Return the printed names of the method and, once it is read, the data set."""
        titles = {self.job.cell.method: title_of(self.job.cell.method) or ""}
        if hasattr(self, "images"):
            titles[self.job.cell.dataset] = self.images.dataset.info.title
        return {name: title for name, title in titles.items() if title}

    def _distill(self, method: Method, path: Path) -> None:
        """Run the method and store its set with its provenance."""
        cell = self.job.cell
        run = self._cell_run()
        if every := self.recipe.protocol.evaluate_every:
            self._find_teachers()
            run.schedule = Schedule(every, self._evaluate_snapshot)
        synthetic = method.distill(run)
        check_finite(synthetic)
        if every and self.recipe.protocol.selection != "final":
            self._evaluate_snapshot(self.recipe.whole_number("steps"), synthetic)
            synthetic = synthetic_file.read(
                self.folder / "best.set", self.context.device
            )
        synthetic = with_provenance(run, synthetic, self.recipe, self.images)
        try:
            synthetic_file.write(path, synthetic)
        except ValueError as error:
            raise DataError(f"{cell.method} made no valid set: {error}") from error

    def _evaluate_snapshot(self, step: int, synthetic: SyntheticSet) -> None:
        """Evaluate a set on the way once, and keep it if it is the best so far."""
        history = self._read_history()
        if any(entry.step == step for entry in history):
            return
        # The networks of a snapshot have checkpoints too: a kill repeats none of them.
        checkpoints = self.folder / f"snapshot-{step}"
        policy = replace(self.context.policy, folder=checkpoints)
        clock = Clock(f"{self.job.cell}@{step}", self.context.device, policy)
        task = labelled(self._cell_run(), self._task(synthetic))
        new = [
            msgspec.structs.replace(entry, step=step)
            for entry in evaluate(clock, task, f"step {step}")
        ]
        best = max(map(self._score, _by_step(history)), default=-1.0)
        if self.recipe.protocol.selection != "final" and self._score(new) > best:
            synthetic_file.write(self.folder / "best.set", synthetic)
        encoded = msgspec.json.encode([*history, *new])
        write_atomically(self.folder / "history.json", encoded)
        shutil.rmtree(checkpoints, ignore_errors=True)

    def _task(self, synthetic: SyntheticSet) -> Task:
        """Return the task of evaluating a set of this cell."""
        return task_of(
            synthetic, self.images, self.recipe.protocol, self.teachers.networks
        )

    def _score(self, evaluations: Sequence[Evaluation]) -> float:
        """Return the accuracy that snapshots are compared by, in [0, 1].

        The accuracy on test chooses a snapshot only under ``best_test``.
        """
        on_test = self.recipe.protocol.selection != "best_val"
        values = [e.accuracy if on_test else e.validation or 0.0 for e in evaluations]
        return sum(values) / len(values)

    def _read_history(self) -> list[Evaluation]:
        path = self.folder / "history.json"
        if not path.exists():
            return []
        return msgspec.json.decode(path.read_bytes(), type=list[Evaluation])


def _by_step(history: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Return the evaluations of each snapshot."""
    steps = dict.fromkeys(entry.step for entry in history)
    return [[entry for entry in history if entry.step == step] for step in steps]
