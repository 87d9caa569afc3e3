"""The stages of a cell: the images it may see, its set, and how that is judged."""

from dataclasses import replace
from typing import NamedTuple

import msgspec
import torch

from dcbench_bacon import plugins
from dcbench_bacon.data.dataset import Dataset, check_ipc, held_out_sha256, hold_out
from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DivergedError
from dcbench_bacon.evaluation.judged import protocol_for_set
from dcbench_bacon.networks.base import Network
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.schema import Cell, Recipe
from dcbench_bacon.training.task import Task


class Images(NamedTuple):
    """The real images of a cell.

    Attributes:
        dataset: without what is held out of train.
        validation: what is held out, where the protocol chooses by it.
    """

    dataset: Dataset
    validation: Split | None = None


def images_for(cell: Cell, dataset: Dataset, protocol: Protocol) -> Images:
    """Return the images that a cell may see and those that its protocol holds out.

    Args:
        cell: what runs.
        dataset: whitened where the recipe says so.
        protocol: of the evaluation.

    Raises:
        UsageError: a class has fewer images than the cell asks for.
    """
    train, validation = dataset.train, None
    if protocol.held_out:
        train, validation = hold_out(cell, train, protocol.validation)
    images = Images(replace(dataset, train=train), validation)
    check_ipc(cell, images.dataset)
    return images


def check_finite(synthetic: SyntheticSet) -> None:
    """Make sure that a distillation has not diverged.

    Raises:
        DivergedError: a pixel is not finite.
    """
    if not torch.isfinite(synthetic.images).all():
        raise DivergedError("the images are not finite; try a smaller image_lr")


def with_provenance(
    run: CellRun, synthetic: SyntheticSet, recipe: Recipe, images: Images
) -> SyntheticSet:
    """Return a distilled set with where it comes from.

    Args:
        run: that made it.
        synthetic: what the method returned; what it says itself is kept.
        recipe: in force.
        images: of the cell.
    """
    provenance = {
        "cell": msgspec.to_builtins(run.cell),
        "method_sha256": plugins.method_sha256(run.cell.method),
        "dataset": msgspec.to_builtins(images.dataset.info),
        "dataset_sha256": images.dataset.fingerprint,
        "validation_sha256": held_out_sha256(images.validation),
        "recipe": msgspec.to_builtins(recipe),
        "zca": images.dataset.zca,
        "learning_rate": None,
        "environment": msgspec.to_builtins(environment(run.device)),
        "distillation": msgspec.to_builtins(run.timings),
    }
    return replace(synthetic, provenance={**provenance, **synthetic.provenance})


def task_of(
    synthetic: SyntheticSet,
    images: Images,
    protocol: Protocol,
    teachers: tuple[Network, ...],
) -> Task:
    """Return what networks are trained on and how, to judge a set.

    Args:
        synthetic: the set.
        images: of its cell.
        protocol: of the evaluation.
        teachers: the networks that the protocol names.

    Raises:
        DataError: the protocol asks for the set's learning rate, and it has none.
    """
    provenance = {"zca": images.dataset.zca, **synthetic.provenance}
    return Task(
        replace(synthetic, provenance=provenance),
        images.dataset.test,
        images.dataset.info,
        protocol_for_set(protocol, synthetic),
        images.validation,
        teachers,
    )
