"""Records in long form, one row per evaluation, from which every table is made.

Names of data sets, methods, networks and presets have one order in all tables.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pandas as pd

from dcbench_bacon.recipes.digests import distillation_digest, protocol_digest
from dcbench_bacon.recipes.toml_tables import PROTOCOL_PREFIX
from dcbench_bacon.reporting.literature.published import KNOWN, family
from dcbench_bacon.schema import Evaluation, Record

CHANGED = " + set"  # ends the name of a preset whose recipe ``--set`` has changed

# Rows come in these orders; all other names follow alphabetically.
_ORDER: dict[str, tuple[str, ...]] = {
    "dataset": KNOWN.order["dataset"],
    "method": KNOWN.order["method"],
    "architecture": KNOWN.order["architecture"],
    "protocol": ("dc", "dc_2021"),
    "preset": ("paper", "quick", "demo"),
    "regime": ("hard", "soft", "renewed"),
    "augmentation": (
        *("none", "color_crop_cutout_flip_scale_rotate"),
        *("color_crop_cutout_scale_rotate", "autoaugment", "autoaugment_imagenet"),
        *("randaugment", "imagenet_aug", "cifar_aug"),
    ),
}
CELL = ["dataset", "ipc", "method"]
_ORIGIN = (
    *("distilled_on", "set", "synthetic_sha256", "judged", "comparable"),
    *(
        "but_for_augmentation",
        "but_for_epochs",
        "family",
        "augmentation",
        "augmented",
        "teachers",
        "taught",
    ),
    *("hard", "epochs", "own_epochs", "changed", "made"),
    *("overrides", "own_overrides", "judging_overrides"),
    *("distillation_seconds", "updates", "images_seen", "peak_bytes", "device"),
    *("images", "set_bytes", "label_bytes"),
    *("regime", "budget", "taught_bytes", "teacher_accuracy"),
)
# What ``--set`` may change without asking another question: which networks are trained,
# and how many of each. Tables show both.
_AMOUNTS = frozenset({"protocol.networks", "protocol.architectures"})
GROUP = [*CELL, "architecture", "protocol", "preset", "selection", "digest"]
# The sets of these methods have hard labels, also in records that do not state it.
_HARD_LABELS = frozenset(
    {
        *("random", "herding", "k_center", "k_means", "whole", "dc", "dsa", "dm"),
        *("idm", "bacon", "bacon+idm", "bacon+dm", "mtt"),
    }
)


def rank(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the sort key of a column: names of ``_ORDER`` first, in their order.

    The whole train split, which is IPC 0, comes after every number of images.
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
    """Return a key that sorts numbers by their size, so that W32 precedes W128."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(9), name)


