"""The results folder, the device and the options of a command that runs cells."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dcbench_bacon import field_types
from dcbench_bacon.cli.endings import going_on
from dcbench_bacon.running import interrupt, run
from dcbench_bacon.runtime.compute.devices import choose_device
from dcbench_bacon.runtime.monitoring import progress
from dcbench_bacon.runtime.monitoring.in_flight import announced
from dcbench_bacon.store import Store


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The options of a command about where and how it works, as typed.

    Attributes:
        device: ``auto``, or a device name of torch.
        compiling: whether networks are compiled.
        data_root: the folder of data sets; None for the default one.
        output: the results folder.
        fresh: whether cells with a record run again.
        no_download: whether only data on disk are used.
        checkpoint_every: seconds between two checkpoints.
        time_budget: seconds after which the command stops; None for no limit.
        began: the value of ``time.monotonic()`` when the command began.
    """

    device: str
    compiling: field_types.CompileMode = "off"
    data_root: Path | None
    output: Path
    fresh: bool = False
    no_download: bool = True
    checkpoint_every: float = 60.0
    time_budget: float | None = None
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def pop_from(cls, given: dict[str, Any]) -> "Setup":
        """Take these options out of all options of a command."""
        names = [option.name for option in fields(cls) if option.name in given]
        return cls(**{name: given.pop(name) for name in names})

    @contextmanager
    def ready(
        self, console: Console, *, writing: bool = True
    ) -> Iterator[tuple[Store, run.RunContext]]:
        """Yield the store and the options of running cells.

        Args:
            console: shows the progress.
            writing: whether the results folder is made and must be writable.

        Within the context, Ctrl-C and the time budget stop the work within seconds.
        """
        deadline = self.began + (self.time_budget or math.inf)
        reporter = progress.reporter(console)
        with interrupt.stoppable(deadline, reporter.tell, _farewell) as stop:
            device = choose_device(self.device)
            store = Store(self.output)
            if writing:
                store.open()
            config = run.RunConfig(
                device=device,
                data_root=self.data_root,
                download=not self.no_download,
                fresh=self.fresh,
                compiling=self.compiling,
                checkpoint_every=self.checkpoint_every,
                deadline=time.time() + deadline - time.monotonic(),
            )
            with (
                announced(reporter, self.output)
                if writing
                else nullcontext(reporter) as shown
            ):
                yield store, config.here(shown, stop)


def _farewell(reason: str) -> None:
    """Print why the program ends at this moment, and how to continue."""
    kept = f"error: {reason}; the last checkpoint is kept"
    click.echo(f"{kept}. {going_on(noted=True)}", err=True)
