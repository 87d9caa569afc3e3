"""What the commands print, which recipes are in force, and how they end."""

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import commandline
import msgspec
import pytest
from commandline import found, invoke, only_record, settable, tiny

from dcbench_bacon.augmentation.kornia_modules import OPERATIONS
from dcbench_bacon.augmentation.policies import POLICIES
from dcbench_bacon.cli.arguments.options import PAPER_DATASETS
from dcbench_bacon.cli.main import main
from dcbench_bacon.plugins import DATASETS, METHODS
from dcbench_bacon.recipes import protocols
from dcbench_bacon.recipes.protocols import Request
from dcbench_bacon.reporting.numbers.tables import SUMMARY
from dcbench_bacon.running.plans import planning
from dcbench_bacon.running.plans.planning_of_grids import Grid
from dcbench_bacon.schema import Cell

COMMANDS = [
    *("run", "evaluate", "table", "list", "show", "data", "check"),
    *("continual", "nas", "quality", "convert", "time", "plot"),
]
SIX = "color_crop_cutout_flip_scale_rotate"
FIVE = SIX.replace("flip_", "")
MIRRORED = ("mnist", "svhn")  # where a mirrored image is of another class

PROTOCOL = (
    *("--architectures", commandline.NETWORK),
    *settable("protocol.epochs", 7),
    *settable("protocol.networks", 2),
)

# spec/matching.md 5.5. The columns: ce_weight, batch_real, net_generate_interval,
# model_train_steps (IDM's, BACON's), eval_interval.
PUBLISHED = [
    ("cifar10", 1, 0.5, 5000, 5, (10, 10), 100),
    ("cifar10", 10, 0.5, 256, 30, (10, 10), 100),
    ("cifar10", 50, 0.1, 256, 30, (10, 10), 500),
    ("cifar100", 1, 0.5, 5000, 5, (10, 10), 100),
    ("cifar100", 10, 0.1, 256, 30, (50, 50), 100),
    ("cifar100", 50, 0.1, 256, 30, (10, 50), 500),
    ("tiny_imagenet", 1, 0.5, 256, 30, (10, 10), 100),
    ("tiny_imagenet", 10, 0.5, 256, 30, (10, 50), 500),
    ("tiny_imagenet", 50, 0.8, 256, 30, (50, 50), 1000),
    ("svhn", 1, 0.5, 5000, 5, (10, 10), 100),
    ("svhn", 10, 0.5, 256, 30, (10, 10), 100),
    ("svhn", 50, 0.1, 256, 30, (10, 10), 500),
    ("mnist", 1, 0.5, 5000, 5, (10, 10), 100),
    ("mnist", 10, 0.5, 256, 30, (10, 10), 100),
    ("mnist", 50, 0.5, 256, 30, (10, 10), 100),
    ("fashion_mnist", 1, 0.5, 5000, 5, (10, 10), 100),
    ("fashion_mnist", 10, 0.5, 256, 30, (10, 10), 100),
    ("fashion_mnist", 50, 0.5, 256, 30, (10, 10), 100),
]


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> Path:
    """A folder with records of a small grid."""
    output = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCBENCH_CACHE", str(digits_cache))
        grid = ("run", "--methods", "dm,random", "--ipc", 1, "--seeds", "0,1")
        result = invoke(*grid, *tiny(), "--output", output)
        assert result.exit_code == 0, result.output
    return output


def settings(method: str, dataset: str, ipc: int, **request: Any) -> dict[str, Any]:
    """The hyper-parameters in force."""
    cell = Cell(method, dataset, ipc)
    return dict(planning.resolve(cell, Request(**request)).recipe.settings)


