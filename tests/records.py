"""Records as a run leaves them, and rows of the tables made of them."""

from typing import Any

import pandas as pd

from dcbench_bacon.field_types import Preset, Selection, Status
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.schema import (
    Cell,
    Environment,
    Evaluation,
    Phase,
    Recipe,
    Record,
    Timing,
)

KEY = [
    *("dataset", "ipc", "method", "architecture", "protocol", "preset"),
    *("selection", "recipe"),
]
ENVIRONMENT = Environment(
    dcbench="0.1.0",
    git_commit="0123abc",
    python="3.11.0",
    torch="2.11.0",
    device="NVIDIA <H200> & co",
    cuda="13.0",
    threads=16,
    platform="Linux",
    utc="2025-01-01T00:00:00Z",
)
COST = Timing(
    seconds=2.0,
    steps=100,
    median=0.0195,
    iqr=0.0011,
    images=512_000,
    peak_bytes=3_210_000_000,
    phases={
        "data": Phase(0.1, 100),
        "augmentation": Phase(0.4, 100),
        "real forward": Phase(0.5, 100),
        "synthetic": Phase(0.7, 100),
        "update": Phase(0.05, 100),
    },
)


def record(
    cell: Cell,
    accuracies: tuple[float, ...],
    *,
    architecture: str = "ConvNet",
    preset: Preset = "paper",
    selection: Selection = "final",
    status: Status = "done",
    digest: str = "00000001",
    protocol: dict[str, Any] | None = None,
    overrides: dict[str, str] | None = None,
) -> Record:
    rules: dict[str, Any] = {"name": "dc", **(protocol or {})}
    if cell.dataset in ("mnist", "svhn"):  # digits are not mirrored
        rules = {"augmentation": "color_crop_cutout_scale_rotate", **rules}
    return Record(
        cell=cell,
        recipe=Recipe(
            settings={"steps": 100},
            protocol=Protocol(selection=selection, **rules),
            preset=preset,
            overrides=overrides or {},
        ),
        digest=digest,
        status=status,
        environment=ENVIRONMENT,
        evaluations=tuple(
            Evaluation(
                architecture=architecture,
                trial=trial,
                accuracy=accuracy,
                epoch=1000,
                seconds=1.5,
            )
            for trial, accuracy in enumerate(accuracies)
        ),
        distillation={"match": COST} if cell.method != "random" else {},
        error=None if status == "done" else "DivergedError: loss is nan_%",
    )


def select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name] == value]
    return table
