"""Image quality of several files with sets of one data set."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from dcbench_bacon.contract import Run
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.quality import (
    QualityRequest,
    appraise,
    judges,
    limited,
    table,
)
from dcbench_bacon.running.run import CellRun, RunContext
from dcbench_bacon.schema import Cell


def run_on(dataset: Dataset, context: RunContext, shared: Path | None = None) -> Run:
    """Return the run that trains the network and draws real images for all sets.

    Args:
        dataset: the real images.
        context: the configuration in this process.
        shared: the folder in which the trained network is kept; None keeps none.
    """
    cell = Cell("quality", dataset.info.name, 1)
    return CellRun(cell, dataset, context, None, shared)


def appraise_files(
    named: Sequence[tuple[Path, SyntheticSet]],
    dataset: Dataset,
    request: QualityRequest,
    context: RunContext,
    shared: Path | None = None,
) -> pd.DataFrame:
    """Return the table of image quality of several files of one data set.

    Args:
        named: the files and the sets in them.
        dataset: the real images.
        request: the options of the measurement.
        context: device, checkpoints, progress and stopping.
        shared: the folder in which the trained network is kept; None keeps none.

    Raises:
        UsageError: a network, a model or its weights do not exist, or an image-text
            model is asked for on whitened images.
    """
    run = run_on(dataset, context, shared)
    if dataset.zca and request.clip_weights:
        raise UsageError(
            "an image-text model sees pixels, and these images are ZCA-whitened: "
            "leave out --clip-weights"
        )
    fewer = limited(dataset, request.images, run.generator("test images", "cpu"))
    sets = [(path.name, synthetic) for path, synthetic in named]
    stream = run.generator("training images", "cpu")
    order = torch.randperm(len(dataset.train.labels), generator=stream)
    appraisals = [appraise(fewer, sets, judge, order) for judge in judges(run, request)]
    return table([row for rows in appraisals for row in rows])
