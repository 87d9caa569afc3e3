"""Stored labels of every pass: written once, replayed bit for bit."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from support import cell_run, dataset
from torch import Tensor

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.recipes import protocols
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.schema import Cell
from dcbench_bacon.training import label_store
from dcbench_bacon.training.label_store import LabelStore, bytes_of, see
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.regimes import label_bytes, labelled
from dcbench_bacon.training.task import Task

NETWORK = "ConvNetD1W8"
REAL = dataset()
AUGMENTATIONS = ("none", "color_crop_flip", "imagenet", "dc_crop_noise")


def task(**changes: Any) -> Task:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(11, 1, 8, 8, generator=generator)
    labels = torch.randn(11, 3, generator=generator).softmax(1)
    common = protocols.protocol(
        Cell("any", "digits", 10), protocols.Request(protocol="common")
    )
    small = {"architectures": (NETWORK,), "teachers": (NETWORK,), "epochs": 3}
    small |= {"networks": 2, "batch_size": 4, "label_store": True}
    rules = msgspec.structs.replace(common, **{**small, **changes})
    teacher = builder.build(
        *(NETWORK,), channels=1, size=8, classes=3, generator=generator
    )
    made = SyntheticSet(images, labels)
    return Task(made, REAL.test, REAL.info, rules, None, (teacher.eval(),))


def run_of(folder: Path) -> CellRun:
    parts = cell_run(REAL, folder)._parts
    return CellRun(*parts, None, folder / "shared")


@pytest.mark.parametrize("mixing", ["none", "cutmix", "mixup"])
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_what_is_stored_comes_back(
    augmentation: str, mixing: str, tmp_path: Path
) -> None:
    """The batch bit for bit, and the teacher's logits of it in half precision."""
    given = task(augmentation=augmentation, mixing=mixing)
    written = LabelStore(run_of(tmp_path), given)
    first = written.batches(0)
    files = {p: p.read_bytes() for p in (tmp_path / "shared").glob("*.safetensors")}
    again = LabelStore(run_of(tmp_path), given)
    replayed = again.batches(0)
    assert sorted(torch.cat([b.positions for b in replayed]).tolist()) == list(
        range(11)
    )
    (teacher,) = given.teachers
    images = given.synthetic.images
    for one, other in zip(first, replayed, strict=True):
        seen, same = (
            see(images, store.augmentation, b.positions, b.draw, b.mix)
            for store, b in ((written, one), (again, other))
        )
        assert torch.equal(seen, same)
        with torch.no_grad():
            told = teacher(seen)
        assert other.logits.dtype == torch.float16
        assert torch.allclose(other.logits.float(), told, rtol=1e-3, atol=1e-4)
    assert all(path.read_bytes() == content for path, content in files.items())
    orders = [[b.positions.tolist() for b in written.batches(i)] for i in (0, 1)]
    assert orders[0] != orders[1]


def test_networks_learn_from_the_store_alone(
    tmp_path: Path, trainers: list[SetTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = task()
    run = run_of(tmp_path)
    first = evaluate(run, labelled(run, given))

    def unasked(teachers: tuple[Network, ...], images: Tensor) -> Tensor:
        raise AssertionError("a teacher was asked again")

    monkeypatch.setattr(label_store, "mean_logits", unasked)
    run = run_of(tmp_path)
    second = evaluate(run, labelled(run, given))
    assert [e.accuracy for e in first] == [e.accuracy for e in second]
    for one, other in zip(trainers[:2], trainers[2:], strict=True):
        assert torch.equal(one.vector, other.vector)
    assert not torch.equal(trainers[0].vector, trainers[1].vector)
    names = {path.name for path in (tmp_path / "shared").glob("*.safetensors")}
    assert len(names) == 3 + 1  # passes and the index


def test_bytes_are_those_of_all_passes(tmp_path: Path) -> None:
    given = task(mixing="none", augmentation="none")
    prepared = labelled(run_of(tmp_path), given)
    assert prepared.kept is not None
    size = bytes_of(prepared.kept(0))
    assert size >= 11 * (3 * 2 + 8)
    assert label_bytes(prepared) == 3 * size


@pytest.mark.parametrize(
    "given", [{"regime": "hard"}, {"regime": "soft"}, {"updates": 10}]
)
def test_what_has_no_passes_of_a_teacher_is_not_stored(given: dict[str, Any]) -> None:
    request = protocols.Request(
        protocol="common", overrides={"protocol.label_store": "true"}, **given
    )
    with pytest.raises(UsageError, match=r"protocol\.label_store=true"):
        protocols.protocol(Cell("any", "digits", 10), request)
