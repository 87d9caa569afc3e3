"""What results keep of a set: its content, its labels, how its file was read."""

from typing import Any

import msgspec
import torch

from dcbench_bacon.data import synthetic_file
from dcbench_bacon.data.class_counts import count
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.field_types import LabelKind
from dcbench_bacon.schema import Timing


def described(synthetic: SyntheticSet) -> dict[str, Any]:
    """What a record says of a set: its cost, its content and its size."""
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
    """Whether every row of labels (images, classes) names one class alone."""
    return "hard" if bool(((labels != 0).sum(1) == 1).all()) else "soft"


Setting = bool | int | float | str | None


def settings_of(synthetic: SyntheticSet) -> dict[str, Setting]:
    """Return what stands for the recipe of a set of another tool.

    It holds everything that decides what the set is, apart from which of a file's sets
    it is, which the seed of its cell says: ``sha256`` of the file or files, and how
    they were read: ``classes``, ``format``, ``labels``, ``learning_rate``,
    ``partition``, ``scale``, ``statistics`` and ``zca`` (see docs/guesses.md). Of a
    file that does not say this, it is the ``sha256`` of the set's content alone.
    """
    try:
        reading = synthetic.provenance["source"]["reading"]
        found = msgspec.convert(reading, dict[str, Setting])
    except (KeyError, TypeError, msgspec.ValidationError):
        return {"sha256": synthetic_file.digest(synthetic)}
    return dict(sorted(found.items()))


def recorded(synthetic: SyntheticSet) -> dict[str, Any]:
    """Return the fields of a record that a set's file and its labels give."""
    told = msgspec.convert(synthetic.provenance, synthetic_file.Provenance)
    counts = count(synthetic.labels)
    return {
        "name": told.name,
        "images": counts.images,
        "per_class": (counts.least, counts.most),
        "stored_accuracies": told.accuracies,
    }
