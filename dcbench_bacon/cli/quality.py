"""The comparison of saved sets with real images by ``dcbench quality``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dcbench_bacon.cli.opening import open_set
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation import quality
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.networks import pools
from dcbench_bacon.reporting import rendering
from dcbench_bacon.running.quality_of_files import appraise_files
from dcbench_bacon.runtime import progress
from dcbench_bacon.runtime.devices import choose_device
from dcbench_bacon.runtime.memory import keep_freed_memory
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.store import Store


def quality_of_files(
    *,
    files: Sequence[Path],
    stated: ReadingOptions,
    device: str,
    data_root: Path | None,
    output: Path,
    table: str,
    **requested: Any,
) -> str:
    """Return the table of distances of the images of saved sets from real ones."""
    keep_freed_memory()
    where = choose_device(device)
    request = quality.QualityRequest(**requested)
    pools.check_architectures([request.architecture])
    read = [open_set(path, stated, where, data_root) for path in files]
    sets = [(path, each.synthetic) for path, each in zip(files, read, strict=True)]
    opened = [each.dataset for each in read]
    names = sorted({each.info.name for each in opened})
    if len(names) > 1:
        raise UsageError(
            f"these files are of {' and '.join(names)}: give those of one data set"
        )
    if len({each.fingerprint for each in opened}) > 1:
        raise UsageError(
            "some of these sets are ZCA-whitened: give them in a command of their own"
        )
    policy = RunPolicy(reporter=progress.reporter(Console(stderr=True)))
    shared = Store(output).shared
    found = appraise_files(sets, opened[0], request, policy, shared)
    return rendering.render(found, table)
