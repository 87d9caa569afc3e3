"""Cells with their recipes, checked before anything runs."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dcbench_bacon.augmentation import policies
from dcbench_bacon.augmentation.siamese import parse_strategy
from dcbench_bacon.contract import (
    method_class,
)
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.judged import check_protocol
from dcbench_bacon.networks.pools import (
    check_architectures,
    distilled_on,
    network_names,
)
from dcbench_bacon.plugins import METHODS, has_changed, recipe_file
from dcbench_bacon.recipes import digests, overlay, protocols
from dcbench_bacon.schema import Cell


class CellJob(NamedTuple):
    """A cell with its recipe, ready to run.

    Attributes:
        cell: method, data set, images per class and seed.
        source: the data set as typed; for a folder, with its path.
        resolved: the recipe, and where each of its values comes from.
        another: sha256 of a set from a file, if there is already a result of another
            set that was made by the same recipe, perhaps on another machine.
    """

    cell: Cell
    source: str
    resolved: overlay.Resolved
    another: str = ""

    @property
    def digest(self) -> str:
        """Return the digest of the recipe, and of the set if the recipe has several."""
        digest = digests.digest(self.resolved.recipe)
        if not self.another:
            return digest
        return hashlib.sha256(f"{digest} {self.another}".encode()).hexdigest()[:8]

    @property
    def distillation_digest(self) -> str:
        """Return the digest of the part of the recipe that decides the set."""
        return digests.distillation_digest(self.resolved.recipe)


def report_changed_method(
    cell: Cell, made_by: Any, tell: Callable[[str], None]
) -> None:
    """Tell the user if the code of a method has changed since it made a set.

    Args:
        cell: the cell of the set.
        made_by: the method's hash at the time; see ``plugins.has_changed``.
        tell: takes the line for the user.
    """
    if has_changed(cell.method, made_by):
        name = METHODS.source(cell.method).name
        tell(
            f"{cell}: {name}, or code of dcbench that it uses, has changed since; "
            "--fresh distils anew"
        )


def check_names(resolved: overlay.Resolved, path: Path) -> None:
    """Make sure that the networks and augmentations of a recipe exist.

    Raises:
        UsageError: one does not exist; the message names the recipe and lists those
            that do.
    """
    settings, protocol = resolved.recipe.settings, resolved.recipe.protocol
    try:
        parse_strategy(str(settings.get("augmentation", "")))
        check_architectures([distilled_on(resolved.recipe)])
        check_protocol(protocol)
        for single in protocol.under_each:
            policies.check_whitened(single.augmentation, bool(settings.get("zca")))
    except UsageError as error:
        raise UsageError(f"recipe {path.name}: {error}") from error


def judged_as(method: str, cell: Cell, request: protocols.Request) -> overlay.Judged:
    """Return the evaluation of a set as that of the sets of a method.

    Raises:
        UsageError: the protocol has a network or an augmentation that does not exist.
    """
    judged = overlay.judged_as(
        recipe_file, msgspec.structs.replace(cell, method=method), request
    )
    check_protocol(judged.protocol)
    return judged


def resolve(cell: Cell, request: protocols.Request) -> overlay.Resolved:
    """Return the recipe of a cell, with all overrides applied and checked."""
    settings = method_class(cell.method).Settings
    resolved = overlay.resolve(recipe_file, settings, cell, request)
    check_names(resolved, recipe_file(cell.method))
    recipe = resolved.recipe
    names = network_names(recipe.protocol.architectures, distilled_on(recipe))
    protocol = msgspec.structs.replace(recipe.protocol, architectures=names)
    return resolved._replace(recipe=msgspec.structs.replace(recipe, protocol=protocol))
