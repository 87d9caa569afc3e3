"""Expert trajectories: how they are trained, kept, read, lost and found again."""

import logging
import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import cell_run, dataset
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.data.dataset import Dataset, normalize
from dcbench_bacon.errors import OutputError, UsageError
from dcbench_bacon.networks import builder
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.runtime.seeds import stable_seed
from dcbench_bacon.training import expert_store
from dcbench_bacon.training.expert_store import SNAPSHOTS, ExpertStore
from dcbench_bacon.training.experts import ExpertTrainer, train_experts
from dcbench_bacon.training.settings import Training

TRAINING = Training(
    architecture="ConvNetD1W8",
    epochs=3,
    learning_rate=0.1,
    momentum=0.5,
    weight_decay=1e-3,
    batch_size=10,
    augmentation="color_crop_cutout_flip_scale_rotate",
    precision="fp32",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of each test's own."""
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path / "experts"))
    return tmp_path / "experts"


def run(folder: Path, *, ipc: int = 2, source: Dataset | None = None) -> CellRun:
    return cell_run(source or dataset(), folder, method="mtt", ipc=ipc)


def snapshots(store: ExpertStore, expert: int) -> Tensor:
    return load_file(store.path(expert))[SNAPSHOTS]


def by_hand(store: ExpertStore, expert: int) -> Tensor:
    """The obvious loop: a network, torch's SGD, a copy after each pass."""
    source = dataset()
    training = store.index.training
    network = builder.build(
        training.architecture,
        channels=1,
        size=8,
        classes=3,
        generator=torch.Generator().manual_seed(stable_seed(store.key, expert, "init")),
    )
    sgd = torch.optim.SGD(
        network.parameters(),
        training.learning_rate,
        training.momentum,
        weight_decay=training.weight_decay,
    )
    augmentation = Augmentation(training.augmentation, (8, 8))
    found = [torch.nn.utils.parameters_to_vector(network.parameters()).detach()]
    for passed in range(training.epochs):
        seed = stable_seed(store.key, expert, passed)
        stream = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(source.train.labels), generator=stream)
        for index in torch.split(order, training.batch_size):
            draw = augmentation.draw(1, stream, samples=len(index))
            images = normalize(source.train.images[index], source.info)
            images = augmentation.apply(images[None], draw)[0]
            sgd.zero_grad()
            loss = F.cross_entropy(network(images), source.train.labels[index])
            torch.autograd.backward(loss)
            sgd.step()
        vector = torch.nn.utils.parameters_to_vector(network.parameters())
        found.append(vector.detach().clone())
    return torch.stack(found)


def test_experts_are_those_of_the_obvious_loop(tmp_path: Path) -> None:
    store = train_experts(run(tmp_path), TRAINING, 2)
    for expert in range(2):
        expected = by_hand(store, expert)
        assert torch.allclose(snapshots(store, expert), expected, atol=1e-5)


@pytest.mark.slow
def test_experts_trained_together_are_those_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train_experts(run(tmp_path / "a"), TRAINING, 5, at_once=1)
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path / "other"))
    stack = run(tmp_path / "b")  # of a group of three and one of two
    joined = train_experts(stack, TRAINING, 5, at_once=3)
    assert stack.timings["experts"].steps == 2 * TRAINING.epochs
    for expert in range(5):
        own, other = snapshots(alone, expert), snapshots(joined, expert)
        assert torch.equal(own[0], other[0])
        assert torch.allclose(own, other, rtol=1e-4, atol=1e-5)


def test_snapshots_are_copies(tmp_path: Path) -> None:
    store = train_experts(run(tmp_path), TRAINING, 2)
    for expert in range(2):
        moves = snapshots(store, expert).diff(dim=0).norm(dim=1)
        assert (moves > 1e-3).all()
    assert not torch.equal(snapshots(store, 0)[0], snapshots(store, 1)[0])


def test_a_pair_is_two_rows_of_the_shard(tmp_path: Path) -> None:
    store = train_experts(run(tmp_path), TRAINING, 1)
    pair = store.pair(0, 1, 3)
    whole = snapshots(store, 0)
    assert torch.equal(pair.start, whole[1])
    assert torch.equal(pair.target, whole[3])
    pair.start.zero_()  # a copy: the file stands
    assert torch.equal(store.pair(0, 1, 3).start, whole[1])


