"""Hand the recipe, the numbers and the images of a finished cell to a tracker."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcbench_bacon.exchange.pictures import of_results
from dcbench_bacon.exchange.pictures.mosaic import mosaic, most_per_class
from dcbench_bacon.running.grids.grid import CellResult
from dcbench_bacon.running.run import RunContext
from dcbench_bacon.runtime.monitoring import trackers
from dcbench_bacon.runtime.monitoring.trackers import Tracker
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

MOST_COLUMNS = 10  # images per class in the picture


@contextmanager
def opened(name: str | None, output: Path) -> Iterator[Tracker | None]:
    """Yield a tracker, which is closed afterwards, or None without a name."""
    tracker = trackers.tracker(name, output) if name else None
    try:
        yield tracker
    finally:
        if tracker:
            tracker.close()


def tracked(context: RunContext, tracker: Tracker | None) -> RunContext:
    """Return a context whose losses go to a tracker as well."""
    if tracker is None:
        return context
    return replace(context, policy=replace(context.policy, track=tracker.scalars))


def track(tracker: Tracker, result: CellResult, store: Store) -> None:
    """Hand on the recipe, the accuracies, the phase times and the images of a cell."""
    record, run = result.record, str(result.job.cell)
    if result.outcome != "done":
        return
    tracker.config(run, _recipe(record))
    for entry in (*record.history, *record.evaluations):
        parts = ("accuracy", entry.architecture, entry.augmentation, str(entry.trial))
        name = "/".join(filter(None, parts))
        steps = record.recipe.whole_number("steps")
        step = steps if entry.step is None else entry.step
        tracker.scalars(run, {name: entry.accuracy}, step)
    for stage, timing in record.distillation.items():
        phases = {
            f"seconds/{stage}/{name}": phase.seconds
            for name, phase in timing.phases.items()
        }
        seconds = {f"seconds/{stage}/total": timing.seconds, **phases}
        tracker.scalars(run, seconds, timing.steps)
    for kept in of_results.kept(store, [record], []):
        classes = range(kept.info.classes)
        columns = min(most_per_class(kept.synthetic), MOST_COLUMNS)
        pixels = mosaic(kept.synthetic, kept.info, classes, columns)
        tracker.image(run, "images", pixels)


def _recipe(record: Record) -> dict[str, Any]:
    """Return the recipe of a record as plain values."""
    protocol = record.recipe.protocol
    return {
        **record.recipe.settings,
        "preset": record.recipe.preset,
        "protocol": protocol.title,
        "protocol.epochs": protocol.epochs,
        "protocol.networks": protocol.networks,
        "protocol.architectures": ",".join(protocol.architectures),
        "digest": record.digest,
    }
