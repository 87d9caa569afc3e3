"""Recipes of cells, checked before anything runs."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dcbench_bacon import plugins
from dcbench_bacon.augmentation import policies
from dcbench_bacon.augmentation.siamese import parse_strategy
from dcbench_bacon.contract import (
    method_class,
)
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.judged import check_protocol
from dcbench_bacon.networks.pools import check_architectures, distilled_on, plain
from dcbench_bacon.plugins import METHODS, recipe_file
from dcbench_bacon.recipes import digests, overlay, protocols
from dcbench_bacon.schema import Cell


class CellJob(NamedTuple):
    """A cell with its recipe, ready to run.

    Attributes:
        source: the data set as typed; for a folder, with its path.
        another: sha256 of a set from a file, where there is already a result of
            another set that was made by the same recipe, on another machine perhaps.
    """

    cell: Cell
    source: str
    resolved: overlay.Resolved
    another: str = ""

    @property
    def digest(self) -> str:
        """Of the whole recipe, and of the set where the recipe does not tell which."""
        digest = digests.digest(self.resolved.recipe)
        if not self.another:
            return digest
        return hashlib.sha256(f"{digest} {self.another}".encode()).hexdigest()[:8]

    @property
    def distillation_digest(self) -> str:
        """Of what decides the synthetic set."""
        return digests.distillation_digest(self.resolved.recipe)


def say_if_changed(cell: Cell, made_by: Any, tell: Callable[[str], None]) -> None:
    """Says that a method is not any more what made a set.

    Args:
        cell: of the set.
        made_by: the method's sha256 at the time; none where it is not known.
        tell: takes the line.
    """
    if made_by is not None and made_by != plugins.method_sha256(cell.method):
        name = METHODS.source(cell.method).name
        tell(f"{cell}: {name} has changed since; --fresh distils anew")


def check_names(resolved: overlay.Resolved, path: Path) -> None:
    """Makes sure that the networks and augmentations of a recipe exist.

    Raises:
        UsageError: one does not; names the recipe and lists what there is.
    """
    settings, protocol = resolved.recipe.settings, resolved.recipe.protocol
    try:
        parse_strategy(str(settings.get("augmentation", "")))
        check_architectures([distilled_on(resolved.recipe)])
        check_protocol(protocol)
        policies.check_whitened(protocol.augmentation, bool(settings.get("zca")))
    except UsageError as error:
        raise UsageError(f"recipe {path.name}: {error}") from error


def judged_as(method: str, cell: Cell, request: protocols.Request) -> overlay.Judged:
    """Return how a set is evaluated as the sets of a method are.

    Raises:
        UsageError: the protocol has a network or an augmentation that does not exist.
    """
    found = overlay.judged_as(
        recipe_file, msgspec.structs.replace(cell, method=method), request
    )
    check_protocol(found.protocol)
    return found


def resolve(cell: Cell, request: protocols.Request) -> overlay.Resolved:
    """The recipe in force for a cell."""
    settings = method_class(cell.method).Settings
    resolved = overlay.resolve(recipe_file, settings, cell, request)
    check_names(resolved, recipe_file(cell.method))
    found = resolved.recipe
    names = plain(found.protocol.architectures, distilled_on(found))
    protocol = msgspec.structs.replace(found.protocol, architectures=names)
    return resolved._replace(recipe=msgspec.structs.replace(found, protocol=protocol))
