"""What the commands do that need torch: running and timing grids, recipes."""

import math
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console

from dcbench_bacon import (
    data,
    profiler,
    progress,
    recipe,
    runner,
    schema,
    tables,
    work,
)
from dcbench_bacon.clock import Policy
from dcbench_bacon.compiling import Compiler
from dcbench_bacon.errors import UsageError
from dcbench_bacon.grid import Grid, plan
from dcbench_bacon.printing import accuracy, moments
from dcbench_bacon.records import Store
from dcbench_bacon.registry import DATASETS, METHODS
from dcbench_bacon.schema import Cell, Evaluation
from dcbench_bacon.timing import environment

DEMO_METHODS = ("random", "dm", "idm", "bacon")
DEMO_DATASETS = ("digits",)
AXES = ("methods", "datasets", "ipc")
REFERENCES = ("random", "whole")  # what scores hold the others against


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
    compiling: schema.CompileMode
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
    def ready(self, console: Console) -> Iterator[tuple[Store, work.Options]]:
        """Where results go and how cells run; inside, Ctrl-C lets a step end.

        The time budget begins when all else is ready.
        """
        device = choose_device(self.device)
        store = Store(self.output).open()
        with runner.stoppable() as stop:
            policy = Policy(
                interval=self.checkpoint_every,
                deadline=time.monotonic() + (self.time_budget or math.inf),
                stop=stop,
                reporter=progress.reporter(console),
                compiler=Compiler(self.compiling),
            )
            options = work.Options(
                device=device,
                data_root=self.data_root,
                download=not self.no_download,
                fresh=self.fresh,
                policy=policy,
            )
            yield store, options


def run_grid(*, references: bool, **given: Any) -> int:
    """Runs the grid asked for, printing each result and the table.

    Args:
        references: run these as well.
        given: the axes of the grid, and the fields of ``Setup`` and of a request.

    Returns:
        The exit status: 0 when all is done, 1 when some cells failed.
    """
    setup = Setup.taken(given)
    methods, datasets, ipc = (given.pop(axis) for axis in AXES)
    demo = datasets is None
    chosen = (*(methods or DEMO_METHODS), *(REFERENCES if references else ()))
    grid = Grid(
        methods=tuple(dict.fromkeys(chosen)),
        datasets=datasets or DEMO_DATASETS,
        ipc=ipc or ((1, 10) if demo else (1, 10, 50)),
        seeds=given.pop("seeds"),
        request=request_of("demo" if demo else "paper", **given),
    )
    work.check_architectures(grid.request.architectures)
    jobs = plan(grid, setup.data_root)
    results, console = [], Console(stderr=True)
    with setup.ready(console) as (store, options):
        profile, count = grid.request.profile, len(jobs)
        cells = f"{count} cell{'s' * (count > 1)}"
        where = environment(options.device).device
        options.tell(f"{cells}, profile {profile}, on {where}")
        for result in runner.run(jobs, store, options):
            results.append(result)
            options.tell(f"[{len(results)}/{count}] {_line(result)}")
    _conclude(results, setup.output, profile)
    failed = sum(result.outcome in ("failed", "diverged") for result in results)
    if failed:
        options.tell(f"{failed} of {count} cells failed; see the lines above")
    return 1 if failed else 0


def profile_grid(*, steps: int, form: str, **given: Any) -> str:
    """Times steps, stores the records and returns the table.

    Args:
        steps: how many of a cell are timed.
        form: of the table.
        given: the axes of the grid, and the fields of ``Setup`` and of a request.
    """
    setup = Setup.taken(given)
    methods, datasets, ipc = (given.pop(axis) for axis in AXES)
    if methods is None or datasets is None:
        raise UsageError("name what to time with --methods and --datasets")
    grid = Grid(
        methods=methods,
        datasets=datasets,
        ipc=ipc or (1, 10, 50),
        seeds=(0,),
        request=request_of("paper", **given),
    )
    records = []
    with setup.ready(Console(stderr=True)) as (store, options):
        for record in profiler.profile(grid, options, steps):
            store.write(record, "timing")
            records.append(record)
    return tables.render(tables.timing(records), form)


def show_recipe(*, method: str, dataset: str, ipc: int, **requested: Any) -> str:
    """The recipe of a cell, a line a key: value, table and source."""
    name = data.cell_name(dataset)
    cell = work.cell_of(METHODS.resolve(method), name, ipc)
    request = request_of("paper", **requested)
    recipe.check_overrides(request.overrides, [work.method_class(cell.method).Settings])
    resolved = work.resolve(cell, request)
    values = dict(resolved.recipe.settings)
    fields = msgspec.to_builtins(resolved.recipe.protocol)
    values |= {recipe.PROTOCOL_PREFIX + key: value for key, value in fields.items()}
    lines = [f"{cell.method} on {cell.dataset}, ipc {ipc}, profile {request.profile}"]
    shown = {key: _toml(value) for key, value in values.items()}
    width = max(map(len, shown))
    wide = max(len(value) for value in shown.values())
    for key, value in shown.items():
        origin = resolved.origins.get(key)
        where = f"{origin.table}  {origin.source}" if origin else ""
        lines.append(f"  {key:<{width}}  {value:<{wide}}  {where}".rstrip())
    for sentence in recipe.protocol_departures(request.protocol):
        lines.append(
            f"  protocol {request.protocol} departs from its source: {sentence}"
        )
    lines.append(f"recipe {recipe.digest(resolved.recipe)}")
    return "\n".join(lines)