def test_cells_share_experts_and_more_can_be_added(tmp_path: Path) -> None:
    first, second, third = (run(tmp_path / f"{ipc}", ipc=ipc) for ipc in (1, 2, 3))
    store = train_experts(first, TRAINING, 2)
    kept = [store.path(expert).read_bytes() for expert in range(2)]
    assert train_experts(second, TRAINING, 2).folder == store.folder
    assert first.timings["experts"].steps == 2 * TRAINING.epochs
    assert second.timings["experts"].steps == 0
    # What a set costs does not depend on who trained the experts.
    assert second.timings["experts"].seconds == store.origin(2)["seconds"]
    assert first.timings["experts"].seconds >= store.origin(2)["seconds"]
    grown = train_experts(third, TRAINING, 3)
    assert [grown.path(expert).read_bytes() for expert in range(2)] == kept
    assert grown.path(2).exists()
    origin = grown.origin(3)
    assert origin["count"] == 3
    assert origin["seconds"] > 0


def test_other_images_or_another_training_are_another_store(tmp_path: Path) -> None:
    changed = dataset()
    changed.train.images[0, 0, 0, 0] ^= 1
    stores = [
        train_experts(run(tmp_path / "a"), TRAINING, 1),
        train_experts(run(tmp_path / "b", source=changed), TRAINING, 1),
        train_experts(
            run(tmp_path / "c"), msgspec.structs.replace(TRAINING, epochs=2), 1
        ),
    ]
    assert len({store.folder for store in stores}) == 3


def test_the_size_estimate_is_shown_and_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        store = train_experts(run(tmp_path), TRAINING, 2)
    parameters = store.index.parameters
    estimate = expert_store.size_bytes(2, TRAINING.epochs, parameters)
    assert f"2 experts x 4 snapshots x {parameters} parameters x 4 bytes" in caplog.text
    written = sum(store.path(expert).stat().st_size for expert in range(2))
    assert estimate <= written < estimate + 2 * 400  # headers
    assert estimate == store.origin(2)["bytes"]
    # MTT on CIFAR-10: 100 experts of 51 snapshots, about 6.5 GB.
    assert expert_store.size_bytes(100, 50, 320_010) == pytest.approx(6.5e9, rel=0.01)


def test_a_full_disk_is_noticed_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"experts=N"):
        train_experts(run(tmp_path), TRAINING, 2)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "other"])
def test_a_damaged_shard_is_trained_again(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = train_experts(run(tmp_path / "a"), TRAINING, 3)
    path = store.path(1)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    else:
        save_file({SNAPSHOTS: torch.zeros(2, 2)}, path)
    with caplog.at_level(logging.WARNING):
        train_experts(run(tmp_path / "b"), TRAINING, 3)
    assert (f"{path} is damaged" in caplog.text) == (damage != "missing")
    assert path.read_bytes() == content


def test_a_shard_damaged_after_its_stage_is_trained_again(tmp_path: Path) -> None:
    store = train_experts(run(tmp_path / "a"), TRAINING, 3)
    content = store.path(2).read_bytes()
    store.path(2).write_bytes(content[:-1])
    again = run(tmp_path / "a")  # its checkpoint says that the stage has ended
    train_experts(again, TRAINING, 3)
    assert store.path(2).read_bytes() == content


def test_a_damaged_index_costs_nothing_but_the_seconds(tmp_path: Path) -> None:
    store = train_experts(run(tmp_path / "a"), TRAINING, 2)
    before = store.path(0).stat().st_mtime_ns
    (store.folder / "index.json").write_text("{")
    again = train_experts(run(tmp_path / "b"), TRAINING, 2)
    assert again.path(0).stat().st_mtime_ns == before
    assert again.index.complete == 2


def test_a_checkpoint_with_other_groups_is_made_up_for(tmp_path: Path) -> None:
    quiet = train_experts(run(tmp_path / "a"), TRAINING, 2)
    expected = [snapshots(quiet, expert) for expert in range(2)]
    for expert in range(2):
        quiet.path(expert).unlink()
    trainer = ExpertTrainer(run(tmp_path / "b"), quiet, 2)
    trainer.step(1)  # in the middle of the first expert, with nothing before
    trainer.step(2)
    assert torch.equal(snapshots(quiet, 0), expected[0])


def test_batch_statistics_are_refused(tmp_path: Path) -> None:
    training = msgspec.structs.replace(TRAINING, architecture="ConvNetBN")
    with pytest.raises(UsageError, match="instance norm"):
        train_experts(run(tmp_path), training, 1)
