"""Tables of records: accuracies beside published numbers, spread, timing, failures.

Every function gives the same output whatever the order of the records. The index of a
table is the digest of the recipe, so that two recipes are two rows and never one mean.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.agreement import MeasuredRow, obstacles, remarks
from dcbench_bacon.reporting.literature.published import EVALUATIONS, lookup
from dcbench_bacon.reporting.numbers.accuracies import moments
from dcbench_bacon.reporting.numbers.longform import (
    CELL,
    CHANGED,
    GROUP,
    build,
    identity,
    indexed,
    rank,
    told_apart,
)
from dcbench_bacon.schema import Record, Timing

# The columns of a summary that describe the published number.
_PUBLISHED = (
    *("published_mean", "published_std", "published_metric", "published_source"),
    *("published_architecture", "published_protocol", "published_augmentation"),
    *("published_epochs", "published_selection", "published_teachers"),
    *("published_evaluation", "published_certainty"),
)
SUMMARY = [
    *("dataset", "ipc", "method", "architecture", "protocol"),
    *("accuracy_mean", "accuracy_std", "n", *_PUBLISHED),
    *("difference", "not_compared", "remarks", "preset", "selection", "overrides"),
]
PHASES = ("data", "augmentation", "real forward", "synthetic", "queue", "update")
_PHASE_COLUMNS = {name: f"{name.replace(' ', '_')}_ms" for name in PHASES}


def _groups(
    frame: pd.DataFrame, presets: Sequence[str]
) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """Return finished evaluations that may be averaged, with their common values."""
    chosen = frame["preset"].str.removesuffix(CHANGED).isin(list(presets))
    kept = frame[(frame["status"] == "done") & chosen]
    return [
        (dict(zip(GROUP, tuple(key), strict=True)), group)
        for key, group in kept.groupby(GROUP, sort=False)
    ]


def summary(
    frame: pd.DataFrame,
    *,
    presets: Sequence[str] = ("paper",),
    source: str | None = None,
) -> pd.DataFrame:
    """Return mean, deviation and n in percent, beside the published number.

    ``accuracy_std`` pools all networks and seeds (ddof 1, missing when n is 1).
    Published numbers are those of ``published.lookup``, with the evaluation behind
    them. There is a ``difference`` if ``agreement`` finds no obstacle; otherwise
    ``not_compared`` names the obstacles. The index is the recipe.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
        source: a name of ``published.named``; None for the order of preference.
    """
    rows: list[dict[str, object]] = []
    for key, group in _groups(frame, presets):
        mean, deviation = moments(list(group["accuracy"]))
        rows.append(
            {
                **key,
                **{"accuracy_mean": mean, "accuracy_std": deviation},
                **{"n": len(group), **_beside(group, mean, source)},
                "overrides": group["overrides"].iloc[0],
            }
        )
    numbers = [
        *("accuracy_mean", "accuracy_std", "difference"),
        *("published_mean", "published_std"),
    ]
    table = build(rows, [*SUMMARY, "digest"]).astype(dict.fromkeys(numbers, float))
    whole = {"published_epochs": "Int64"}  # missing where they are not stated
    return indexed(table.astype(whole), SUMMARY)


def measured_row(group: pd.DataFrame) -> MeasuredRow:
    """Return the facts of a measurement, from its evaluations in long form."""
    first = group.iloc[0]
    return MeasuredRow(
        family=first["family"],
        architecture=first["architecture"],
        preset=str(first["preset"]).removesuffix(CHANGED),
        changed=bool(group["changed"].any()),
        selection=first["selection"],
        augmentation="+".join(dict.fromkeys(group["augmentation"])),
        teachers=tuple(filter(None, str(first["teachers"]).split("+"))),
        epochs=int(first["epochs"]),
    )


def _beside(group: pd.DataFrame, mean: float, source: str | None) -> dict[str, Any]:
    """Return the published columns of a row.

    Args:
        group: the evaluations of the row, in long form.
        mean: the measured accuracy in percent.
        source: as in ``summary``.
    """
    first, measured = group.iloc[0], measured_row(group)
    cell = str(first["method"]), str(first["dataset"]), int(first["ipc"])
    row = lookup(*cell, measured.architecture, source, measured.family)
    if row is None:
        return dict.fromkeys((*_PUBLISHED, "not_compared", "remarks"), "") | {
            **dict.fromkeys(("published_mean", "published_std", "published_epochs"))
        }
    behind, forbidden = EVALUATIONS[row.evaluation], obstacles(measured, row)
    fields = {
        **{"mean": row.mean, "std": row.std, "metric": row.metric},
        **{"source": row.source, "architecture": row.architecture},
        **{"protocol": behind.protocol, "augmentation": behind.augmentation or ""},
        **{"epochs": behind.epochs, "selection": behind.selection},
        **{"teachers": "+".join(behind.teachers), "evaluation": row.evaluation},
        **{"certainty": row.certainty},
    }
    return {
        **{f"published_{name}": value for name, value in fields.items()},
        "difference": None if forbidden else round(mean - row.mean, 9),
        "not_compared": " ".join(forbidden),
        "remarks": " ".join(remarks(measured, row)),
    }


def spread(frame: pd.DataFrame, *, presets: Sequence[str] = ("paper",)) -> pd.DataFrame:
    """Return the deviations between synthetic sets and between networks, in percent.

    ``std_sets`` is the deviation over seeds of the means per seed, ``std_networks`` the
    mean over seeds of the deviation within a seed; both with ddof 1.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
    """
    rows: list[dict[str, object]] = []
    for key, group in _groups(frame, presets):
        seeds = (group["accuracy"] * 100).groupby(group["seed"])
        means = seeds.mean()
        rows.append(
            {
                **key,
                **{"accuracy_mean": float(means.mean()), "sets": len(means)},
                "std_sets": float(means.std(ddof=1)),
                "std_networks": float(seeds.std(ddof=1).mean()),
                "networks": len(group),
                "overrides": group["overrides"].iloc[0],
            }
        )
    columns = [
        *(*CELL, "architecture", "protocol", "accuracy_mean", "std_sets", "sets"),
        *("std_networks", "networks", "preset", "selection", "overrides"),
    ]
    return indexed(build(rows, [*columns, "digest"]), columns)


def unfinished(records: Iterable[Record]) -> pd.DataFrame:
    """Return the records that are not done, each with its error."""
    columns = [*CELL, "seed", "protocol", "preset", "status", "error"]
    rows = [
        {**identity(record), "error": record.error or ""}
        for record in told_apart(records)
        if record.status != "done"
    ]
    order = [*CELL, "seed", "protocol", "preset", "digest", "error"]
    table = build(rows, [*columns, "digest"]).sort_values(order, key=rank)
    return indexed(table, columns)


def _speed(cost: Timing) -> dict[str, float]:
    """Return the operations per second, and their share of a matrix product's."""
    if cost.step_flops is None or cost.product_flops is None or not cost.median:
        return {}
    reached = cost.step_flops / cost.median
    return {"tflops": reached / 1e12, "share": 100 * reached / cost.product_flops}


