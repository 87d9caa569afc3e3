"""The pairs of a file's classes and a data set's, for the table and the record."""

import re
from collections.abc import Sequence

from dcbench_bacon.data.sets.class_order import Order
from dcbench_bacon.exchange.interpretation.content import Guess
from dcbench_bacon.schema import DatasetInfo


def recorded(order: Order, info: DatasetInfo) -> str:
    """Return the classes of the data set in the file's order, for the record."""
    if order.places == tuple(range(info.classes)):
        return "in order"
    return ",".join(info.class_names[place] for place in order.places)


def by_name(names: Sequence[str], order: Order, info: DatasetInfo) -> Guess:
    """Return as a guess the class of the data set for each class of the file."""
    return Guess(order.how, _shown(names, [info.class_names[i] for i in order.places]))


def by_position(info: DatasetInfo) -> Guess:
    """Return as a guess that numeric labels count the folders of a data set.

    Tools sort folders as text, where class10 comes before class2, or by number. The
    guess is doubtful where the two orders differ.
    """
    names = info.class_names
    alike = sorted(names) == sorted(names, key=_by_number)
    reason = _shown(list(map(str, range(len(names)))), names)
    if not alike:
        reason += "; sorted as text and by number, the folders differ in order"
    return Guess("in order", reason, "likely" if alike else "doubtful")


def _shown(names: Sequence[str], classes: Sequence[str]) -> str:
    """Return the first ten pairs as text."""
    pairs = [f"{name} = {label}" for name, label in zip(names, classes, strict=True)]
    return ", ".join(pairs[:10]) + (" ..." if len(pairs) > 10 else "")


def _by_number(name: str) -> list[str | int]:
    """Return a name as a key that compares the numbers in it by value."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
