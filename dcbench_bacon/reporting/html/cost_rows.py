"""The rows of the page's tables of cost: of sets, and of the steps that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from dcbench_bacon.recipes.toml_tables import PROTOCOL_PREFIX
from dcbench_bacon.reporting.figures.points import named_in, overridden
from dcbench_bacon.reporting.html.rows import (
    PRESETS,
    Facets,
    facets,
    optional,
)
from dcbench_bacon.reporting.numbers import cost, longform, tables
from dcbench_bacon.schema import Record

PHASES = ("data", "augmentation", "real_forward", "synthetic", "queue", "update")


@dataclass(frozen=True)
class StepRow:
    """A row of the table of steps.

    Attributes:
        facets: what it can be filtered by.
        method: the printed name of the method.
        changes: the values that were overridden.
        seed: the seed of the set.
        stage: the name of the stage.
        steps: the number of steps.
        median: the seconds of the median step.
        iqr: the distance of its quartiles in seconds.
        phases: the milliseconds per step, by phase; ``other`` is the rest.
        images: the images per second.
        peak: the peak of memory in gigabytes.
        device: the name of the device.
    """

    facets: Facets
    method: str
    changes: str
    seed: int
    stage: str
    steps: int
    median: float
    iqr: float
    phases: dict[str, float]
    images: float
    peak: float
    device: str

    @property
    def total(self) -> float:
        """The milliseconds of a mean step."""
        return sum(self.phases.values())

    @property
    def spoken(self) -> str:
        """The phases in words."""
        phases = self.phases.items()
        return ", ".join(f"{k.replace('_', ' ')} {v:.3g} ms" for k, v in phases)

    @property
    def stripes(self) -> str:
        """The phases as stripes of a gradient in CSS, by their share of a step."""
        ends = [100 * end / self.total for end in accumulate(self.phases.values())]
        edges = zip(self.phases, [0.0, *ends], ends, strict=False)
        return ",".join(f"var(--{k}) {low:.4g}% {high:.4g}%" for k, low, high in edges)


def steps(records: Sequence[Record]) -> list[StepRow]:
    """Return the rows of the table of steps."""
    named = named_in(records)
    changes = {record.digest: overridden(record) for record in records}
    return [
        StepRow(
            facets=facets(row),
            method=named(row["method"]),
            changes=changes[row["recipe"]],
            seed=int(row["seed"]),
            stage=str(row["stage"]),
            steps=int(row["steps"]),
            median=float(row["median_seconds"]),
            iqr=float(row["iqr_seconds"]),
            phases=_phases(row),
            images=optional(row["images_per_second"]) or 0.0,
            peak=float(row["peak_gb"]),
            device=str(row["device"]),
        )
        for row in tables.timing(records).reset_index().to_dict("records")
    ]


def _phases(row: Mapping[Any, Any]) -> dict[str, float]:
    """Return the milliseconds per step of the phases that a stage has."""
    milliseconds = {name: optional(row[f"{name}_ms"]) for name in (*PHASES, "other")}
    return {name: value for name, value in milliseconds.items() if value}


@dataclass(frozen=True)
class SetRow:
    """A row of the table of sets.

    Attributes:
        facets: what it can be filtered by.
        method: the printed name of the method.
        changes: the values that were overridden.
        protocol: the name of the protocol.
        bytes: the size of images and labels as stored.
        labels: the size of the labels as stored.
        updates: the steps of all stages of the distillation.
        images: the images that went through a network in them.
        distillation: the seconds of a distillation.
        evaluation: the seconds of training and testing the networks on one set.

    All numbers are means over sets; None where they are not recorded.
    """

    facets: Facets
    method: str
    changes: str
    protocol: str
    bytes: float | None
    labels: float | None
    updates: float | None
    images: float | None
    distillation: float | None
    evaluation: float | None


def sets(records: Sequence[Record]) -> list[SetRow]:
    """Return the rows of the table of sets, without the whole training set."""
    named = named_in(records)
    frame = cost.cost(longform.frame(records), presets=PRESETS)
    return [
        SetRow(
            facets=facets(row, str(row["architecture"])),
            method=named(row["method"]),
            changes=str(row["overrides"]).replace(PROTOCOL_PREFIX, ""),
            protocol=str(row["protocol"]),
            bytes=optional(row["set_bytes"]),
            labels=optional(row["label_bytes"]),
            updates=optional(row["updates"]),
            images=optional(row["images_seen"]),
            distillation=optional(row["distillation_seconds"]),
            evaluation=optional(row["evaluation_seconds"]),
        )
        for row in frame[frame["ipc"] > 0].to_dict("records")
    ]
