"""What every method and every data set must do, whoever wrote it."""

import ast
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import torch
from records import record
from support import case, dataset
from support import method as create

import dcbench_bacon.datasets
import dcbench_bacon.methods
from dcbench_bacon import contract, store
from dcbench_bacon.cli.arguments.options import PAPER_DATASETS
from dcbench_bacon.contract import Method, Settings
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import RecordError
from dcbench_bacon.field_types import Preset
from dcbench_bacon.plugins import DATASETS, METHODS, Registry, canonical
from dcbench_bacon.recipes import digests, protocols, toml_tables
from dcbench_bacon.running import saved_sets
from dcbench_bacon.running.plans import planning
from dcbench_bacon.running.run import CellRun, RunConfig
from dcbench_bacon.runtime.disk import files
from dcbench_bacon.schema import Cell, DatasetInfo

CPU = torch.device("cpu")
SMALL = {
    "steps": "2",
    "batch_real": "8",
    "init": "real",  # two steps from noise do not show a class
    "architecture": "ConvNetD1W8",
    "queue_size": "3",
    "queue_train_steps": "1",
    "queue_batch": "8",
    "network_epochs": "1",
    "observers": '["ConvNetD1W8BN"]',
    "observer_passes": "1",
}
IPC = 2
FIXED = [name for name in DATASETS.names() if hasattr(DATASETS.module(name), "INFO")]

SETS = [
    name
    for name in METHODS.names()
    if issubclass(contract.method_class(name), Method)  # a reference makes no set
]
all_sets = pytest.mark.parametrize("method", SETS)
all_methods = pytest.mark.parametrize("method", METHODS.names())
all_datasets = pytest.mark.parametrize("name", DATASETS.names())


def settings(method: str) -> dict[str, Any]:
    """A method's hyper-parameters, made small."""
    known = contract.method_class(method).Settings.__struct_fields__
    overrides = {key: value for key, value in SMALL.items() if key in known}
    request = protocols.Request(preset="demo", overrides=overrides)
    cell = Cell(method, "random-images", IPC)
    return dict(planning.resolve(cell, request).recipe.settings)


def distil(method: str, source: Dataset, folder: Path, seed: int = 0) -> SyntheticSet:
    """Two steps of a method."""
    cell = Cell(method, "random-images", IPC, seed)
    run = CellRun(cell, source, RunConfig(CPU).here(), folder)
    return create(method, settings(method)).distill(run)