@pytest.mark.parametrize("method", ["idm", "bacon", "bacon+idm"])
@pytest.mark.parametrize(
    ("dataset", "ipc", "weight", "batch", "interval", "train", "reset"),
    PUBLISHED,
    ids=[f"{row[0]}-{row[1]}" for row in PUBLISHED],
)
def test_published_settings(
    method: str,
    dataset: str,
    ipc: int,
    weight: float,
    batch: int,
    interval: int,
    train: tuple[int, int],
    reset: int,
) -> None:
    expected = {
        "steps": 20_000,
        "image_lr": 0.2,
        "image_momentum": 0.5,
        "batch_real": batch,
        "init": "real",
        "augmentation": SIX,
        "align_corners": False,
        "architecture": "ConvNet",
        "precision": "tf32",
        "partition": 2,
        "ce_weight": weight,
        "accuracy_unit": "percent",
        "meter_reset_interval": reset,
        "queue_size": 100,
        "queue_start": 3,
        "queue_interval": interval,
        "queue_trained": 2,
        "queue_train_steps": train[method != "idm"],
        "queue_batch": 256,
        "network_lr": 0.01,
        "network_momentum": 0.9,
        "network_weight_decay": 5e-4,
        "update": "closed",
    }
    if method != "idm":
        expected |= {
            **{"form": "released", "clip": "released", "tv_weight": 0.8},
            **{"clip_model": "ViT-B-32", "clip_weights": ""},
        }
    assert settings(method, dataset, ipc) == expected


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_published_settings_of_dm(dataset: str, ipc: int) -> None:
    deep = dataset == "tiny_imagenet"
    expected = {
        "steps": 20_000,
        "image_lr": 1.0,
        "image_momentum": 0.5,
        "batch_real": 256,
        "init": "real",
        "augmentation": FIVE if dataset in MIRRORED else SIX,
        "align_corners": False,
        "architecture": "ConvNetD4" if deep else "ConvNet",
        "precision": "tf32",
    }
    assert settings("dm", dataset, ipc) == expected
    both = settings("bacon+dm", dataset, ipc)
    assert {key: both[key] for key in expected} == expected
    assert both["tv_weight"] == 0.8


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_the_published_protocol(dataset: str) -> None:
    protocol = protocols.protocol(Cell("dm", dataset, 10), Request())
    assert (protocol.networks, protocol.epochs, protocol.batch_size) == (5, 1001, 256)
    assert (protocol.learning_rate, protocol.momentum) == (0.01, 0.9)
    strategy = FIVE if dataset in MIRRORED else SIX
    assert (protocol.weight_decay, protocol.augmentation) == (5e-4, strategy)
    assert (protocol.selection, protocol.evaluate_every) == ("final", 0)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert invoke(*command, "-h").output == result.output
    if not command:
        assert all(f"\n  {name} " in result.output for name in COMMANDS)
    if command and command[0] in ("run", "evaluate", "table"):
        examples = result.output.partition("Examples:")[2]
        assert examples.count(f"dcbench {command[0]}") >= 2
        assert "\n    dcbench" in examples  # a line each, not one paragraph


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command by what is typed, groups and those in them."""
    for name, each in group.commands.items():
        yield " ".join((*path, name)), each
        if isinstance(each, click.Group):
            yield from commands(each, *path, name)


@pytest.mark.parametrize(("typed", "command"), list(commands(main)))
def test_every_command_has_an_example_and_every_option_a_help_text(
    typed: str, command: click.Command
) -> None:
    assert "Example" in (command.epilog or "")
    assert f"  dcbench {typed}" in f"  {command.epilog}".replace("Example: ", "  ")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name


@pytest.mark.parametrize("typed", ["run", "evaluate", "show", "continual", "nas"])
def test_help_says_where_names_are_listed(typed: str) -> None:
    text = " ".join(invoke(typed, "--help").output.split())
    assert "dcbench list protocols" in text
    assert "dcbench list augmentations" in text


@pytest.mark.parametrize("command", ["get", "verify"])
def test_help_of_data(command: str) -> None:
    result = invoke("data", command, "--help")
    assert result.exit_code == 0
    assert f"Example: dcbench data {command}" in result.output


@pytest.mark.parametrize(
    "line",
    [
        *("--help", "run -h"),
        *(f"list {what}" for what in ("methods", "datasets", "protocols", "formats")),
    ],
)
def test_what_answers_at_once_does_not_import_torch(line: str) -> None:
    code = (
        "import sys\nfrom dcbench_bacon.cli.main import main\n"
        f"try: main({line.split()!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'pandas', 'kornia', 'sklearn', 'torchvision', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_list() -> None:
    lines = invoke("list", "methods").output.splitlines()
    assert [line.split()[0] for line in lines] == METHODS.names()
    assert all(len(line.split()) > 3 for line in lines)
    lines = invoke("list", "datasets").output.splitlines()
    assert [line.split()[0] for line in lines] == DATASETS.names()
    networks = invoke("list", "architectures").output.splitlines()
    assert {"ConvNet", "MLP", "LeNet", "AlexNet", "VGG11", "ResNet18"} <= set(networks)
    protocols = invoke("list", "protocols").output.splitlines()
    assert protocols[0].split()[0] == "dc"


def test_list_augmentations() -> None:
    lines = invoke("list", "augmentations").output.splitlines()
    told = {line.split("  ", 1)[0]: line for line in lines if line}
    for name in ("none", *OPERATIONS, *POLICIES):
        assert len(told[name].split()) > 2, name
    for name, policy in POLICIES.items():
        assert policy.title in told[name]
        assert told[name].endswith(f"({policy.source})")


def test_version() -> None:
    assert invoke("--version").output.startswith("dcbench, version 0.")


def test_check_finds_no_problem() -> None:
    result = invoke("check")
    assert result.exit_code == 0, result.output
    assert result.output == f"{len(METHODS.names())} recipes, 0 problems\n"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[nowhere]\nsteps = 3", "nowhere"),
        ("[cifar10]\nstep = 3", "step"),
        ("[cifar10.10]\nsteps = 'many'", "steps"),
        ("[cifar10.ten]\nsteps = 3", "ten"),
        ("[presets.demo.cifar10]\nimage_lr = -1", "image_lr"),
        ("[defaults", "dm.toml"),
    ],
)
def test_check_names_the_problem(
    line: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dm.toml").write_text(line)
    source = METHODS.source
    monkeypatch.setattr(
        METHODS,
        "source",
        lambda name: tmp_path / "dm.py" if name == "dm" else source(name),
    )
    result = invoke("check")
    assert result.exit_code == 1
    messages = result.stderr.splitlines()
    # A file that cannot be read is also missed by the recipes that lie over it.
    (message,) = [line for line in messages if line.startswith("dm: ")]
    assert problem in message
    count = "1 problem" if len(messages) == 1 else f"{len(messages)} problems"
    assert result.stdout.endswith(f"recipes, {count}\n")


@pytest.mark.parametrize(
    ("arguments", "key", "value", "where"),
    [
        ("bacon cifar100 50", "queue_train_steps", "50", "bacon.toml [cifar100.50]"),
        ("bacon cifar100 50", "ce_weight", "0.1", "idm.toml [cifar100.50]"),
        ("bacon mnist 1", "batch_real", "5000", "idm.toml [*.1]"),
        ("bacon mnist 1", "tv_weight", "0.8", "bacon.toml [defaults]"),
        ("idm cifar100 50", "queue_train_steps", "10", "idm.toml [defaults]"),
        ("dm tiny_imagenet 10", "architecture", '"ConvNetD4"', "dm.toml [tiny_imag"),
        ("dm mnist 1", "protocol.epochs", "1001", "protocols.toml dc [defaults]"),
        ("bacon mnist 1", "clip_model", '"ViT-B-32"', "default of the code"),
        ("idm svhn 50 --set ce_weight=0.3", "ce_weight", "0.3", "--set"),
        ("dm mnist 1 --selection best_val", "protocol.selection", '"best_val"', "--s"),
        ("dm mnist 1 --set protocol.networks=2", "protocol.networks", "2", "--set"),
        ("BACON-IDM mnist 1".lower(), "form", '"released"', "bacon.toml [defaults]"),
    ],
)
def test_show(arguments: str, key: str, value: str, where: str) -> None:
    result = invoke("show", *arguments.split())
    assert result.exit_code == 0, result.output
    lines = {
        line.split()[0]: line.split(maxsplit=2)[1:]
        for line in result.output.splitlines()[1:]
    }
    assert lines[key][0] == value
    assert lines[key][1].startswith(where)


def test_show_gives_the_source() -> None:
    output = invoke("show", "bacon", "cifar100", 50).output
    (line,) = (x for x in output.splitlines() if x.split()[0] == "queue_train_steps")
    assert "BACON command.txt, CIFAR100 ipc 50; IDM has 10" in line


@pytest.mark.parametrize("preset", ["demo", "quick"])
@pytest.mark.parametrize("method", ["dm", "idm", "bacon"])
def test_reduced_presets_are_smaller_and_say_so(method: str, preset: Any) -> None:
    assert settings(method, "digits", 10, preset=preset)["steps"] < 20_000
    request = Request(preset=preset)
    resolved = planning.resolve(Cell(method, "digits", 10), request)
    for key in ("steps", "protocol.epochs", "protocol.architectures"):
        assert f"presets.{preset}" in resolved.origins[key].table
        assert "reduced" in resolved.origins[key].source
    assert resolved.recipe.protocol.epochs < 1000


def test_all_data_sets_are_the_papers_six(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Grid] = []

    def plan(grid: Grid, root: Path | None = None) -> list[planning.CellJob]:
        seen.append(grid)
        raise KeyboardInterrupt

    monkeypatch.setattr("dcbench_bacon.cli.cells.sweeps.plan", plan)
    assert invoke("run", "--methods", "all", "--datasets", "all").exit_code == 130
    assert invoke("run").exit_code == 130
    assert seen[0].datasets == PAPER_DATASETS
    assert len(PAPER_DATASETS) == 6
    assert seen[0].methods == tuple(METHODS.names())
    assert (seen[0].ipc, seen[0].request.preset) == ((1, 10, 50), "paper")
    assert seen[1].datasets == ("digits",)
    assert seen[1].methods == ("random", "dm", "idm", "bacon")
    assert (seen[1].ipc, seen[1].request.preset) == ((1, 10), "demo")


def test_what_is_asked_for_is_recorded(results: Path) -> None:
    records = found(results)
    assert [str(record.cell) for record in records] == [
        f"digits-ipc1-{method}-s{seed}"
        for method in ("dm", "random")
        for seed in (0, 1)
    ]
    for record in records:
        asked = record.recipe
        assert asked.overrides.get("steps") == {"dm": "6"}.get(record.cell.method)
        assert asked.overrides["protocol.epochs"] == "7"
        assert (asked.protocol.epochs, asked.protocol.networks) == (7, 2)
        assert asked.protocol.architectures == (commandline.NETWORK,)
        assert asked.preset == "demo"
        assert [entry.trial for entry in record.evaluations] == [0, 1]
        assert [entry.epoch for entry in record.evaluations] == [6, 6]
        assert record.environment.torch
        assert record.synthetic_bytes == 10 * (64 + 10) * 4
        assert len(record.evaluation) == 2
        if record.cell.method == "dm":
            assert asked.settings["steps"] == 6
            cost = record.distillation["match"]
            assert cost.steps == 6
            assert cost.seconds > 0
            assert {"data", "update"} <= set(cost.phases)


def test_a_run_prints_results_and_table(results: Path) -> None:
    grid = ("run", "--methods", "dm,random", "--ipc", 1, "--seeds", "0,1")
    result = invoke(*grid, *tiny(), "--output", results)
    assert result.exit_code == 0
    assert result.stderr.count("already done") == 4
    layout = "--layout paper --gain-over random"
    again = f"dcbench table {layout} --preset demo --output {results}"
    assert again in result.stderr
    assert "Digits" in result.stdout
    assert "Random" in result.stdout


def test_fresh_runs_again(tmp_path: Path) -> None:
    arguments = ("run", "--methods", "dm", "--ipc", 1, *tiny())
    invoke(*arguments, "--output", tmp_path)
    first = only_record(tmp_path)
    result = invoke(*arguments, "--output", tmp_path, "--fresh")
    assert "already done" not in result.stderr
    assert only_record(tmp_path).synthetic_sha256 == first.synthetic_sha256
    assert only_record(tmp_path).evaluations != first.evaluations  # other seconds


@pytest.mark.parametrize(
    ("format", "begins"),
    [
        ("md", "| "),
        ("csv", ",".join([*SUMMARY, "recipe"])),
        ("latex", "\\"),
        ("html", "<"),
    ],
)
def test_table(results: Path, format: str, begins: str) -> None:
    arguments = ("table", "--output", results, "--preset", "demo", "--format", format)
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert any(line.startswith(begins) for line in result.output.splitlines())
    assert invoke(*arguments).output == result.output
    assert "digits" in result.output.lower()


def test_table_as_csv_holds_what_was_measured(results: Path) -> None:
    output = invoke("table", "--output", results, "--preset", "demo", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(output.stdout)))
    assert [row["method"] for row in rows] == ["random", "dm"]
    values = [
        entry.accuracy * 100
        for record in found(results)
        if record.cell.method == "dm"
        for entry in record.evaluations
    ]
    assert int(rows[1]["n"]) == len(values) == 4
    assert float(rows[1]["accuracy_mean"]) == pytest.approx(sum(values) / 4, abs=0.01)
    assert rows[1]["published_mean"] == ""


@pytest.mark.parametrize("what", ["spread", "timing", "unfinished"])
def test_other_tables(
    results: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ("table", "--output", results, "--preset", "demo", "--what", what)
    result = invoke(*arguments, "--format", "csv")
    assert result.exit_code == 0
    assert ("digits" in result.stdout) == (what != "unfinished")
    assert ("of cells that are done" in caplog.text) == (what == "unfinished")


def test_records_of_the_demo_enter_no_paper_table(
    results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for format in ("md", "csv"):
        caplog.clear()
        result = invoke("table", "--output", results, "--format", format)
        assert result.exit_code == 0
        assert "igits" not in result.stdout
        count = len(found(results))
        assert f"it has {count} of preset demo. Try --preset demo." in caplog.text


def test_a_folder_without_records_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for what in ("accuracy", "nas"):
        caplog.clear()
        assert invoke("table", "--output", tmp_path, "--what", what).exit_code == 0
        assert "it has none. Try another --output." in caplog.text


def test_evaluate_a_saved_set(results: Path) -> None:
    record = found(results)[0]
    path = next((results / "synthetic").glob(f"{record.cell}-*"))
    result = invoke("evaluate", path, "--preset", "demo", *PROTOCOL)
    assert result.exit_code == 0, result.output
    name, network, mean, *_ = result.stdout.split()
    assert (name, network) == (str(path), commandline.NETWORK)
    expected = [entry.accuracy * 100 for entry in record.evaluations]
    assert float(mean) == pytest.approx(sum(expected) / 2, abs=0.01)
    assert "(n=2)" in result.stdout


def test_evaluate_names_the_wrong_data_set(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcbench_bacon.data import loading
    from dcbench_bacon.data.dataset import Dataset

    path = next((results / "synthetic").glob("*dm-s0*"))
    load = loading.load

    def larger(*arguments: Any, **named: Any) -> Dataset:
        loaded = load(*arguments, **named)
        split = loaded.train.changed(lambda pixels: pixels.repeat(1, 1, 2, 2))
        info = msgspec.structs.replace(loaded.info, size=16)
        return Dataset(info, split, split, loaded.fingerprint)

    monkeypatch.setattr(loading, "load", larger)
    result = invoke("evaluate", path, *PROTOCOL)
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert "1x8x8" in result.stderr
    assert "1x16x16" in result.stderr
    assert "--dataset" in result.stderr
    assert "--dataset" in result.stderr


def test_evaluate_says_which_file_is_no_set(tmp_path: Path) -> None:
    path = tmp_path / "res.pt"
    path.write_bytes(b"\x80\x04pickle")
    for missing in (path, tmp_path / "nothing.safetensors"):
        result = invoke("evaluate", missing, *PROTOCOL)
        assert result.exit_code == 1
        assert str(missing) in result.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("note.txt", "no synthetic set; `dcbench list formats`"),
        ("picture.png", "one folder per class"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "quality", "convert"])
def test_a_file_that_is_no_set(
    name: str,
    words: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # for ``results/failures``
    path = tmp_path / name
    path.write_bytes(b"\x89PNG\r\n" if name.endswith("png") else b"some notes\n")
    more = ("--to", "npz", "--output", tmp_path / "x.npz")
    result = invoke(command, path, *(more if command == "convert" else ()))
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert words in result.stderr


def test_a_mistyped_protocol() -> None:
    result = invoke("show", "dm", "cifar10", 1, "--protocol", "dcc")
    assert result.exit_code == 2
    assert "Did you mean 'dc'?" in result.stderr


def test_data_verify(tmp_path: Path) -> None:
    result = invoke("data", "verify", "digits")
    assert result.exit_code == 0
    assert "ok  digits" in result.output
    assert "(1442, 355) images" in result.output
    bad = invoke("data", "verify", "digits,mnist", "--data-root", tmp_path)
    assert bad.exit_code == 1
    assert "ok  digits" in bad.output
    assert "absent mnist" in bad.output
    assert "dcbench data get mnist" in bad.output


def test_a_mistyped_command_is_guessed() -> None:
    result = invoke("tabel")
    assert result.exit_code == 2
    assert "no such command 'tabel'. Did you mean 'table'?" in result.stderr
    assert "show" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "run --methods dm --ipc x",
        "run --seeds -1",
        "run --device tpu0",
        "run --device meta",
        "run --device cuda:99",
        "run --set steps",
        "run --set =3",
        "run --protocol nobody",
        "run --preset huge",
        "run --time-budget 0",
        "run --methods ,",
        "run surplus",
        "table --format pdf",
        "table --source nobody",
        "show dm mnist 0",
        "show dm folder 1",
        "show dm mnist:path 1",
        "evaluate",
        "list",
        "data get",
        "--nonsense",
    ],
)
def test_wrong_usage_is_status_2(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*line.split())
    assert result.exit_code == 2, result.output
    assert result.stderr
    assert not list(tmp_path.iterdir()), "nothing may have run"


def test_an_override_that_fits_no_type(tmp_path: Path) -> None:
    arguments = ("run", "--methods", "dm", *tiny(), "--output", tmp_path / "results")
    result = invoke(*arguments, *settable("steps", "many"))
    assert result.exit_code == 2
    assert "steps" in result.stderr
    assert not (tmp_path / "results").exists()


def test_references_are_added_on_request(tmp_path: Path) -> None:
    fixed = ("run", "--methods", "dm", "--ipc", 1, "--output", tmp_path)
    done = invoke(*fixed, *tiny(steps=2, epochs=1), "--references")
    assert done.exit_code == 0, done.output
    cells = {record.cell for record in found(tmp_path)}
    names = {("dm", 1), ("random", 1), ("whole", 0)}
    assert {(cell.method, cell.ipc) for cell in cells} == names
    shown = invoke(
        "table", "--what", "scores", "--preset", "demo", "--output", tmp_path
    )
    head, row = (x for x in shown.stdout.splitlines() if "| DM" in x or " HLR |" in x)
    assert "—" not in row  # columns without a number are left out:
    assert not {"Between sets", "ARS"} & {word.strip() for word in head.split("|")}


def test_a_key_of_one_method_marks_no_other(tmp_path: Path) -> None:
    """``random`` takes no steps: its record is that of a plain run."""
    fixed = ("run", "--methods", "random,dm", "--ipc", 1, "--output", tmp_path)
    assert invoke(*fixed, *tiny(steps=2, epochs=1)).exit_code == 0
    marks = {
        each.cell.method: sorted(each.recipe.overrides) for each in found(tmp_path)
    }
    judged = ["protocol.epochs", "protocol.networks"]
    assert marks["random"] == judged
    assert marks["dm"] == ["architecture", "batch_real", *judged, "steps"]


def test_a_sweep_makes_a_cell_per_value_and_a_figure_of_them(tmp_path: Path) -> None:
    grid = ("run", "--methods", "dm,random", "--ipc", 1, "--output", tmp_path)
    result = invoke(*grid, *tiny(networks=1), "--sweep", "image_lr=0.5,1,0.5")
    assert result.exit_code == 0
    records = found(tmp_path)
    values = [record.recipe.settings.get("image_lr") for record in records]
    assert sorted(map(str, values)) == ["0.5", "1.0", "None"]  # random has no such key
    assert "image_lr=0.5" in result.stdout
    drawn = invoke("plot", "ablation", "--preset", "demo", "--output", tmp_path)
    (path,) = drawn.stdout.split()
    assert Path(path).name.startswith("ablation-image_lr-digits")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sweep", "image_lr"), "key=value,value"),
        (("--sweep", "image_lr=1", "--sweep", "image_lr=2"), "in one --sweep"),
        (("--sweep", "image_lr=1", "--set", "image_lr=2"), "leave out --set"),
        (("--sweep", "image_rl=1"), "image_lr"),
    ],
)
def test_a_wrong_sweep_is_told(options: tuple[str, ...], message: str) -> None:
    result = invoke("run", "--methods", "dm", "--ipc", 1, *tiny(), *options)
    assert result.exit_code == 2
    assert message in result.output


def test_how_files_are_read_is_stated_while_a_command_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dcbench_bacon.data import loading
    from dcbench_bacon.data.streaming import options

    monkeypatch.setenv("DCBENCH_WORKERS", "3")
    seen = []

    def spied(*_: Any) -> None:
        seen.append((options.stream_above(), options.bad_files(), options.workers()))

    monkeypatch.setattr(loading, "get", spied)
    words = ["--stream-above", "2.5GB", "--bad-files", "skip", "--decode-workers", "1"]
    assert invoke("data", "get", "imagenette", *words).exit_code == 0
    assert invoke("data", "get", "imagenette").exit_code == 0
    assert seen == [(2_500_000_000, "skip", 1), (4_000_000_000, "stop", 3)]
    result = invoke("data", "get", "imagenette", "--stream-above", "much")
    assert result.exit_code == 2
    assert "such as 4GB" in result.stderr
