"""Sets that were made before: where they come from, and how they are judged."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from dcbench_bacon import earlier_files, field_types
from dcbench_bacon.data import whitening
from dcbench_bacon.data.dataset import Dataset, held_out_sha256, hold_out
from dcbench_bacon.data.sets import class_order, set_identity, synthetic_file
from dcbench_bacon.data.sets.class_counts import count
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UnstatedError, UsageError
from dcbench_bacon.evaluation.judged_as import describe, method_of
from dcbench_bacon.networks import pools
from dcbench_bacon.recipes import digests, protocols
from dcbench_bacon.running.plans import planning
from dcbench_bacon.running.run import OpenedSet
from dcbench_bacon.schema import Cell, DatasetInfo, Recipe

logger = logging.getLogger(__name__)


class Judging(NamedTuple):
    """How a set is evaluated.

    Attributes:
        recipe: its own, or what stands for one, under the protocol asked for.
        line: says whose evaluation is in force.
    """

    recipe: Recipe
    line: str


def judging(
    opened: OpenedSet, request: protocols.Request, as_method: str | None
) -> Judging:
    """Return how a set is evaluated, and what stands for its recipe.

    A set of another tool has no recipe, and is known by its file and how it was read.

    Args:
        opened: the set.
        request: preset, protocol and overrides.
        as_method: the method whose evaluation the user wants; none if not said.

    Raises:
        UsageError: a method was named, and the protocol is the same for all.
    """
    check_as(request, as_method)
    cell, made_with = opened.cell, made_by(opened.synthetic)
    distilled_on = pools.distilled_on(made_with) if made_with else pools.DISTILLED_ON
    names = pools.network_names(request.architectures, distilled_on)
    asked = msgspec.structs.replace(request, architectures=names)
    known = method_of(cell, opened.synthetic, as_method)
    judged = planning.judged_as(known.method, cell, asked) if known else None
    # Without one: made by another tool, or by a method that is not installed here.
    protocol = judged.protocol if judged else protocols.protocol(cell, asked)
    base = made_with or Recipe(
        settings={**set_identity.settings_of(opened.synthetic)}, protocol=protocol
    )
    recipe = msgspec.structs.replace(
        base,
        protocol=protocol,
        preset=field_types.more_reduced(base.preset, asked.preset),
        overrides={**base.overrides, **asked.overrides},
    )
    return Judging(recipe, describe(known, judged))


def check_as(request: protocols.Request, as_method: str | None) -> None:
    """Make sure that a method is named only where protocols depend on the method.

    Raises:
        UsageError: a method was named, and the protocol is the same for all.
    """
    if as_method and request.protocol != protocols.PUBLISHED:
        raise UsageError(
            f"--as {as_method}: protocol {request.protocol} is the same for all "
            "methods; leave one of both out, or say --protocol "
            f"{protocols.PUBLISHED}"
        )


def made_by(synthetic: SyntheticSet) -> Recipe | None:
    """Return the recipe that a set was distilled with; None for other tools' sets."""
    try:
        return earlier_files.recipe(synthetic.provenance["recipe"])
    except (KeyError, msgspec.ValidationError):
        return None


def would_be_made(opened: OpenedSet, distillation_digest: str) -> bool:
    """Return whether a run of a recipe on these images would make such a set.

    A run of the recipe may use the record of the set only if this is true. It is not
    if the set was made from other images, with another split held out, or as the best
    of several snapshots. It is always true for a set of another tool, which no run
    makes and whose recipe is its identity.

    Args:
        opened: the set, beside its data set.
        distillation_digest: of the recipe that it is recorded under.
    """
    recipe = made_by(opened.synthetic)
    if recipe is None:
        return True
    made_from = opened.synthetic.provenance.get("dataset_sha256")
    same_images = made_from == opened.dataset.fingerprint
    return same_images and digests.distillation_digest(recipe) == distillation_digest


def held_out(path: Path | str, opened: OpenedSet) -> OpenedSet:
    """Take out of train the images that were held out when the set was made.

    The share is the one in the file, whatever the protocol asked for now has.

    Raises:
        UsageError: nothing was held out, or from other images.
    """
    synthetic, cell, loaded, _ = opened
    recipe = made_by(synthetic)
    if recipe is None or not recipe.protocol.held_out:
        raise UsageError(
            f"{path}: --selection best_val and protocol.learning_rates need a split "
            "that was held out when the set was distilled; give them to dcbench run"
        )
    if synthetic.provenance.get("dataset_sha256") != loaded.fingerprint:
        raise UsageError(
            f"{path} was distilled from other images than {loaded.info.name} now has, "
            "so what was held out is not known; leave out --selection best_val and "
            "protocol.learning_rates"
        )
    train, validation = hold_out(cell, loaded.train, recipe.protocol.validation)
    if synthetic.provenance.get("validation_sha256") != held_out_sha256(validation):
        raise UsageError(
            f"{path} was distilled with other images held out than would be now; "
            "distil it again with dcbench run --fresh, or leave out --selection "
            "best_val and protocol.learning_rates"
        )
    return opened._replace(dataset=replace(loaded, train=train), validation=validation)


