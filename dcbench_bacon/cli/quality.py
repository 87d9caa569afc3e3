"""What ``dcbench quality`` does: hold the images of saved sets against real ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dcbench_bacon import progress, quality, tables, work
from dcbench_bacon.clock import Policy
from dcbench_bacon.commands import choose_device
from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.judging import open_set
from dcbench_bacon.memory import keep_freed_memory
from dcbench_bacon.records import Store


def quality_of_files(
    *,
    files: Sequence[Path],
    claims: Claims,
    device: str,
    data_root: Path | None,
    output: Path,
    table: str,
    **requested: Any,
) -> str:
    """The table of how far the images of saved sets are from real ones."""
    keep_freed_memory()
    where = choose_device(device)
    request = quality.Request(**requested)
    work.check_architectures([request.architecture])
    read = [open_set(path, claims, where, data_root) for path in files]
    sets = [(path, each.synthetic) for path, each in zip(files, read, strict=True)]
    opened = [each.dataset for each in read]
    names = sorted({each.info.name for each in opened})
    if len(names) > 1:
        raise UsageError(
            f"these files are of {' and '.join(names)}: give those of one data set"
        )
    if len({each.fingerprint for each in opened}) > 1:
        raise UsageError("some of these sets are ZCA-whitened: give them by themselves")
    policy = Policy(reporter=progress.reporter(Console(stderr=True)))
    shared = Store(output).shared
    found = quality.appraise_files(sets, opened[0], request, policy, shared)
    return tables.render(found, table)
