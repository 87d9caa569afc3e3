"""Records to tables: a pure function, the measured beside the published.

Every function gives the same output whatever the order of the records. Tables carry
the recipe digest as their index, so that two recipes are two rows and never one mean.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pandas as pd

from dcbench_bacon.printing import moments, render, to_rich
from dcbench_bacon.published import lookup
from dcbench_bacon.recipe import distillation_digest, protocol_digest
from dcbench_bacon.schema import Record, Timing

__all__ = [
    "CHANGED",
    "PHASES",
    "SUMMARY",
    "frame",
    "ordered",
    "render",
    "spread",
    "summary",
    "timing",
    "to_rich",
    "unfinished",
]

CHANGED = " + set"  # of a profile whose recipe ``--set`` has changed
SUMMARY = [
    *("dataset", "ipc", "method", "architecture"),
    *("accuracy_mean", "accuracy_std", "n"),
    *("published_mean", "published_source", "difference", "profile", "selection"),
]
PHASES = ("data", "augmentation", "real forward", "synthetic", "queue", "update")
_PHASE_COLUMNS = {name: f"{name.replace(' ', '_')}_ms" for name in PHASES}

# Rows come in these orders; whatever else there is follows alphabetically.
_ORDER: dict[str, tuple[str, ...]] = {
    "dataset": (
        *("mnist", "fashion_mnist", "svhn"),
        *("cifar10", "cifar100", "tiny_imagenet"),
    ),
    "method": (
        *("random", "herding", "k_center", "k_means"),
        *("dm", "idm", "bacon", "bacon+idm", "bacon+dm"),
    ),
    "architecture": ("ConvNet", "ConvNetD4"),
    "profile": ("paper", "quick", "demo"),
}
_CELL = ["dataset", "ipc", "method"]
_ORIGIN = (
    *("distilled_on", "set", "protocol", "comparable"),
    *("but_for_augmentation", "but_for_passes", "augmented", "taught"),
    *("distillation_seconds", "set_bytes", "label_bytes"),
)
_GROUP = [*_CELL, "architecture", "profile", "selection", "digest"]


def _rank(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """The sort key of a column: names of ``_ORDER`` first, in their order.

    The whole train split, IPC 0, comes after every number of images.
    """
    if column.name == "ipc":
        return column.where(column > 0, column.max() + 1)
    known = {name: i for i, name in enumerate(_ORDER.get(str(column.name), ()))}
    if not known:
        return column
    return column.map(
        lambda name: f"{known.get(name, len(known)):03d}{_natural(str(name))}"
    )


def _natural(name: str) -> str:
    """A key that sorts numbers by their size: W32 comes before W128."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(9), name)


