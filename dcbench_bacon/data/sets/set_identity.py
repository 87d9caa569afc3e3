"""The facts of a set that records contain: its content, its size and its source."""

from typing import Any

import msgspec
import torch

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.sets.class_counts import count
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.field_types import LabelKind
from dcbench_bacon.schema import Timing


def set_facts(synthetic: SyntheticSet) -> dict[str, Any]:
    """Return the fields of a record that state a set's cost, content and size."""
    cost = synthetic.provenance.get("distillation", {})
    return {
        "distillation": msgspec.convert(cost, dict[str, Timing]),
        "synthetic_sha256": synthetic_file.digest(synthetic),
        "synthetic_bytes": synthetic.images.nbytes + synthetic.labels.nbytes,
        "label_bytes": synthetic.labels.nbytes,
        "label_kind": _label_kind(synthetic.labels),
        **recorded(synthetic),
    }


def _label_kind(labels: torch.Tensor) -> LabelKind:
    """Return ``hard`` if each row of labels (images, classes) is a single class."""
    return "hard" if bool(((labels != 0).sum(1) == 1).all()) else "soft"


Setting = bool | int | float | str | None


def settings_of(synthetic: SyntheticSet) -> dict[str, Setting]:
    """Return the settings that take the place of a recipe for a set of another tool.

    They identify the set, except for its number among the sets of a file, which is the
    seed of its cell. They are the ``sha256`` of the file or files and how these were
    read: ``classes``, ``format``, ``labels``, ``learning_rate``, ``partition``,
    ``scale``, ``statistics`` and ``zca`` (see docs/guesses.md). If the provenance does
    not contain them, the settings are the ``sha256`` of the set's content and, where
    they are set, its ``learning_rate`` and ``zca``.
    """
    try:
        reading = synthetic.provenance["source"]["reading"]
        settings = msgspec.convert(reading, dict[str, Setting])
    except (KeyError, TypeError, msgspec.ValidationError):
        provenance = synthetic.provenance
        kept: dict[str, Setting] = {}
        if provenance.get("learning_rate"):
            kept["learning_rate"] = float(provenance["learning_rate"])
        if provenance.get("zca"):  # where the whitening comes from, in sorted JSON
            kept["zca"] = msgspec.json.encode(
                provenance["zca"], order="sorted"
            ).decode()
        return {**kept, "sha256": synthetic_file.digest(synthetic)}
    return dict(sorted(settings.items()))


def recorded(synthetic: SyntheticSet) -> dict[str, Any]:
    """Return the fields of a record that follow from a set's file and labels."""
    provenance = msgspec.convert(synthetic.provenance, synthetic_file.Provenance)
    counts = count(synthetic.labels)
    return {
        "name": provenance.name,
        "images": counts.images,
        "per_class": (counts.least, counts.most),
        "stored_accuracies": provenance.accuracies,
    }
