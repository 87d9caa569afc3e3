"""Forecast what a grid will take, before it runs and on the way."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dcbench_bacon.cli.cells.sweeps import name_key, names_of
from dcbench_bacon.cli.sizes import lasting, size
from dcbench_bacon.running.grids.grid import CellResult
from dcbench_bacon.running.plans.estimates import PlannedCell, estimated, planned
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import RunContext
from dcbench_bacon.runtime.disk.files import free_bytes
from dcbench_bacon.runtime.monitoring.progress import Overall
from dcbench_bacon.store import Store

DAY = 86_400.0
PROBE_SECONDS = {"run": 10.0, "dry": 60.0}  # for all probes together


class Forecast:
    """The expected end of a grid, which is corrected by the cells that are done.

    Args:
        cells: of the grid, with estimates.
        context: how they run.
    """

    def __init__(self, cells: Sequence[PlannedCell], context: RunContext) -> None:
        """Begin to count the time."""
        self.expected = {
            name_key(cell.job): cell.estimate.seconds if cell.estimate else math.nan
            for cell in cells
            if cell.state != "done"
        }
        self.count = len(cells)
        self.overall = Overall(context.policy.reporter)
        policy = replace(context.policy, reporter=self.overall)
        self.context = replace(context, policy=policy)
        self._done = 0
        self._spent = self._planned = 0.0
        self._began = policy.now()
        self._show()

    def finished(self, result: CellResult) -> str:
        """Note that a cell is done; return what is left, as the end of a line."""
        self._done += 1
        now = self.context.policy.now()
        expected = self.expected.pop(name_key(result.job), math.nan)
        if result.outcome == "done" and not math.isnan(expected):
            self._spent += now - self._began
            self._planned += expected
        self._began = now
        self._show()
        left = self._left()
        return f"; about {lasting(left)} left" if left > 0 else ""

    def _left(self) -> float:
        """Return the seconds that are left, or 0 if unknown."""
        ratio = self._spent / self._planned if self._planned else 1.0
        return ratio * sum(x for x in self.expected.values() if not math.isnan(x))

    def _show(self) -> None:
        """Put the state of the grid before the title of each stage."""
        left = self._left()
        rest = f", {lasting(left)} left" if left > 0 else ""
        self.overall.prefix = f"[{min(self._done + 1, self.count)}/{self.count}{rest}] "


def forecast(
    jobs: Sequence[CellJob], store: Store, context: RunContext, preset: str
) -> Forecast:
    """Tell the user what a grid will take, and return its forecast.

    The demo is estimated from records alone: it is shorter than a probe is worth.

    Raises:
        InterruptedRunError: the user stopped the run.
    """
    cells = planned(jobs, store, context)
    if any(cell.state != "done" for cell in cells):
        seconds = 0.0 if preset == "demo" else PROBE_SECONDS["run"]
        cells = estimated(cells, store, context, seconds)
        if seconds or any(cell.estimate for cell in cells):
            context.tell(total_line(cells))
        if warning := day_warning(cells, preset):
            context.tell(warning)
    return Forecast(cells, context)


def dry_run(
    jobs: Sequence[CellJob], store: Store, context: RunContext, preset: str
) -> str:
    """Return the plan of a grid as text; nothing is written.

    Raises:
        InterruptedRunError: the user stopped the probes.
    """
    cells = planned(jobs, store, context)
    cells = estimated(cells, store, context, PROBE_SECONDS["dry"])
    names = names_of(jobs)
    width = max(map(len, names.values()))
    lines = [
        f"{'cell':<{width}}  {'state':<9}  {'data':<7}  {'distil':>9}  "
        f"{'evaluate':>9}  {'memory':>8}"
    ]
    lines += [_row(cell, f"{names[name_key(cell.job)]:<{width}}") for cell in cells]
    lines += ["", total_line(cells), *_sources(cells), _disk_line(cells, store.root)]
    if warning := day_warning(cells, preset):
        lines.append(warning)
    return "\n".join(lines)


def total_line(cells: Sequence[PlannedCell]) -> str:
    """Return the numbers of cells by state, and the time of those that are not done."""
    counts = Counter(cell.state for cell in cells)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    seconds = [cell.estimate.seconds for cell in cells if cell.estimate]
    unsure = any(
        cell.state != "done" and not (cell.estimate and cell.estimate.whole)
        for cell in cells
    )
    if not seconds:
        time_ = "nothing to do" if set(counts) == {"done"} else "time unknown"
        return f"{states}: {time_}"
    peak = max(cell.estimate.peak_bytes for cell in cells if cell.estimate)
    kinds = Counter(cell.estimate.how for cell in cells if cell.estimate)
    least = "at least " if unsure else "about "
    memory = f", {size(peak)} of memory" if peak else ""  # 0 is unknown
    return (
        f"{states}: {least}{lasting(sum(seconds))} on this device{memory} "
        f"(from {'; '.join(kinds)})"
    )


def day_warning(cells: Sequence[PlannedCell], preset: str) -> str:
    """Return a warning if a grid takes more than a day, or an empty text."""
    seconds = sum(cell.estimate.seconds for cell in cells if cell.estimate)
    if seconds <= DAY:
        return ""
    remedy = "fewer --methods, --datasets or --ipc shorten it"
    if preset == "paper":
        remedy = "--preset quick runs a reduced recipe (not comparable with published)"
    return (
        f"warning: that is more than a day; {remedy}; a run can be stopped and "
        "continued at any time"
    )


def _row(cell: PlannedCell, name: str) -> str:
    """Return the line of a cell, which begins with its name."""
    data = "at hand" if cell.data else "missing"
    head = f"{name}  {cell.state:<9}  {data:<7}"
    if cell.estimate is None:
        unknown = "" if cell.state == "done" else "?"
        return f"{head}  {unknown:>9}  {unknown:>9}  {unknown:>8}".rstrip()
    estimate = cell.estimate
    peak = size(estimate.peak_bytes) if estimate.peak_bytes else "?"
    least = "" if estimate.whole else ">"
    return (
        f"{head}  {least + lasting(estimate.distillation):>9}  "
        f"{lasting(estimate.evaluation):>9}  {peak:>8}"
    )


def _sources(cells: Sequence[PlannedCell]) -> list[str]:
    """Return a line about each data set that is missing."""
    missing = dict.fromkeys(cell.job.source for cell in cells if not cell.data)
    return [f"{name} is not on disk: dcbench data get {name}" for name in missing]


def _disk_line(cells: Sequence[PlannedCell], root: Path) -> str:
    """Return what the results will take on disk, and what is free."""
    need = sum(cell.disk_bytes for cell in cells if cell.state != "done")
    free = free_bytes(root)
    ok = "" if need < free else " - NOT ENOUGH; choose another --output"
    return f"{size(need)} on disk (sets and checkpoints), {size(free)} free{ok}"
