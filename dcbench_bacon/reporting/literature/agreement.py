"""Whether a measured accuracy may be compared with a published one.

A difference is given where protocol family, network and preset agree with the
evaluation behind the published number. Obstacles forbid a difference; remarks are facts
that a reader has to know. Tables turn both into footnotes.
"""

from typing import Literal, NamedTuple

from dcbench_bacon.field_types import Selection
from dcbench_bacon.reporting.literature.published import (
    EVALUATIONS,
    UNKNOWN,
    PublishedNumber,
)

Obstacle = Literal["evaluation", "network", "preset", "settings", "selection"]
"""An obstacle to a comparison.

It is an evaluation that differs or is not known, a network that differs or is not
stated, a reduced preset, settings changed by ``--set``, or a choice on the test images
that the source did not make.
"""

Remark = Literal["best_test", "not_stated", "teachers", "augmentation", "memory"]
"""A remark about a comparison, or about the published number.

The source chose on the test images, or does not state how it chose; it has other
teachers, or another augmentation in the evaluation; or the number was not checked
against the source.
"""


_DIGITS = ("mnist", "svhn")


class MeasuredRow(NamedTuple):
    """The facts of a measurement that decide whether it may be compared.

    Attributes:
        family: family of the protocol; see ``published.family``.
        architecture: the network trained on the set.
        preset: ``paper`` for the published recipes.
        changed: whether ``--set`` changed the recipe, apart from the networks that are
            trained and their number.
        selection: the epoch whose accuracy counts.
        augmentation: augmentation of the evaluation.
        teachers: the networks that labelled the images.
        epochs: epochs of the evaluation.
    """

    family: str
    architecture: str
    preset: str
    changed: bool
    selection: Selection
    augmentation: str
    teachers: tuple[str, ...]
    epochs: int


def obstacles(measured: MeasuredRow, row: PublishedNumber) -> tuple[Obstacle, ...]:
    """Return the obstacles to a difference; none if it may be given."""
    behind = EVALUATIONS[row.evaluation]
    chosen = measured.selection == "best_test" != behind.selection
    known = behind.protocol != UNKNOWN
    differs: dict[Obstacle, bool] = {
        "evaluation": not known or not _is_same(measured, row),
        "network": row.architecture != measured.architecture,
        "preset": measured.preset != "paper",
        "settings": measured.changed,
        "selection": known and chosen,
    }
    return tuple(name for name, there in differs.items() if there)


def _is_same(measured: MeasuredRow, row: PublishedNumber) -> bool:
    """Return whether family, epochs and, on digits, mirroring agree.

    Mirrored digits are other signs, so that training on them asks another question. On
    other images another augmentation is a remark.
    """
    behind = EVALUATIONS[row.evaluation]
    alike = behind.augmentation is None or (
        _mirrors(behind.augmentation) == _mirrors(measured.augmentation)
    )
    return (
        behind.protocol == measured.family
        and behind.epochs in (None, measured.epochs)
        and (alike or row.dataset not in _DIGITS)
    )


def _mirrors(augmentation: str) -> bool:
    """Return whether an augmentation of DSA's operations mirrors images."""
    return "flip" in augmentation.split("_")


def remarks(measured: MeasuredRow, row: PublishedNumber) -> tuple[Remark, ...]:
    """Return the remarks about a published number beside a measured one."""
    notes: list[Remark] = ["memory"] if row.certainty == "memory" else []
    if obstacles(measured, row):
        return tuple(notes)
    behind = EVALUATIONS[row.evaluation]
    if behind.selection == "best_test" != measured.selection:
        notes.append("best_test")
    if behind.selection == "not_stated":
        notes.append("not_stated")
    if set(behind.teachers) != set(measured.teachers):
        notes.append("teachers")
    if behind.augmentation not in (None, measured.augmentation):
        notes.append("augmentation")
    return tuple(notes)
