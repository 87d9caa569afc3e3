"""The records of a page as one block of JSON, in which nothing is written twice.

The page shows a record when it is asked for. Two thousand records share most of their
values, sources and machines, so that each record names them by their numbers.
"""

import json
from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from markupsafe import Markup

from dcbench_bacon.reporting.html import provenance
from dcbench_bacon.schema import Evaluation, Record, Timing
from dcbench_bacon.store import Store

T = TypeVar("T", bound=Hashable)


class Numbered(Generic[T]):
    """Distinct things, numbered from 0 in the order in which they came."""

    def __init__(self) -> None:
        """Start without any."""
        self.numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        """Return the number of a value, which is a new one for a new value."""
        return self.numbers.setdefault(value, len(self.numbers))


def as_typed(record: Record) -> Record:
    """Return a record with the data set's own name.

    ``longform.told_apart`` appends the beginning of a fingerprint where two data sets
    have one name.
    """
    ending = f" ({(record.dataset_sha256 or '')[:8]})"
    name = record.cell.dataset.removesuffix(ending)
    cell = msgspec.structs.replace(record.cell, dataset=name)
    return msgspec.structs.replace(record, cell=cell)


def details(store: Store, records: Sequence[Record]) -> Any:
    """Return what the page shows of each record, ready to be written as JSON.

    Args:
        store: the results folder that the records are from.
        records: the records, with the names that tables give their data sets.

    Returns:
        ``records``, whose ``settings`` and ``protocol`` are numbers of ``lines`` (key,
        value, table, source) and whose ``environment`` is a number of ``environments``.
    """
    lines: Numbered[tuple[str, ...]] = Numbered()
    environments: Numbered[str] = Numbered()
    entries = []
    for record in records:
        original = as_typed(record)
        settings, protocol = provenance.lines(original)
        machine = json.dumps(_facts(msgspec.structs.asdict(record.environment)))
        entries.append(
            {
                **_identity(original, record.cell.dataset),
                "file": _file(store, original),
                "settings": [lines.number(tuple(line)) for line in settings],
                "protocol": [lines.number(tuple(line)) for line in protocol],
                "environment": environments.number(machine),
                "command": provenance.command(original)._asdict(),
            }
        )
    machines = [json.loads(machine) for machine in environments.numbers]
    return {"records": entries, "lines": list(lines.numbers), "environments": machines}


def as_script(data: Any) -> Markup:
    """Return data as JSON that no text in it can end early.

    ``<``, ``>`` and ``&`` are written as escapes, which JSON reads as themselves.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # nothing in it is markup any more


def _identity(record: Record, shown: str) -> dict[str, Any]:
    """Return what a record is of, what it measured and the hashes of its parts."""
    cell, identified_by = record.cell, record.identified_by
    hashes = {
        "data set"
        if identified_by == "content"
        else f"data set ({identified_by})": record.dataset_sha256,
        "method's code": record.method_sha256,
        "synthetic set": record.synthetic_sha256,
        "validation split": record.validation_sha256,
    }
    sizes = {
        "set (bytes)": record.synthetic_bytes,
        "labels (bytes)": record.label_bytes,
        "images": record.images,
        "labels": record.label_kind,
    }
    return {
        "title": [record.name or cell.method, shown, cell.ipc, cell.seed],
        "digest": record.digest,
        "status": record.status,
        "preset": record.recipe.preset,
        "evaluations": [_evaluation(result) for result in record.evaluations],
        "stages": [_stage(*stage) for stage in record.distillation.items()],
        "hashes": _facts(hashes),
        "sizes": _facts(sizes),
        **_facts({"error": record.error}),
    }


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that are known."""
    return {name: value for name, value in facts.items() if value is not None}


def _evaluation(result: Evaluation) -> list[Any]:
    """Return network, trial, accuracy in percent, pass and seconds."""
    accuracy = round(100 * result.accuracy, 4)
    parts = (result.architecture, result.augmentation)
    network = ", ".join(filter(None, parts))
    return [network, result.trial, accuracy, result.epoch, round(result.seconds, 2)]


def _stage(name: str, cost: Timing) -> list[Any]:
    """Return a stage's name, seconds, steps, median step in seconds and peak bytes."""
    step = round(cost.median, 6)
    return [name, round(cost.seconds, 2), cost.steps, step, cost.peak_bytes]


def _file(store: Store, record: Record) -> str:
    """Return the path of the record's file in the results folder, if it is there."""
    for fingerprint in (record.dataset_sha256, None):
        path = store.record_path(record.cell, record.digest, fingerprint)
        for file in (path, path.parents[1] / "failures" / path.name):
            if file.exists():
                return file.relative_to(store.root).as_posix()
    return ""
