"""Distillation and evaluation in this process, without a results folder.

The numbers are those of ``dcbench run`` and ``dcbench evaluate`` for the same cell: its
random streams derive from nothing else.
"""

import torch
from rich.console import Console

from dcbench_bacon.contract import Method, method_class
from dcbench_bacon.data import whitening
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.evaluation import evaluate as evaluation
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import overlay, protocols
from dcbench_bacon.running.plans import planning
from dcbench_bacon.running.run import CellRun, OpenedSet, RunConfig, RunContext
from dcbench_bacon.running.stages import (
    Images,
    check_finite,
    images_for,
    task_of,
    with_provenance,
)
from dcbench_bacon.runtime.monitoring import progress
from dcbench_bacon.schema import Cell, Evaluation
from dcbench_bacon.training import teachers
from dcbench_bacon.training.regimes import labelled


def context_of(device: torch.device, *, shown: bool) -> RunContext:
    """Return how a notebook runs: no checkpoints, and nothing compiled.

    Args:
        device: where.
        shown: show progress on standard error.
    """
    reporter = progress.reporter(Console(stderr=True)) if shown else progress.Silent()
    return RunConfig(device).here(reporter)


def distill(
    method: str,
    dataset: Dataset,
    ipc: int,
    seed: int,
    request: protocols.Request,
    context: RunContext,
) -> SyntheticSet:
    """Return the set of a cell, with its provenance.

    Args:
        method: as typed.
        dataset: not whitened, on the device of ``context``.
        ipc: images per class, at least 1.
        seed: which repetition, from 0.
        request: preset and overrides.
        context: how it runs.

    Raises:
        DataError: what the method returned is no set.
        DivergedError: a loss or an image stopped being finite.
        UsageError: a name, a key or a value is wrong, or the method makes no set.
    """
    name = METHODS.resolve(method)
    kind = method_class(name)
    if not issubclass(kind, Method):
        raise UsageError(f"{name} makes no set; dcbench run --methods {name} runs it")
    overlay.check_overrides(request.overrides, [kind.Settings])
    cell = Cell(name, dataset.info.name, ipc, seed)
    recipe = planning.resolve(cell, request).recipe
    if recipe.settings.get("zca"):
        dataset = whitening.whiten(dataset)
    images = images_for(cell, dataset, recipe.protocol)
    run = CellRun(cell, images.dataset, context, None)
    synthetic = kind.create(recipe.settings).distill(run)
    check_finite(synthetic)
    try:
        synthetic_file.check(synthetic)
    except ValueError as error:
        raise DataError(f"{name} made no valid set: {error}") from error
    return with_provenance(run, synthetic, recipe, images)


def evaluate(
    opened: OpenedSet, protocol: Protocol, context: RunContext
) -> list[Evaluation]:
    """Return what networks reach that are trained on a set.

    Args:
        opened: the set, and the real images, on the device of ``context``.
        protocol: how networks are trained and which.
        context: how that runs.

    Raises:
        DivergedError: a loss stopped being finite.
    """
    images = Images(opened.dataset, opened.validation)
    parts = (opened.cell, opened.dataset, context, None)
    labellers = teachers.find(CellRun(*parts), protocol)
    task = task_of(opened.synthetic, images, protocol, labellers.networks)
    return evaluation.evaluate(CellRun(*parts), labelled(CellRun(*parts), task))
