"""What the commands do that need torch: running grids, judging files, recipes."""

import logging
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console

from dcbench_bacon import (
    container,
    data,
    profiler,
    progress,
    recipe,
    runner,
    schema,
    tables,
    whitening,
    work,
)
from dcbench_bacon.clock import Clock, Policy
from dcbench_bacon.compiling import Compiler
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.evaluate import Task, evaluate
from dcbench_bacon.exchange import foreign
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.memory import keep_freed_memory
from dcbench_bacon.records import Store
from dcbench_bacon.registry import DATASETS, METHODS
from dcbench_bacon.schema import Cell, DatasetInfo, Evaluation
from dcbench_bacon.spec import Split, SyntheticSet
from dcbench_bacon.timing import environment

logger = logging.getLogger(__name__)

DEMO_METHODS = ("random", "dm", "idm", "bacon")
DEMO_DATASETS = ("digits",)


def run_grid(
    *,
    methods: tuple[str, ...] | None,
    datasets: tuple[str, ...] | None,
    ipc: tuple[int, ...] | None,
    seeds: tuple[int, ...],
    device: str,
    compiling: schema.CompileMode,
    data_root: Path | None,
    output: Path,
    fresh: bool,
    no_download: bool,
    checkpoint_every: float,
    time_budget: float | None,
    **requested: Any,
) -> int:
    """Runs the grid asked for, printing each result and the table.

    Returns:
        The exit status: 0 when all is done, 1 when some cells failed.
    """
    demo = datasets is None
    grid = runner.Grid(
        methods=methods or DEMO_METHODS,
        datasets=datasets or DEMO_DATASETS,
        ipc=ipc or ((1, 10) if demo else (1, 10, 50)),
        seeds=seeds,
        request=_request("demo" if demo else "paper", **requested),
    )
    where = choose_device(device)
    work.check_architectures(grid.request.architectures)
    jobs = runner.plan(grid, data_root)
    store = Store(output).open()
    console = Console(stderr=True)
    reporter = progress.reporter(console)
    profile, count = grid.request.profile, len(jobs)
    cells = f"{count} cell{'s' * (count > 1)}"
    _say(console, f"{cells}, profile {profile}, on {environment(where).device}")
    results = []
    with runner.stoppable() as stop:
        options = work.Options(
            device=where,
            data_root=data_root,
            download=not no_download,
            fresh=fresh,
            policy=Policy(
                interval=checkpoint_every,
                deadline=time.monotonic() + (time_budget or math.inf),
                stop=stop,
                reporter=reporter,
                compiler=Compiler(compiling),
            ),
            tell=lambda line: _say(console, line),
        )
        for result in runner.run(jobs, store, options):
            results.append(result)
            _say(console, f"[{len(results)}/{count}] {_line(result)}")
    _conclude(results, output, profile)
    failed = sum(result.outcome in ("failed", "diverged") for result in results)
    if failed:
        _say(console, f"{failed} of {count} cells failed; see the lines above")
    return 1 if failed else 0


def profile_grid(
    *,
    methods: tuple[str, ...] | None,
    datasets: tuple[str, ...] | None,
    ipc: tuple[int, ...] | None,
    steps: int,
    device: str,
    compiling: schema.CompileMode,
    data_root: Path | None,
    output: Path,
    form: str,
    profile: str | None,
    pairs: tuple[str, ...],
) -> str:
    """Times steps, stores the records and returns the table."""
    if methods is None or datasets is None:
        raise UsageError("name what to time with --methods and --datasets")
    where = choose_device(device)
    store = Store(output).open()
    request = recipe.Request(
        profile=msgspec.convert(profile or "paper", schema.Profile),
        overrides=recipe.parse_overrides(pairs),
    )
    grid = runner.Grid(
        methods=methods,
        datasets=datasets,
        ipc=ipc or (1, 10, 50),
        seeds=(0,),
        request=request,
    )
    with runner.stoppable() as stop:
        shown = progress.reporter(Console(stderr=True))
        policy = Policy(stop=stop, reporter=shown, compiler=Compiler(compiling))
        options = work.Options(where, data_root, policy=policy)
        records = []
        for record in profiler.profile(grid, options, steps):
            store.write(record, "timing")
            records.append(record)
    return tables.render(tables.timing(records), form)


