"""Shape checks for the whole test run, and the fixtures several files use."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from dcbench_bacon.training.on_synthetic import SetTrainer

# Before any test imports the package: jaxtyping then checks every annotated shape. Not
# where time is measured, and code with checks in it cannot be compiled. What has no
# tensor in its signatures is left to mypy: each checked call costs about 50 us.
if "--benchmark-only" not in sys.argv:
    _tensors = (
        *("augmentation", "contract", "data", "datasets", "distillation"),
        *("evaluation", "exchange", "methods", "networks", "training"),
    )
    _hook = install_import_hook(
        [f"dcbench_bacon.{name}" for name in _tensors], "beartype.beartype"
    )


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh, seeded random stream."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(
    params=[
        "cpu",
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device this machine has."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded sets for the whole test run; nothing of the user's."""
    return tmp_path_factory.mktemp("decoded")


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is kept between runs; nothing of the user's."""
    for kept in ("experts", "whitening"):
        os.environ[f"DCBENCH_{kept.upper()}"] = str(tmp_path_factory.mktemp(kept))


@pytest.fixture(scope="session", autouse=True)
def committed_results() -> Iterator[None]:
    """The committed results, to which no test may add a file."""
    folder = Path(__file__).resolve().parents[1] / "results"
    before = set(folder.rglob("*"))
    yield
    assert set(folder.rglob("*")) == before


@pytest.fixture(autouse=True)
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``dcbench evaluate`` leaves records by default; not this checkout."""
    monkeypatch.setenv("DCBENCH_EVALUATE_OUTPUT", str(tmp_path / "evaluated"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: a proxy that refuses every connection."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Installs modules of a third party's package for one test.

    What it returns takes the group of entry points, and the module of each entry.
    """
    from dcbench_bacon.plugins import DATASETS, METHODS

    folder = tmp_path / "third party"
    known = set(sys.modules)

    def installed(group: str, **entries: str) -> None:
        about = folder / "third_party-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Name: third-party\nVersion: 1.0\n")
        lines = [f"{name} = {module}\n" for name, module in entries.items()]
        (about / "entry_points.txt").write_text(f"[{group}]\n{''.join(lines)}")
        monkeypatch.syspath_prepend(folder)
        METHODS.refresh()
        DATASETS.refresh()

    yield installed
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    METHODS.refresh()
    DATASETS.refresh()


@pytest.fixture
def evaluate_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Takes what evaluates the sets of cells in the place of ``evaluate``."""
    from dcbench_bacon.running import cell

    return partial(monkeypatch.setattr, cell, "evaluate")


@pytest.fixture
def train_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Takes what trains a network on a set for a pass, in the trainer's place."""
    from dcbench_bacon.training.on_synthetic import SetTrainer

    return partial(monkeypatch.setattr, SetTrainer, "epoch")


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> "list[SetTrainer]":
    """Every trainer that ``evaluate`` makes, in order."""
    from dcbench_bacon.evaluation import evaluate
    from dcbench_bacon.training.on_synthetic import SetTrainer

    made: list[SetTrainer] = []

    class Kept(SetTrainer):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(evaluate, "SetTrainer", Kept)
    return made


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and fixtures, which a user need not have."""
    folder = Path(os.environ.get("DCBENCH_SHARED", "../shared"))
    if not folder.is_dir():
        pytest.skip(f"real data not found: {folder.resolve()} is not a folder")
    return folder


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder with what the published code computes."""
    folder = Path(os.environ.get("DCBENCH_PARITY", "../shared/fixtures"))
    if not (folder / "parity.safetensors").is_file():
        pytest.skip(f"parity.safetensors not found in {folder.resolve()}")
    return folder


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model in open_clip's registry, for one test."""
    import open_clip
    from clip_models import TEXT, VISION

    factory = open_clip.factory
    monkeypatch.setattr(
        factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS)
    )
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    name = "tiny-clip-of-a-test"
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(path)
    return name


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights for the registered model."""
    from clip_models import tiny_clip

    path = tmp_path / "tiny.pt"
    torch.save(tiny_clip().state_dict(), path)
    return path


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Skips benchmarks but under ``--benchmark-only``, GPU tests without a GPU."""
    measured = config.getoption("benchmark_only")
    benchmark = pytest.mark.skip(reason="run pytest --benchmark-only")
    gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    for item in items:
        if not measured and "benchmark" in getattr(item, "fixturenames", ()):
            item.add_marker(benchmark)
        if item.get_closest_marker("gpu"):
            item.add_marker(gpu)
