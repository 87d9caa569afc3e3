"""From the options of a command to a results folder, a device and a request."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from dcbench_bacon import field_types
from dcbench_bacon.running import interrupt, run
from dcbench_bacon.runtime import progress
from dcbench_bacon.runtime.compilation import Compiler
from dcbench_bacon.runtime.devices import choose_device
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.store import Store


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Where and how a command works, as typed.

    Attributes:
        device: ``auto`` or one of torch's names.
        compiling: of networks.
        data_root: where data sets lie.
        output: the results folder.
        fresh: do again what has a record.
        no_download: use only data that is on disk.
        checkpoint_every: seconds.
        time_budget: seconds after which to stop.
    """

    device: str
    compiling: field_types.CompileMode
    data_root: Path | None
    output: Path
    fresh: bool = False
    no_download: bool = True
    checkpoint_every: float = 60.0
    time_budget: float | None = None

    @classmethod
    def taken(cls, given: dict[str, Any]) -> "Setup":
        """Takes these out of the options of a command."""
        names = [each.name for each in fields(cls) if each.name in given]
        return cls(**{name: given.pop(name) for name in names})

    @contextmanager
    def ready(self, console: Console) -> Iterator[tuple[Store, run.Options]]:
        """Where results go and how cells run; inside, Ctrl-C lets a step end.

        The time budget begins when all else is ready.
        """
        device = choose_device(self.device)
        store = Store(self.output).open()
        with interrupt.stoppable() as stop:
            policy = RunPolicy(
                interval=self.checkpoint_every,
                deadline=time.monotonic() + (self.time_budget or math.inf),
                stop=stop,
                reporter=progress.reporter(console),
                compiler=Compiler(self.compiling),
            )
            options = run.Options(
                device=device,
                data_root=self.data_root,
                download=not self.no_download,
                fresh=self.fresh,
                policy=policy,
            )
            yield store, options
