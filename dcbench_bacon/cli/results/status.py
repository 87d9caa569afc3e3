"""The state of a results folder: what runs, what is done and what has failed."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rich.live import Live
from rich.text import Text

from dcbench_bacon.cli.sizes import lasting
from dcbench_bacon.errors import RecordError
from dcbench_bacon.runtime.monitoring.in_flight import (
    QUIET_SECONDS,
    InFlight,
    processes,
)
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

WATCH_SECONDS = 2.0
MOST_SHOWN = 10  # failures, each with its error


def lines(output: Path) -> Iterator[str]:
    """Yield the state of a results folder, line by line."""
    states = processes(output)
    for state in states:
        yield from _lines_of(state)
    if not states:
        yield f"no process works in {output}"
    broken: list[RecordError] = []
    records = list(Store(output).records(broken))
    yield _counts(records, output)
    lacking = [record for record in records if record.status != "done"]
    for record in lacking[:MOST_SHOWN]:
        error = (record.error or "").partition("\n")[0]
        yield f"  {record.status}: {record.cell}: {error}"
    if lacking:
        yield f"  with tracebacks: {output / 'failures'}"
    for problem in broken[:MOST_SHOWN]:
        yield f"  unreadable: {problem}"


def shown_again_and_again(output: Path) -> None:
    """Print the state of a results folder every ``WATCH_SECONDS``, until Ctrl-C."""
    with suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        while True:
            live.update(Text("\n".join(lines(output))), refresh=True)
            time.sleep(WATCH_SECONDS)


def _lines_of(state: InFlight) -> Iterator[str]:
    """Yield what one process is doing."""
    silent = time.time() - state.written
    age = lasting(time.time() - state.began)
    where = f"{state.host}, process {state.pid}, for {age}"
    if state.ended:
        where = f"{state.host}, process {state.pid}: it is gone, as after a kill"
    elif silent > QUIET_SECONDS:
        where += f"; no message for {lasting(silent)}"
    yield f"{state.command}  ({where})"
    if state.title:
        steps = f"{state.index:,}/{state.count:,}"
        yield f"  {state.title} {steps} {state.note}".rstrip()


def _counts(records: Sequence[Record], output: Path) -> str:
    """Return how many cells are done, failed and begun."""
    counts = Counter(record.status for record in records)
    failed = counts["failed"] + counts["diverged"]
    begun = sum(path.is_dir() for path in (output / "checkpoints").glob("*-*"))
    return f"{counts['done']:,} done, {failed:,} failed, {begun:,} with checkpoints"
