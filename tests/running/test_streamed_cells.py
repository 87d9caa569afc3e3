"""Methods on image files that are decoded when they are needed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dataset_files import write_photographs
from support import cell_run
from support import method as create

from dcbench_bacon import contract
from dcbench_bacon.contract import Method
from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.splits import MappedSplit
from dcbench_bacon.data.streaming.streamed_split import StreamedSplit
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.plugins import DATASETS, METHODS
from dcbench_bacon.recipes.protocols import Request
from dcbench_bacon.running.grids.grid import run
from dcbench_bacon.running.plans.planning import resolve
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.store import Store

SMALL = {
    "steps": "2",
    "batch_real": "3",
    "init": "real",
    "architecture": "ConvNetD1W8",
    "queue_size": "2",
    "queue_train_steps": "1",
    "queue_batch": "4",
    "network_epochs": "1",
    "observers": '["ConvNetD1W8BN"]',
    "observer_passes": "1",
    "observer_batch": "16",
    "candidates": "4",
    "experts": "1",
    "expert_passes": "2",
    "expert_epochs": "1",
    "max_start_epoch": "1",
    "student_steps": "2",
}
SETS = [
    name for name in METHODS.names() if issubclass(contract.method_class(name), Method)
]
NAMED = ["dm", "random", "herding", "rded", "sre2l"]
QUICK = ("random", "dm")  # the others take more than a second


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    classes = DATASETS.module("imagenette").CLASSES
    write_photographs(folder / "imagenette2", classes, train=4, val=1)
    return folder


@pytest.fixture
def streamed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "0")
    monkeypatch.setenv("DCBENCH_WORKERS", "0")


def request_for(method: str) -> Request:
    known = contract.method_class(method).Settings.__struct_fields__
    settings = {key: value for key, value in SMALL.items() if key in known}
    protocol = {"protocol.epochs": "1", "protocol.networks": "1"}
    return Request(
        preset="demo",
        overrides={**settings, **protocol},
        architectures=("ConvNetD1W8",),
    )


def sha256_of_content(split: StreamedSplit, start: str = "") -> str:
    return split.resident().sha256(start)


def distil(method: str, source: Dataset, folder: Path) -> SyntheticSet:
    cell = contract.cell_of(method, source.info.name, 1)
    settings = resolve(cell, request_for(method)).recipe.settings
    return create(method, settings).distill(
        cell_run(source, folder, method=method, ipc=1)
    )


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in SETS
    ],
)
def test_a_method_makes_the_same_set_of_every_kind_of_split(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path / "experts"))
    decoded = loading.load("imagenette@32", root)
    monkeypatch.setenv("DCBENCH_STREAM_ABOVE", "0")
    monkeypatch.setenv("DCBENCH_WORKERS", "0")
    loaded = loading.load("imagenette@32", root)
    assert isinstance(loaded.train, StreamedSplit)
    # What identifies images seeds the training of networks that cells share.
    monkeypatch.setattr(StreamedSplit, "sha256", sha256_of_content)
    mapped = MappedSplit(decoded.train.images, decoded.train.labels, decoded.info)
    made = [
        distil(method, source, tmp_path / str(number))
        for number, source in enumerate(
            (decoded, loaded, replace(decoded, train=mapped))
        )
    ]
    for other in made[1:]:
        assert torch.equal(made[0].images, other.images)
        assert torch.equal(made[0].labels, other.labels)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("dm", 64),
        *(
            pytest.param(name, size, marks=pytest.mark.slow)
            for name in (*NAMED, "whole")
            for size in (64, 128)
            if (name, size) != ("dm", 64)
        ),
    ],
)
def test_a_cell_runs_on_streamed_photographs(
    root: Path, tmp_path: Path, method: str, size: int
) -> None:
    grid = Grid(
        methods=(method,),
        datasets=(f"imagenette@{size}",),
        ipc=(1,),
        seeds=(0,),
        request=request_for(method),
    )
    context = RunConfig(torch.device("cpu"), data_root=root).here()
    ((_, outcome, record),) = run(plan(grid, root), Store(tmp_path), context)
    assert outcome == "done", record.error
    assert record.cell.dataset == f"imagenette@{size}"
    assert record.identified_by == "sizes and times"
    assert record.dataset_sha256 == loading.known_fingerprint(
        f"imagenette@{size}", root
    )
    assert len(record.evaluations) == 1
