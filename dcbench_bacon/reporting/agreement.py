"""Whether a measured accuracy may be held against a published one, and what to say.

A difference is given where protocol family, network and preset agree with the
evaluation behind the published number. What forbids it, and what a reader has to know
where it is given, are words that tables turn into footnotes.
"""

from typing import Literal, NamedTuple

from dcbench_bacon.field_types import Selection
from dcbench_bacon.reporting.published import EVALUATIONS, UNKNOWN, PublishedNumber

Obstacle = Literal["evaluation", "network", "preset", "settings", "selection"]
"""What forbids a comparison.

Another evaluation, or one that is not known; another network, or one that is not
stated; a reduced profile; settings changed by ``--set``; a choice on test that the
source did not make.
"""

Remark = Literal["best_test", "not_stated", "teachers", "augmentation", "memory"]
"""What has to be said of a comparison, or of the published number.

The source chose on test, or does not say how it chose; it has other teachers, or
another augmentation in the evaluation; the number was not checked against the source.
"""


class MeasuredRow(NamedTuple):
    """What decides whether an accuracy may be compared.

    Attributes:
        family: of the protocol, see ``published.family``.
        architecture: the network trained on the set.
        profile: ``paper`` for the published recipes.
        changed: whether ``--set`` changed the recipe.
        selection: which pass counts.
        augmentation: of the evaluation.
        teachers: the networks that labelled the images.
    """

    family: str
    architecture: str
    profile: str
    changed: bool
    selection: Selection
    augmentation: str
    teachers: tuple[str, ...]


def obstacles(measured: MeasuredRow, row: PublishedNumber) -> tuple[Obstacle, ...]:
    """What forbids to give a difference; nothing if it may be given."""
    behind = EVALUATIONS[row.evaluation]
    chosen = measured.selection == "best_test" != behind.selection
    known = behind.protocol != UNKNOWN
    found: dict[Obstacle, bool] = {
        "evaluation": not known or behind.protocol != measured.family,
        "network": row.architecture != measured.architecture,
        "preset": measured.profile != "paper",
        "settings": measured.changed,
        "selection": known and chosen,
    }
    return tuple(name for name, there in found.items() if there)


def remarks(measured: MeasuredRow, row: PublishedNumber) -> tuple[Remark, ...]:
    """What has to be said of a published number beside a measured one."""
    found: list[Remark] = ["memory"] if row.certainty == "memory" else []
    if obstacles(measured, row):
        return tuple(found)
    behind = EVALUATIONS[row.evaluation]
    if behind.selection == "best_test" != measured.selection:
        found.append("best_test")
    if behind.selection == "not_stated":
        found.append("not_stated")
    if set(behind.teachers) != set(measured.teachers):
        found.append("teachers")
    if behind.augmentation not in (None, measured.augmentation):
        found.append("augmentation")
    return tuple(found)
