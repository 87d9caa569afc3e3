"""What results of a set keep of its file: how it was read, its name, its size."""

from typing import Any

import msgspec

from dcbench_bacon import container
from dcbench_bacon.exchange.class_counts import count
from dcbench_bacon.spec import SyntheticSet

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
        return {"sha256": container.digest(synthetic)}
    return dict(sorted(found.items()))


def recorded(synthetic: SyntheticSet) -> dict[str, Any]:
    """Return the fields of a record that a set's file and its labels give."""
    told = msgspec.convert(synthetic.provenance, container.Provenance)
    counts = count(synthetic.labels)
    return {
        "name": told.name,
        "images": counts.images,
        "per_class": (counts.least, counts.most),
        "stored_accuracies": told.accuracies,
    }