def evaluate_files(
    *,
    files: Sequence[Path],
    claims: Claims,
    device: str,
    compiling: schema.CompileMode,
    data_root: Path | None,
    **requested: Any,
) -> None:
    """Evaluates saved sets and prints a line a network and the mean."""
    keep_freed_memory()
    where = choose_device(device)
    console = Console(stderr=True)
    request = _request("paper", **requested)
    work.check_architectures(request.architectures)
    recipe.check_overrides(request.overrides, [])
    for path in files:
        synthetic, cell, loaded = open_set(path, claims, where, data_root)
        asked = _with_pools(request, synthetic)
        if cell.method in METHODS.names():
            protocol = work.resolve(cell, asked).recipe.protocol
        else:  # made by a method that is not installed here
            protocol = recipe.protocol(cell, asked)
        validation = None
        if protocol.held_out:
            loaded, validation = _held_out(path, synthetic, cell, loaded)
        foreign.caution(path, synthetic, protocol.learning_rate)
        policy = Policy(
            reporter=progress.reporter(console), compiler=Compiler(compiling)
        )
        clock = Clock(str(cell), where, policy)
        protocol = work.in_force(protocol, synthetic)
        run = work.CellRun(cell, loaded, work.Options(where, policy=policy), None)
        teachers = work.find_teachers(run, protocol)
        task = Task(synthetic, loaded.test, loaded.info, protocol, validation, teachers)
        for architecture, found in _by_architecture(evaluate(clock, task)).items():
            console.file.flush()
            print(f"{path}  {architecture}  {_spread(found)}", flush=True)


def open_set(
    path: Path, claims: Claims, device: torch.device, root: Path | None
) -> tuple[SyntheticSet, Cell, data.Dataset]:
    """Reads a set and the data set that it is to be tested on."""
    synthetic = foreign.read(path, claims, root).to(device)
    return synthetic, *_opened(path, synthetic, claims.dataset, root)


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
    from dcbench_bacon import quality

    keep_freed_memory()
    where = choose_device(device)
    request = quality.Request(**requested)
    work.check_architectures([request.architecture])
    read = [open_set(path, claims, where, data_root) for path in files]
    sets = [(path, each[0]) for path, each in zip(files, read, strict=True)]
    opened = [each[2] for each in read]
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


def _with_pools(request: recipe.Request, synthetic: SyntheticSet) -> recipe.Request:
    """A request with plain names of networks, ``S`` being the one that the file says.

    What the recipe in force today says may be another one.
    """
    try:
        made_by = msgspec.convert(synthetic.provenance["recipe"], schema.Recipe)
        distilled_on = work.distilled_on(made_by)
    except (KeyError, msgspec.ValidationError):  # another tool's file
        distilled_on = work.DISTILLED_ON
    names = work.plain(request.architectures, distilled_on)
    return msgspec.structs.replace(request, architectures=names)