def _cost(cost: Timing) -> dict[str, object]:
    """Return the cost of one stage, per step."""
    scale = 1000 / cost.steps
    spent = {
        column: cost.phases[name].seconds * scale
        for name, column in _PHASE_COLUMNS.items()
        if name in cost.phases
    }
    return {
        **{"steps": cost.steps, "median_seconds": cost.median},
        **{"iqr_seconds": cost.iqr, **spent},
        "other_ms": max(0.0, cost.seconds * scale - sum(spent.values())),
        "images_per_second": cost.images / (cost.seconds or float("nan")),
        **_speed(cost),
        "peak_gb": cost.peak_bytes / 1e9,
    }


def timing(records: Iterable[Record]) -> pd.DataFrame:
    """Return the cost of each stage of each distillation, one row per stage.

    Phases are in milliseconds per step. ``other_ms`` is the part of a step outside the
    named phases, ``peak_gb`` counts 10^9 bytes, and ``share`` is the percentage of a
    large matrix product's rate on the same device in the same run. Records that are not
    done and stages without steps are left out.
    """
    columns = [
        *(*CELL, "seed", "stage", "protocol", "preset", "steps", "median_seconds"),
        *("iqr_seconds", *_PHASE_COLUMNS.values(), "other_ms"),
        *("images_per_second", "tflops", "share", "peak_gb", "device", "torch"),
    ]
    rows: list[dict[str, object]] = [
        {
            **identity(record),
            **{"stage": stage, "device": record.environment.device},
            **{"torch": record.environment.torch, **_cost(cost)},
        }
        for record in told_apart(records)
        for stage, cost in record.distillation.items()
        if record.status == "done" and cost.steps
    ]
    order = [*CELL, "seed", "stage", "protocol", "preset", "device", "torch", "digest"]
    table = build(rows, [*columns, "digest"])
    table = table.sort_values([*order, "median_seconds"], key=rank)
    numbers = dict.fromkeys((*_PHASE_COLUMNS.values(), "tflops", "share"), float)
    return indexed(table.astype(numbers), columns)