def ordered(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows sorted by columns, names in the order that every table has."""
    return table.sort_values(list(columns), key=_rank, ignore_index=True)


def _build(rows: list[dict[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame with these columns even when there is no row."""
    return pd.DataFrame(rows, columns=list(columns))


def _indexed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns named, indexed by the recipe's digest."""
    return table.set_index("digest").rename_axis("recipe")[list(columns)]


def _identity(record: Record) -> dict[str, object]:
    """What every row of a record repeats."""
    cell = record.cell
    return {
        **{"dataset": cell.dataset, "ipc": cell.ipc},
        "method": record.name or cell.method,
        **{"seed": cell.seed, "digest": record.digest, "status": record.status},
        "profile": record.recipe.profile + CHANGED * bool(record.recipe.overrides),
        "selection": record.recipe.protocol.selection,
    }


def _origin(record: Record) -> dict[str, object]:
    """How the set of a record was made and judged, and what it cost.

    Records of one set under one protocol share ``set`` and ``protocol``, whatever
    networks each of them trained.
    """
    judged = record.recipe.protocol
    # A learning rate that was learned with a set is part of the set: others, which have
    # none, are comparable with it.
    shared = msgspec.structs.replace(judged, use_learned_rate=False)
    return {
        **{"distilled_on": record.recipe.settings.get("architecture") or ""},
        **{"set": distillation_digest(record.recipe)},
        **{"protocol": protocol_digest(judged)},
        **{"comparable": protocol_digest(shared)},
        **{"but_for_augmentation": protocol_digest(judged, "augmentation")},
        **{"but_for_passes": protocol_digest(shared, "epochs")},
        **{"augmented": judged.augmentation not in ("", "none")},
        **{"taught": bool(judged.teachers)},
        "distillation_seconds": sum(
            cost.seconds for cost in record.distillation.values()
        ),
        **{"set_bytes": record.synthetic_bytes, "label_bytes": record.label_bytes},
    }


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Long form, one row an evaluation; accuracies are fractions."""
    columns = [
        *(*_CELL, "seed", "architecture", "trial", "accuracy", "seconds"),
        *("profile", "selection", "digest", "status", *_ORIGIN),
    ]
    rows = [
        {
            **_identity(record),
            **_origin(record),
            **{"architecture": each.architecture, "trial": each.trial},
            **{"accuracy": each.accuracy, "seconds": each.seconds},
        }
        for record in records
        for each in record.evaluations
    ]
    order = [*_GROUP, "seed", "trial", "accuracy", "seconds", "status"]
    return _build(rows, columns).sort_values(order, key=_rank, ignore_index=True)


def _groups(
    frame: pd.DataFrame, profiles: Sequence[str]
) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """Finished evaluations that may be averaged, and what they have in common."""
    chosen = frame["profile"].str.removesuffix(CHANGED).isin(list(profiles))
    kept = frame[(frame["status"] == "done") & chosen]
    return [
        (dict(zip(_GROUP, tuple(key), strict=True)), group)
        for key, group in kept.groupby(_GROUP, sort=False)
    ]


def summary(
    frame: pd.DataFrame,
    *,
    profiles: Sequence[str] = ("paper",),
    source: str | None = None,
) -> pd.DataFrame:
    """Mean, deviation and n beside the published number; accuracies are percent.

    ``accuracy_std`` pools all networks and seeds (ddof 1, missing when n is 1).
    Published numbers are those of ``published.lookup``. The index is the recipe.

    Args:
        frame: the long form of ``frame``; only records that are done count.
        profiles: whose records enter.
        source: a key of ``published.SOURCES`` instead of the order of preference.
    """
    rows: list[dict[str, object]] = []
    for key, group in _groups(frame, profiles):
        method, dataset = str(key["method"]), str(key["dataset"])
        ipc, architecture = int(str(key["ipc"])), str(key["architecture"])
        found = lookup(method, dataset, ipc, architecture, source)
        mean, deviation = moments(list(group["accuracy"]))
        rows.append(
            {
                **key,
                **{"accuracy_mean": mean, "accuracy_std": deviation},
                **{"n": len(group), "published_mean": found and found.mean},
                "published_source": found.source if found else "",
                "difference": round(mean - found.mean, 9) if found else None,
            }
        )
    numbers = ("accuracy_mean", "accuracy_std", "published_mean", "difference")
    table = _build(rows, [*SUMMARY, "digest"]).astype(dict.fromkeys(numbers, float))
    return _indexed(table, SUMMARY)


def spread(
    frame: pd.DataFrame, *, profiles: Sequence[str] = ("paper",)
) -> pd.DataFrame:
    """The deviation between synthetic sets and the one between networks, in percent.

    ``std_sets`` is taken over seeds of the means per seed, ``std_networks`` is the
    mean over seeds of the deviation within a seed; both with ddof 1.
    """
    rows: list[dict[str, object]] = []
    for key, group in _groups(frame, profiles):
        seeds = (group["accuracy"] * 100).groupby(group["seed"])
        means = seeds.mean()
        rows.append(
            {
                **key,
                **{"accuracy_mean": float(means.mean()), "sets": len(means)},
                "std_sets": float(means.std(ddof=1)),
                "std_networks": float(seeds.std(ddof=1).mean()),
                "networks": len(group),
            }
        )
    columns = [
        *(*_CELL, "architecture", "accuracy_mean", "std_sets", "sets"),
        *("std_networks", "networks", "profile", "selection"),
    ]
    return _indexed(_build(rows, [*columns, "digest"]), columns)


def unfinished(records: Iterable[Record]) -> pd.DataFrame:
    """The records that are not done, each with its error."""
    columns = [*_CELL, "seed", "profile", "status", "error"]
    rows = [
        {**_identity(record), "error": record.error or ""}
        for record in records
        if record.status != "done"
    ]
    order = [*_CELL, "seed", "profile", "digest", "error"]
    table = _build(rows, [*columns, "digest"]).sort_values(order, key=_rank)
    return _indexed(table, columns)


def _speed(cost: Timing) -> dict[str, float]:
    """Operations a second, and their share of what a matrix product reaches."""
    if cost.step_flops is None or cost.product_flops is None or not cost.median:
        return {}
    reached = cost.step_flops / cost.median
    return {"tflops": reached / 1e12, "share": 100 * reached / cost.product_flops}


def _cost(cost: Timing) -> dict[str, object]:
    """One stage's numbers, per step."""
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
    """What each stage of each distillation cost; phases in milliseconds a step.

    ``other_ms`` is the part of a step outside the named phases, ``peak_gb`` counts
    10^9 bytes, ``share`` is the percentage of a large matrix product's rate on the
    same device in the same run. Left out are records that are not done and stages
    without steps.
    """
    columns = [
        *(*_CELL, "seed", "stage", "profile", "steps", "median_seconds"),
        *("iqr_seconds", *_PHASE_COLUMNS.values(), "other_ms"),
        *("images_per_second", "tflops", "share", "peak_gb", "device", "torch"),
    ]
    rows: list[dict[str, object]] = [
        {
            **_identity(record),
            **{"stage": stage, "device": record.environment.device},
            **{"torch": record.environment.torch, **_cost(cost)},
        }
        for record in records
        for stage, cost in record.distillation.items()
        if record.status == "done" and cost.steps
    ]
    order = [*_CELL, "seed", "stage", "profile", "device", "torch", "digest"]
    table = _build(rows, [*columns, "digest"])
    table = table.sort_values([*order, "median_seconds"], key=_rank)
    numbers = dict.fromkeys((*_PHASE_COLUMNS.values(), "tflops", "share"), float)
    return _indexed(table.astype(numbers), columns)
