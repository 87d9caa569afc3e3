"""The page of ``dcbench report``, made from the records in a results folder."""

import logging
from pathlib import Path

from dcbench_bacon.errors import RecordError, UsageError
from dcbench_bacon.field_types import Preset
from dcbench_bacon.reporting.html.page import page
from dcbench_bacon.reporting.html.thumbnails import Thumbnail
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

logger = logging.getLogger(__name__)


def write_report(output: Path, presets: tuple[str, ...], to: Path | None) -> Path:
    """Write the page of a results folder, and return its path.

    Args:
        output: the results folder.
        presets: the presets whose records are shown; all if empty.
        to: the file; ``report.html`` in the results folder if None.

    Raises:
        OutputError: the file cannot be written.
        UsageError: there are no such records.
    """
    store, broken = Store(output), list[RecordError]()
    chosen = [each for each in store.records(broken) if _is_in(each, presets)]
    timing = [each for each in store.records(broken, "timing") if _is_in(each, presets)]
    for error in broken:
        logger.warning("left out: %s", error)
    if not chosen:
        asked = f" of preset {' or '.join(presets)}" if presets else ""
        raise UsageError(
            f"{output / 'records'}: no records{asked}; name the --output of dcbench "
            "run, or another --preset"
        )
    path = to or output / "report.html"
    pictures, left_out = _thumbnails(store, chosen)
    warnings = [*(f"Left out: {error}" for error in broken), *left_out]
    made = page(store, chosen, timing=timing, thumbnails=pictures, warnings=warnings)
    write_atomically(path, made.encode(errors="replace"))
    return path


def _thumbnails(
    store: Store, records: list[Record]
) -> tuple[list[Thumbnail], list[str]]:
    """Return thumbnails of the sets in a results folder, and what is left out.

    torch, which reads sets and takes seconds to load, is imported only if there are
    any.
    """
    if not any((store.root / "synthetic").glob("*.safetensors")):
        return [], []
    from dcbench_bacon.exchange.pictures.of_results import thumbnails

    return thumbnails(store, records)


def _is_in(record: Record, presets: tuple[str, ...]) -> bool:
    """Return whether a record is of one of the presets; of any if there are none."""
    preset: Preset = record.recipe.preset
    return not presets or preset in presets