def origin(path: Path | str, synthetic: SyntheticSet) -> tuple[Cell, DatasetInfo]:
    """Return the cell that a set came from, and the facts of its data set.

    Args:
        path: of the set, or what messages call it.
        synthetic: the set.

    Raises:
        DataError: it does not say where it is from, or does not fit what it says.
    """
    try:
        cell = msgspec.convert(synthetic.provenance["cell"], Cell)
        made_for = msgspec.convert(synthetic.provenance["dataset"], DatasetInfo)
    except (KeyError, msgspec.ValidationError) as error:
        raise DataError(f"{path} does not say what it was made from") from error
    synthetic_file.check_fits(path, synthetic, made_for)
    for warning in count(synthetic.labels).warnings(made_for.class_names):
        logger.warning("%s: %s", path, warning)
    return cell, made_for


def beside(
    path: Path | str,
    synthetic: SyntheticSet,
    cell: Cell,
    made_for: DatasetInfo,
    loaded: Dataset,
    whiten: Callable[[Dataset], Dataset] = whitening.whiten,
) -> OpenedSet:
    """Return a set beside the data set that it is to be tested on.

    Where the same classes stand in another order, the columns of the labels move to
    those of the data set, and a warning says so.

    Args:
        path: of the set, or what messages call it.
        synthetic: on the device of the data set.
        cell: what it was made as.
        made_for: the facts of the data set that it was made from.
        loaded: what it is to be tested on, not whitened.
        whiten: whitens that data set if the set is whitened.

    Raises:
        DataError: the data set has images of another size, other classes, or other
            statistics.
    """
    shape = (loaded.info.channels, loaded.info.size, loaded.info.classes)
    if shape != (made_for.channels, made_for.size, made_for.classes):
        raise DataError(
            f"{path} was made from {made_for.name} ({_shape(made_for)}), "
            f"{loaded.info.name} has {_shape(loaded.info)}; "
            "name the right one with --dataset"
        )
    if (loaded.info.mean, loaded.info.std) != (made_for.mean, made_for.std):
        raise DataError(
            f"{path} was normalised with the statistics of {made_for.name}, which are "
            f"not those of {loaded.info.name}; name the right one with --dataset"
        )
    synthetic = _in_order_of(path, synthetic, made_for, loaded.info)
    if synthetic.provenance.get("zca"):
        loaded = whiten(loaded)
    if synthetic.provenance.get("dataset_sha256", loaded.fingerprint) != (
        loaded.fingerprint
    ):
        relation = "whitened with the statistics of" if loaded.zca else "made from"
        effect = "expect too low an accuracy" if loaded.zca else "a result of its own"
        logger.warning(
            "%s was %s other images than those of %s here: %s",
            path,
            relation,
            loaded.info.name,
            effect,
        )
    elif whitening.other_fit(synthetic, loaded):
        logger.warning(
            "%s was whitened with another fit of the same images, as on another kind "
            "of device: the accuracy may differ in its last digits",
            path,
        )
    return OpenedSet(synthetic, cell, loaded)


def _in_order_of(
    path: Path | str, synthetic: SyntheticSet, made_for: DatasetInfo, info: DatasetInfo
) -> SyntheticSet:
    """Return a set whose label columns are in the order of a data set's classes.

    Raises:
        DataError: the classes that it was made from are others.
    """
    if made_for.class_names == info.class_names:
        return synthetic
    try:
        places = class_order.match(
            Path(path), made_for.class_names, info.class_names
        ).places
    except (DataError, UnstatedError) as error:
        raise DataError(
            f"{path} was made from {made_for.name}, whose classes are not those of "
            f"{info.name} here ({', '.join(made_for.class_names[:4])} ... against "
            f"{', '.join(info.class_names[:4])} ...); name the right data set with "
            "--dataset"
        ) from error
    if places == tuple(range(info.classes)):
        return synthetic
    logger.warning(
        "%s was made from classes in another order than %s has them in here; its "
        "labels are moved to the classes of the same names",
        path,
        info.name,
    )
    labels = torch.zeros_like(synthetic.labels)
    labels[:, list(places)] = synthetic.labels
    return replace(synthetic, labels=labels)


def _shape(info: DatasetInfo) -> str:
    return f"{info.channels}x{info.size}x{info.size}, {info.classes} classes"
