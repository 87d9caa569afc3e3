"""The comparison of saved sets with real images by ``dcbench quality``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dcbench_bacon.cli.cells.opening import SetReader
from dcbench_bacon.cli.printing import show
from dcbench_bacon.cli.setup import Setup
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation import quality
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.networks import pools
from dcbench_bacon.reporting.numbers.contents import captioned
from dcbench_bacon.running import run
from dcbench_bacon.running.failures import FileFailures
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.grids.quality_of_files import appraise_files
from dcbench_bacon.runtime.compute.memory import keep_freed_memory


def quality_of_files(
    *, files: Sequence[Path], stated: ReadingOptions, table: str | None, **given: Any
) -> int:
    """Print the table of distances of the images of saved sets from real ones.

    Args:
        files: the files of the sets; one that cannot be used does not stop the others.
        stated: what the user states about them.
        table: the format of the table; None for the default of ``printing.show``.
        given: the fields of ``Setup`` and of ``QualityRequest``.

    Returns:
        The exit status: 0 when all files are in the table.
    """
    keep_freed_memory()
    setup = Setup.pop_from(given)
    request = quality.QualityRequest(**given)
    pools.check_architectures([request.architecture])
    with setup.ready(Console(stderr=True)) as (store, context):
        failures = FileFailures(store, context.tell)
        reader = SetReader(stated, Datasets(context.config))
        opened: dict[Path, run.OpenedSet] = {}
        for read in reader.read_all(files, failures):
            with failures.noted(read.path):
                opened[read.path] = reader.open(read)
                failures.forget(read.path)
        named = [(path, opened[path]) for path in files if path in opened]
        if named:
            dataset = _dataset([opened_set for _, opened_set in named])
            sets: list[tuple[Path, SyntheticSet]] = [
                (path, opened_set.synthetic) for path, opened_set in named
            ]
            rows = appraise_files(sets, dataset, request, context, store.shared)
            sys.stderr.flush()
            show(captioned("rows", rows), table)
    return failures.status(len(set(files)))


def _dataset(opened: Sequence[run.OpenedSet]) -> Dataset:
    """Return the data set of all sets.

    Raises:
        UsageError: they are of several data sets, or some are whitened and some not.
    """
    names = sorted({opened_set.dataset.info.name for opened_set in opened})
    if len(names) > 1:
        raise UsageError(
            f"these files are of {' and '.join(names)}: give those of one data set"
        )
    if len({opened_set.dataset.fingerprint for opened_set in opened}) > 1:
        raise UsageError(
            "some of these sets are ZCA-whitened: give them in a command of their own"
        )
    return opened[0].dataset