def coloured(classes: int, channels: int) -> Dataset:
    """Images whose brightness tells their class."""
    source = dataset(classes=classes, channels=channels)
    images = source.train.images // 8
    images += (source.train.labels * (200 // classes)).to(torch.uint8).view(-1, 1, 1, 1)
    split = source.train.changed(lambda _: images)
    return Dataset(source.info, split, split, source.fingerprint)


@all_sets
@pytest.mark.parametrize(("classes", "channels"), [(3, 1), (4, 3)])
def test_a_method_makes_a_valid_set(
    method: str, classes: int, channels: int, tmp_path: Path
) -> None:
    source = coloured(classes, channels)
    before = source.train.images.clone()
    made = distil(method, source, tmp_path / "a")
    synthetic_file.check(made)
    assert made.images.shape == (classes * IPC, channels, 8, 8)
    assert made.labels.shape == (classes * IPC, classes)
    assert not made.images.requires_grad
    assert torch.equal(source.train.images, before), "the real images were changed"
    assert torch.equal(
        made.labels.argmax(1), torch.arange(classes).repeat_interleave(IPC)
    )
    brightness = made.images.mean((1, 2, 3)).view(classes, IPC).mean(1)
    assert (brightness.diff() > 0).all(), "the images are not in class order"
    decoded = made.decode()
    assert len(decoded.images) == len(made.images) * made.partition**2


@all_sets
def test_a_seed_decides_the_bits(method: str, tmp_path: Path) -> None:
    source = dataset()
    torch.manual_seed(1)
    first = distil(method, source, tmp_path / "a")
    torch.manual_seed(2)  # the global stream is of no account
    state = torch.get_rng_state()
    assert torch.equal(distil(method, source, tmp_path / "b").images, first.images)
    assert torch.equal(torch.get_rng_state(), state)
    other = distil(method, source, tmp_path / "c", seed=1)
    assert not torch.equal(other.images, first.images)


@all_sets
def test_a_method_resumes(method: str, tmp_path: Path) -> None:
    """What a finished stage left is found again, without a step."""
    source = dataset()
    first = distil(method, source, tmp_path)
    assert torch.equal(distil(method, source, tmp_path).images, first.images)


@pytest.mark.parametrize(
    "method", [name for name in METHODS.names() if "steps" in settings(name)]
)
def test_a_step_changes_the_images(method: str, tmp_path: Path) -> None:
    cell = Cell(method, "random-images", IPC)
    sets = []
    for steps in (1, 2):
        run = CellRun(cell, dataset(), RunConfig(CPU).here(), tmp_path / f"{steps}")
        made = create(method, {**settings(method), "steps": steps})
        sets.append(made.distill(run))
    assert not torch.equal(sets[0].images, sets[1].images)


@all_methods
def test_every_value_in_force_has_an_origin(method: str) -> None:
    settings = contract.method_class(method).Settings
    fields = set(settings.__struct_fields__) - set(settings.ADDED)
    cells = itertools.product(PAPER_DATASETS, (1, 10, 50), get_args(Preset))
    for name, ipc, preset in cells:
        with case(name, ipc, preset):
            request = protocols.Request(preset=preset)
            resolved = planning.resolve(Cell(method, name, ipc), request)
            assert set(resolved.recipe.settings) == fields
            assert resolved.recipe.preset == preset
            for key in fields:
                origin = resolved.origins[key]
                assert origin.source or origin.table == "default of the code", key
            sources = " ".join(origin.source for origin in resolved.origins.values())
            assert preset != "paper" or "reduced" not in sources


@all_methods
def test_a_record_of_a_method_can_be_read_again(method: str, tmp_path: Path) -> None:
    """Also where a hyper-parameter is a list, as the observers of SRe2L are."""
    cell = Cell(method, "digits", 1)
    recipe = planning.resolve(cell, protocols.Request(preset="demo")).recipe
    digest = digests.digest(recipe)
    results = store.Store(tmp_path)
    written = record(cell, (0.5,))
    results.write(msgspec.structs.replace(written, recipe=recipe, digest=digest))
    broken: list[RecordError] = []
    (found,) = results.records(broken)
    assert not broken
    assert digests.digest(found.recipe) == digest
    made = {"recipe": msgspec.to_builtins(recipe)}
    images, labels = torch.zeros(1, 1, 8, 8), torch.ones(1, 1)
    again = saved_sets.made_by(SyntheticSet(images, labels, 1, made))
    assert again is not None
    assert digests.digest(again) == digest
    contract.method_class(method).create(again.settings)


@all_methods
def test_a_method_is_two_files(method: str) -> None:
    source = METHODS.source(method)
    assert source.stem == canonical(method)
    written = toml_tables.read(source.with_suffix(".toml"))
    assert written["title"]
    assert written["paper"]
    assert issubclass(contract.method_class(method).Settings, Settings)
    assert METHODS.summary(method).endswith(".")


@all_methods
def test_an_unknown_key_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="surplus"):
        contract.method_class(method).create({**settings(method), "surplus": 1})


@all_datasets
def test_a_data_set_has_the_contracts_names(name: str) -> None:
    module = DATASETS.module(name)
    assert DATASETS.summary(name).endswith(".")
    if hasattr(module, "files"):
        assert not hasattr(module, "read")
    else:
        assert callable(module.read)
        assert hasattr(module, "FILES") or callable(module.sources)
    if name not in FIXED:
        assert callable(module.describe)
        assert callable(module.name)
    for path, md5 in getattr(module, "FILES", {}).items():
        assert not Path(path).is_absolute()
        assert len(md5) == 32
        assert int(md5, 16)


@pytest.mark.parametrize("name", FIXED)
def test_the_facts_of_a_data_set(name: str) -> None:
    info = DATASETS.module(name).INFO
    assert isinstance(info, DatasetInfo)
    assert info.name == name
    assert info.title
    assert len(info.class_names) == len(set(info.class_names)) == info.classes
    assert info.channels in (1, 3)
    assert len(info.mean) == len(info.std) == info.channels
    assert all(0 < value < 1 for value in (*info.mean, *info.std))
    train, test = getattr(DATASETS.module(name), "COUNTS", (2, 1))
    assert train > test > 0


@pytest.mark.parametrize(
    ("name", "shape", "classes", "counts", "mean", "std"),
    [
        ("mnist", (1, 28), 10, (60_000, 10_000), (0.1307,), (0.3081,)),
        ("fashion_mnist", (1, 28), 10, (60_000, 10_000), (0.2861,), (0.3530,)),
        (
            *("svhn", (3, 32), 10, (73_257, 26_032)),
            *((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        ),
        (
            *("cifar10", (3, 32), 10, (50_000, 10_000)),
            *((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ),
        (
            *("cifar100", (3, 32), 100, (50_000, 10_000)),
            *((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
        ),
        (
            *("tiny_imagenet", (3, 64), 200, (100_000, 10_000)),
            *((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ),
    ],
)
def test_the_published_facts(
    name: str,
    shape: tuple[int, int],
    classes: int,
    counts: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    module = DATASETS.module(name)
    info = module.INFO
    assert (info.channels, info.size) == shape
    assert info.classes == classes
    assert counts == module.COUNTS
    assert info.mean == mean
    assert info.std == std


def test_the_harness_names_no_method_and_no_data_set() -> None:
    for path in Path(dcbench_bacon.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                assert not name.startswith("dcbench_bacon.methods"), path
                assert not name.startswith("dcbench_bacon.datasets"), path


def test_each_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for package in (dcbench_bacon, dcbench_bacon.methods, dcbench_bacon.datasets):
        for path in Path(package.__path__[0]).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(str(path))
    assert len(places) > 100
    assert not {name: found for name, found in places.items() if len(found) > 1}


TREE = Path(__file__).parent.parent


def committed_records() -> list[Path]:
    """Return the records that git tracks; all of them where this is no checkout.

    Whoever has run the demo in a clone has further records in the same folder.
    """
    words = ["git", "ls-files", "-z", "results"]
    try:
        listed = subprocess.run(words, cwd=TREE, capture_output=True, check=False)
    except FileNotFoundError:  # there is no git
        names = []
    else:
        names = listed.stdout.decode().split("\0")
    paths = [TREE / name for name in names if name] or [*TREE.glob("results/**/*.json")]
    return sorted(path for path in paths if path.match("records/*.json"))


RECORDS = committed_records()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_committed_records_are_those_of_todays_recipes(path: Path) -> None:
    record = store.read(path)
    judged = record.recipe.protocol
    request = protocols.Request(
        preset=record.recipe.preset,
        protocol=judged.name,
        overrides=record.recipe.overrides,
        architectures=judged.architectures,
        regime=None if judged.labels == "own" else judged.labels,
        updates=judged.updates or None,
    )
    if record.cell.method in METHODS.names():  # none of another tool's file
        assert record.recipe == planning.resolve(record.cell, request).recipe
    assert digests.digest(record.recipe) == record.digest
    name = f"{files.slug(record.cell)}-{record.digest}"
    assert path.stem in (name, f"{name}-{str(record.dataset_sha256)[:8]}")
    assert record.status == "done"
    protocol = record.recipe.protocol
    assert len(record.evaluations) == protocol.networks * len(protocol.architectures)


def test_the_demo_has_all_to_do_in_a_clone() -> None:
    """``dcbench run`` there would skip cells whose records were committed."""
    default = [path for path in RECORDS if path.parent == TREE / "results" / "records"]
    assert default
    for path in default:
        assert store.read(path).recipe.preset != "demo", path


# What a plug-in may import of the harness: the API, and a family of methods.
FACE = re.compile(r"dcbench_bacon\.(api|distillation\.\w+)")


def imported(path: Path) -> set[str]:
    """Return the modules of the harness that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            whole = module in ("dcbench_bacon", "dcbench_bacon.distillation")
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= names if whole else {module}
    return {name for name in found if name.split(".")[0] == "dcbench_bacon"}


@pytest.mark.parametrize("registry", [METHODS, DATASETS], ids=lambda each: each.kind)
def test_plug_ins_import_the_api_and_a_family_alone(registry: Registry) -> None:
    sources = [registry.source(name) for name in registry.names()]
    assert len(sources) > 5
    for path in sources:
        for name in imported(path):
            assert FACE.fullmatch(name), f"{path} imports {name}"


def test_the_walk_of_imports_sees_every_way_of_importing(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(
        "from dcbench_bacon import api, store\n"
        "import dcbench_bacon.schema as facts\n"
        "from .mnist import read_pairs\n"
        "def read():\n    from dcbench_bacon.data.loading import locate\n"
    )
    names = {"api", "store", "schema", "data.loading"}
    assert imported(path) == {f"dcbench_bacon.{name}" for name in names}
    assert sum(not FACE.fullmatch(name) for name in imported(path)) == 3
