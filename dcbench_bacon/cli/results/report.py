"""The page of ``dcbench report``, made from the records in a results folder."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from dcbench_bacon.downstream_store import (
    Candidate,
    Slimmed,
    Stage,
    Trained,
    continual_folder,
    search_folder,
    slimming_folder,
)
from dcbench_bacon.errors import RecordError, UsageError
from dcbench_bacon.reporting.html.downstream_rows import downstream
from dcbench_bacon.reporting.html.page import page
from dcbench_bacon.reporting.html.thumbnails import Thumbnail
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

logger = logging.getLogger(__name__)

R = TypeVar("R", Record, Stage, Candidate, Slimmed)


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
    chosen = _of(presets, store.records(broken))
    timing = _of(presets, store.records(broken, "timing"))
    stages = _of(presets, continual_folder(store).records(broken))
    candidates = _of(presets, search_folder(store).records(broken))
    slimmed = _of(presets, slimming_folder(store).records(broken))
    for error in broken:
        logger.warning("left out: %s", error)
    if not chosen:
        asked = f" of preset {' or '.join(presets)}" if presets else ""
        raise UsageError(
            f"{output / 'records'}: no records{asked}; name the --output of dcbench "
            "run, or another --preset"
        )
    path = to or output / "report.html"
    thumbnails, left_out = _thumbnails(store, chosen)
    text = page(
        store,
        chosen,
        timing=timing,
        thumbnails=thumbnails,
        downstream=downstream(stages, candidates, slimmed),
        warnings=[*(f"Left out: {error}" for error in broken), *left_out],
    )
    write_atomically(path, text.encode(errors="replace"))
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


def _of(presets: tuple[str, ...], records: Iterable[R]) -> list[R]:
    """Return the records of the presets; all if there are none."""

    def preset(record: Record | Trained) -> str:
        return record.recipe.preset if isinstance(record, Record) else record.preset

    return [record for record in records if not presets or preset(record) in presets]