def ordered(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows sorted by columns, with names in the order of all tables."""
    return table.sort_values(list(columns), key=rank, ignore_index=True)


def build(rows: list[dict[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Return a frame that has these columns even when there is no row."""
    return pd.DataFrame(rows, columns=list(columns))


def indexed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the named columns, indexed by the digest of the recipe."""
    return table.set_index("digest").rename_axis("recipe")[list(columns)]


def different(versions: Iterable[tuple[str, str | None]]) -> dict[Any, str]:
    """Return names for data sets that differ where their images do.

    Args:
        versions: the name and the fingerprint of each data set; those without a
            fingerprint keep their name.

    Returns:
        The name for each pair, followed by the beginning of the fingerprint if the name
        has several. Such a name has no published numbers.
    """
    known: dict[str, set[str]] = {}
    pairs = set(versions)
    for name, fingerprint in pairs:
        known.setdefault(name, set()).update([fingerprint] if fingerprint else [])
    return {
        (name, print_): f"{name} ({print_[:8]})"
        if print_ and len(known[name]) > 1
        else name
        for name, print_ in pairs
    }


def told_apart(records: Iterable[Record]) -> list[Record]:
    """Return the records with names for data sets that differ where the images do.

    A record of before that names no images is left out where the same cell and recipe
    has one that does: the cell counts once.
    """
    known = list(records)
    newer = {
        (record.cell, record.digest)
        for record in known
        if record.status == "done" and record.dataset_sha256
    }
    every = [
        record
        for record in known
        if record.dataset_sha256 or (record.cell, record.digest) not in newer
    ]
    names = different((record.cell.dataset, record.dataset_sha256) for record in every)
    replace = msgspec.structs.replace
    return [
        replace(
            record,
            cell=replace(
                record.cell, dataset=names[record.cell.dataset, record.dataset_sha256]
            ),
        )
        for record in every
    ]


def identity(record: Record) -> dict[str, object]:
    """Return the columns that every row of a record repeats."""
    cell = record.cell
    return {
        **{"dataset": cell.dataset, "ipc": cell.ipc},
        "method": record.name or cell.method,
        **{"seed": cell.seed, "digest": record.digest, "status": record.status},
        **{"protocol": record.recipe.protocol.title},
        "preset": record.recipe.preset + CHANGED * bool(record.recipe.overrides),
        "selection": record.recipe.protocol.selection,
    }


def _origin(record: Record) -> dict[str, object]:
    """Return how the set of a record was made and judged, and what it cost.

    Records of one set under one protocol share ``set`` and ``judged``, whatever
    networks each of them trained.
    """
    judged = record.recipe.protocol
    # A learning rate that was learned with a set is part of the set, so that sets
    # without one are comparable with it.
    shared = msgspec.structs.replace(judged, use_learned_rate=False)
    return {
        **{"distilled_on": record.recipe.settings.get("architecture") or ""},
        **{"set": distillation_digest(record.recipe)},
        **{"synthetic_sha256": record.synthetic_sha256 or ""},
        **{"judged": protocol_digest(judged)},
        **{"comparable": protocol_digest(shared)},
        **{"but_for_augmentation": protocol_digest(judged, "augmentation")},
        **{"but_for_epochs": protocol_digest(shared, "epochs")},
        **{"teachers": "+".join(judged.teachers), "taught": bool(judged.teachers)},
        **{"hard": _has_hard_labels(record)},
        **{"own_epochs": "protocol.epochs" not in record.recipe.overrides},
        "changed": not _AMOUNTS.issuperset(record.recipe.overrides),
        "made": record.environment.utc,
        **_overridden(record),
        **_distillation(record),
        **{"images": record.images, "device": record.environment.device},
        **{"set_bytes": record.synthetic_bytes, "label_bytes": record.label_bytes},
        **{"regime": _regime(record), "budget": judged.updates},
        **{
            "taught_bytes": record.taught_bytes,
            "teacher_accuracy": _teacher_accuracy(record),
        },
    }


def _teacher_accuracy(record: Record) -> float | None:
    """Return the teachers' mean accuracy on the real train images, in [0, 1]."""
    known = [origin.get("train_accuracy") for origin in record.teachers]
    numbers = [float(value) for value in known if isinstance(value, float)]
    if not known or len(numbers) < len(known):
        return None
    return sum(numbers) / len(numbers)


def _regime(record: Record) -> str:
    """Return the label regime of a record; ``own`` for stored labels that are soft."""
    regime = record.recipe.protocol.regime
    plain = regime == "own" and record.recipe.protocol.name == "hard"
    return "hard" if plain and _has_hard_labels(record) else regime


def _overridden(record: Record) -> dict[str, str]:
    """Return what ``--set`` changed: all of it, of the method and of the evaluation."""
    texts = [f"{key}={value}" for key, value in record.recipe.overrides.items()]
    judging = [text for text in texts if text.startswith(PROTOCOL_PREFIX)]
    others = [text for text in texts if text not in judging]
    kinds = {"overrides": texts, "own_overrides": others, "judging_overrides": judging}
    return {kind: ", ".join(chosen) for kind, chosen in kinds.items()}


def _distillation(record: Record) -> dict[str, float | None]:
    """Return what all stages of a distillation cost together.

    It is not known where no step was timed: for random images, and for a set that was
    read from a file.
    """
    stages = record.distillation.values()
    names = ("distillation_seconds", "updates", "images_seen", "peak_bytes")
    if not any(stage.seconds for stage in stages):
        return dict.fromkeys(names)
    totals = (
        sum(stage.seconds for stage in stages),
        sum(stage.steps for stage in stages),
        sum(stage.images for stage in stages),
        max(stage.peak_bytes for stage in stages),
    )
    return dict(zip(names, totals, strict=True))


def _training(record: Record, evaluation: Evaluation) -> dict[str, object]:
    """Return how one network of a record was trained, its exemptions applied.

    ``augmented`` is whether any network of the protocol was trained with augmentation.
    """
    architecture = evaluation.architecture
    protocol = record.recipe.protocol.of(architecture)
    return {
        **{"architecture": architecture, "family": family(protocol)},
        "augmentation": evaluation.augmentation or protocol.augmentation or "none",
        **{"augmented": protocol.augmentation not in ("", "none")},
        **{"epochs": protocol.epochs},
    }


def _has_hard_labels(record: Record) -> bool:
    """Return whether every image of the set belongs to one class alone."""
    if record.label_kind == "unknown":
        return record.cell.method in _HARD_LABELS
    return record.label_kind == "hard"


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return the long form of records, one row per evaluation.

    Accuracies are fractions in [0, 1].
    """
    columns = [
        *(*CELL, "seed", "architecture", "trial", "accuracy", "seconds"),
        *("protocol", "preset", "selection", "digest", "status", *_ORIGIN),
    ]
    rows = [
        {
            **identity(record),
            **_origin(record),
            **_training(record, evaluation),
            **{"trial": evaluation.trial, "accuracy": evaluation.accuracy},
            **{"seconds": evaluation.seconds},
        }
        for record in told_apart(records)
        for evaluation in record.evaluations
    ]
    numbers = ("trial", "accuracy", "seconds", "status")
    order = [*GROUP, "augmentation", "seed", *numbers]
    return build(rows, columns).sort_values(order, key=rank, ignore_index=True)


def titles(records: Iterable[Record]) -> dict[str, str]:
    """Return the printed names of methods and data sets that records state."""
    named: dict[str, str] = {}
    for record in records:
        named |= record.titles
    return named