def _opened(
    path: Path, synthetic: SyntheticSet, dataset: str | None, root: Path | None
) -> tuple[Cell, data.Dataset]:
    """The cell that a set came from, and the data set it is to be tested on.

    Raises:
        DataError: the file does not say where it is from, or the data do not fit it.
    """
    try:
        cell = msgspec.convert(synthetic.provenance["cell"], Cell)
        made_for = msgspec.convert(synthetic.provenance["dataset"], DatasetInfo)
    except (KeyError, msgspec.ValidationError) as error:
        raise DataError(f"{path} does not say what it was made from") from error
    container.check_fits(path, synthetic, made_for)
    # A header names no folder of this machine: only --dataset does.
    name = dataset or cell.dataset.partition(":")[0]
    try:
        loaded = data.load(name, root, synthetic.images.device)
    except UsageError as error:
        raise DataError(
            f"{path} was made from {cell.dataset}, which is no data set of that name "
            "here; name it with --dataset, for a folder --dataset folder:PATH"
        ) from error
    found = (loaded.info.channels, loaded.info.size, loaded.info.classes)
    if found != (made_for.channels, made_for.size, made_for.classes):
        raise DataError(
            f"{path} was made from {made_for.name} ({_shape(made_for)}), "
            f"{loaded.info.name} has {_shape(loaded.info)}; "
            "name the right one with --dataset"
        )
    if (loaded.info.mean, loaded.info.std) != (made_for.mean, made_for.std):
        raise DataError(
            f"{path} was normalised with the statistics of {made_for.name}, which are "
            f"not those of {loaded.info.name}; name the right one with --dataset"
        )
    if synthetic.provenance.get("zca"):
        loaded = whitening.whiten(loaded)
        if synthetic.provenance.get("dataset_sha256", loaded.fingerprint) != (
            loaded.fingerprint
        ):
            logger.warning(
                "%s was whitened with the statistics of other images than those of %s "
                "here: expect too low an accuracy",
                path,
                loaded.info.name,
            )
    return cell, loaded


def _held_out(
    path: Path, synthetic: SyntheticSet, cell: Cell, loaded: data.Dataset
) -> tuple[data.Dataset, Split]:
    """The data set without, and the split, that was held out when a set was made.

    The share is the one in the file, whatever the protocol asked for now has.

    Raises:
        UsageError: nothing was held out, or from other images.
    """
    try:
        made = msgspec.convert(synthetic.provenance["recipe"], schema.Recipe)
        held_out = made.protocol.held_out
    except (KeyError, msgspec.ValidationError):
        held_out = False
    if not held_out:
        raise UsageError(
            f"{path}: --selection best_val and protocol.learning_rates need a split "
            "that was held out when the set was distilled; give them to dcbench run"
        )
    if synthetic.provenance.get("dataset_sha256") != loaded.fingerprint:
        raise UsageError(
            f"{path} was distilled from other images than {loaded.info.name} now has, "
            "so what was held out is not known; leave out --selection best_val and "
            "protocol.learning_rates"
        )
    train, validation = work.hold_out(cell, loaded.train, made.protocol.validation)
    return replace(loaded, train=train), validation


def _shape(info: DatasetInfo) -> str:
    return f"{info.channels}x{info.size}x{info.size}, {info.classes} classes"


def show_recipe(*, method: str, dataset: str, ipc: int, **requested: Any) -> str:
    """The recipe of a cell, a line a key: value, table and source."""
    name = data.cell_name(dataset)
    cell = work.cell_of(METHODS.resolve(method), name, ipc)
    request = _request("paper", **requested)
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
    return device


def _request(
    default: str,
    *,
    profile: str | None,
    pairs: tuple[str, ...],
    architectures: tuple[str, ...] | None,
    protocol: str,
    selection: str | None,
) -> recipe.Request:
    """What the options ask of recipes."""
    return msgspec.convert(
        {
            "profile": profile or default,
            "protocol": protocol,
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
    console.print(tables.to_rich(table))
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
        f"{architecture} {_spread(found)}"
        for architecture, found in _by_architecture(record.evaluations).items()
    ]
    seconds = [
        sum(timing.seconds for timing in stages.values())
        for stages in (record.distillation, record.evaluation)
    ]
    times = f"distilled {seconds[0]:.1f} s, evaluated {seconds[1]:.1f} s"
    note = "already done" if result.outcome == "skipped" else times
    return f"{result.job.cell}: {', '.join(parts)}  ({note})"


def _by_architecture(found: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    names = dict.fromkeys(entry.architecture for entry in found)
    return {name: [e for e in found if e.architecture == name] for name in names}


def _spread(found: Sequence[Evaluation]) -> str:
    """Mean and standard deviation between networks, in percent."""
    values = torch.tensor([entry.accuracy for entry in found]) * 100
    deviation = f" ± {values.std():.2f}" if len(found) > 1 else ""
    return f"{values.mean():.2f}{deviation} % (n={len(found)})"


def _toml(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