def check_recipes() -> list[str]:
    """Resolves every table of every recipe and protocol; returns what is wrong."""
    problems = []
    known = list(DATASETS.names())
    for method in METHODS.names():
        path = work.recipe_file(method)
        try:
            for cell, profile in _settings_of(method, recipe.read(path), known):
                work.resolve(cell, recipe.Request(profile=profile))
        except UsageError as error:
            problems.append(f"{method}: {error}")
    for name in recipe.protocol_names():
        try:
            for cell, request in recipe.protocol_requests(name):
                if cell.dataset not in known:
                    raise UsageError(f"no data set {cell.dataset!r}")
                work.check_protocol(recipe.protocol(cell, request))
        except UsageError as error:
            problems.append(f"protocol {name}: {error}")
    return problems


def choose_device(name: str) -> torch.device:
    """The device for a name; ``auto`` takes a GPU when there is one.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: write auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: torch sees no such GPU here; try cpu")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: only cpu and cuda are supported")
    if device.type == "cuda" and device.index:  # or the first GPU is opened as well
        torch.cuda.set_device(device)
    return device


def request_of(
    default: str,
    *,
    profile: str | None,
    pairs: tuple[str, ...],
    architectures: tuple[str, ...] | None = None,
    protocol: str = recipe.PUBLISHED,
    selection: str | None = None,
) -> recipe.Request:
    """What the options ask of recipes."""
    return msgspec.convert(
        {
            "profile": profile or default,
            "protocol": recipe.protocol_name(protocol),
            "overrides": recipe.parse_overrides(pairs),
            "architectures": architectures or (),
            "selection": selection,
        },
        recipe.Request,
    )


def _settings_of(
    method: str, document: recipe.Document, known: list[str]
) -> list[tuple[Cell, Any]]:
    """A cell for every table of a recipe, in every profile that touches it."""
    found: list[tuple[Cell, Any]] = []
    profiles = document.get("profiles", {})
    for profile, tables_ in {"paper": document, **profiles}.items():
        found.append((Cell(method, "digits", 10), profile))
        for label, dataset, ipc in recipe.tables(tables_):
            if dataset is not None and dataset not in known:
                raise UsageError(f"[{label}]: no data set {dataset!r}")
            found.append((Cell(method, dataset or "digits", ipc or 10), profile))
    return found


def _conclude(results: list[runner.Result], output: Path, profile: str) -> None:
    """Prints the table of this grid and says how to see it again."""
    records = [result.record for result in results if result.record.status == "done"]
    if not records:
        return
    table = tables.summary(tables.frame(records), profiles=(profile,))
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a file or a pipe has no width of its own
    console.print(tables.to_rich(table, console.width))
    words = ["dcbench", "table", "--profile", profile, "--output", str(output)]
    again = shlex.join(words)
    Console(stderr=True).print(
        f"Records: {output / 'records'}   This table again: {again}",
        highlight=False,
        soft_wrap=True,
    )


def _line(result: runner.Result) -> str:
    """What became of a cell, in a line."""
    record = result.record
    if record.status != "done":
        return f"{result.job.cell}: {result.outcome}: {record.error}"
    parts = [
        f"{architecture} {spread(found)}"
        for architecture, found in by_architecture(record.evaluations).items()
    ]
    seconds = [
        sum(timing.seconds for timing in stages.values())
        for stages in (record.distillation, record.evaluation)
    ]
    times = f"distilled {seconds[0]:.1f} s, evaluated {seconds[1]:.1f} s"
    note = "already done" if result.outcome == "skipped" else times
    return f"{result.job.cell}: {', '.join(parts)}  ({note})"


def by_architecture(found: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """The evaluations of each network."""
    names = dict.fromkeys(entry.architecture for entry in found)
    return {name: [e for e in found if e.architecture == name] for name in names}


def spread(found: Sequence[Evaluation]) -> str:
    """Mean and standard deviation between networks, in percent, as tables have them."""
    return in_percent([entry.accuracy for entry in found])


def in_percent(fractions: Sequence[float]) -> str:
    """The same of accuracies alone."""
    return accuracy(*moments(fractions), len(fractions)).replace(" (", " % (")


def _toml(value: Any) -> str:
    return msgspec.json.encode(value).decode()
