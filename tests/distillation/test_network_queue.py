"""The network queue against single networks and torch's optimiser."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import cell_run, dataset
from torch.nn import functional as F

from dcbench_bacon.distillation.feature_matching import MatchingBatch
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.network_queue import (
    Minibatches,
    NetworkQueue,
    QueueSize,
)
from dcbench_bacon.distillation.objectives import SquaredMeanDistance
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.training.optimisers import FlatSGD
from dcbench_bacon.training.settings import Training


def queue(folder: Path, **changes: Any) -> NetworkQueue:
    run = cell_run(dataset(), folder)
    return NetworkQueue(
        run, Training(architecture="ConvNetW32D2"), QueueSize(**changes)
    )


def minibatch(seed: int, count: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 1, 8, 8, generator=generator),
        torch.randint(0, 3, (count,), generator=generator),
    )


def train(ours: NetworkQueue, row: int, seed: int) -> None:
    images, labels = minibatch(seed)
    ours.train([row], [Minibatches(images[None], labels[None])])


def test_networks_trained_together_come_out_as_one_by_one(tmp_path: Path) -> None:
    apart, joined = queue(tmp_path), queue(tmp_path / "other")
    joined.together = True
    steps = []
    for seed in range(3):
        pairs = [minibatch(2 * seed), minibatch(2 * seed + 1)]
        both = (torch.stack(each) for each in zip(*pairs, strict=True))
        steps.append(Minibatches(*both))
    for each in (apart, joined):
        each.train([2, 0], steps[:2])
        each.train([2, 0], steps[2:])
    assert torch.allclose(apart.parameters, joined.parameters, rtol=1e-4, atol=1e-6)
    assert torch.allclose(apart.velocities, joined.velocities, rtol=1e-4, atol=1e-6)
    assert torch.equal(apart.correct, joined.correct)
    assert torch.equal(apart.seen, joined.seen)
    assert apart.seen[:3].tolist() == [30, 0, 30]


def test_training_equals_torch_sgd(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    alone = builder.build("ConvNetW32D2", channels=1, size=8, classes=3)
    alone.load_state_dict(ours.load(1).state_dict())
    before = ours.parameters.clone()
    sgd = torch.optim.SGD(alone.parameters(), 0.01, 0.9, weight_decay=5e-4)
    correct = 0
    for step in range(4):
        images, labels = minibatch(step)
        if step == 2:  # in pieces: gradients accumulate to the same
            ours.update.most = 3
        ours.train([1], [Minibatches(images[None], labels[None])])
        logits = alone(images)
        correct += int((logits.argmax(1) == labels).sum())
        sgd.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits, labels))
        sgd.step()
    expected = FlatNetwork(alone).vector()
    assert torch.allclose(ours.parameters[1], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(ours.parameters[[0, 2]], before[[0, 2]])
    assert float(ours.accuracy(1)) == pytest.approx(correct / 40)


def test_flat_sgd_is_torch_sgd() -> None:
    vector = torch.randn(20)
    twin = vector.clone().requires_grad_()
    sgd = torch.optim.SGD([twin], lr=0.1, momentum=0.7, weight_decay=0.01)
    ours, velocity = FlatSGD(0.1, 0.7, 0.01), torch.zeros(20)
    for seed in range(5):
        gradient = torch.randn(20, generator=torch.Generator().manual_seed(seed))
        twin.grad = gradient.clone()
        sgd.step()
        ours.step(vector, velocity, gradient.clone())
        assert torch.allclose(vector, twin.detach(), atol=1e-6)


def test_the_oldest_makes_room(tmp_path: Path) -> None:
    ours = queue(tmp_path, capacity=4, start=3)
    assert len(ours) == 3
    first, second = ours.parameters[0].clone(), ours.parameters[1].clone()
    ours.push()
    assert len(ours) == 4
    assert torch.equal(ours.parameters[0], first)
    train(ours, 0, 0)
    ours.push()
    assert len(ours) == 4
    assert not torch.equal(ours.parameters[0], first)
    assert torch.equal(ours.parameters[1], second)
    assert float(ours.velocities[0].abs().sum()) == 0
    assert float(ours.accuracy(0)) == 0


def test_picks_are_different_and_cover_the_queue(tmp_path: Path) -> None:
    ours = queue(tmp_path, capacity=5, start=5)
    picks = [ours.pick(2) for _ in range(60)]
    assert all(a != b for a, b in picks)
    assert {row for pair in picks for row in pair} == set(range(5))
    assert len(ours.pick(100)) == 5


def test_networks_of_batch_statistics_are_refused(tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path)
    with pytest.raises(UsageError, match="ConvNetBN keeps batch statistics"):
        NetworkQueue(run, Training(architecture="ConvNetBN"))


def test_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    ours, other = queue(tmp_path), queue(tmp_path, capacity=100, start=1)
    train(ours, 2, 0)
    other.load_state_dict(ours.state_dict())
    for each in (ours, other):
        train(each, 2, 1)
    assert len(other) == 3
    assert torch.equal(ours.parameters, other.parameters)
    assert torch.equal(ours.velocities, other.velocities)
    assert float(ours.accuracy(2)) == float(other.accuracy(2))


def weights(folder: Path, steps: int, **changes: Any) -> list[float]:
    """The weight of the cross-entropy in each step."""
    settings = ImprovedMatchingSettings(
        architecture="ConvNetW32D2",
        batch_real=4,
        queue_start=1,
        queue_interval=1000,
        queue_trained=1,
        queue_batch=16,
        **changes,
    )
    run = cell_run(dataset(), folder)
    learner = ImprovedMatching(run, settings, SquaredMeanDistance())
    learner.queue.pick = lambda count: [0]  # type: ignore[method-assign]
    seen: list[float] = []
    matched = learner._match

    def spy(batch: MatchingBatch) -> None:
        assert batch.weight is not None
        seen.append(float(batch.weight))
        matched(batch)

    learner._match = spy  # type: ignore[method-assign]
    for step in range(steps):
        learner.step(step)
    return seen


def test_cross_entropy_weighs_nothing_until_trained_and_after_a_reset(
    tmp_path: Path,
) -> None:
    found = weights(tmp_path, 5, meter_reset_interval=3)
    assert found[0] == 0
    assert all(weight > 0 for weight in (found[1], found[2], found[4]))
    assert found[3] == 0
    assert weights(tmp_path, 4, meter_reset_interval=0)[3] > 0


def test_percent_is_a_hundred_times_the_fraction(tmp_path: Path) -> None:
    percent = weights(tmp_path, 2, accuracy_unit="percent")[1]
    fraction = weights(tmp_path, 2, accuracy_unit="fraction")[1]
    assert percent == pytest.approx(100 * fraction)
    assert 0 < fraction <= 0.5  # ce_weight times an accuracy


def test_the_stack_has_the_precision_of_the_queue(tmp_path: Path) -> None:
    training = Training(architecture="ConvNetW32D2", precision="bf16")
    queue = NetworkQueue(cell_run(dataset(), tmp_path), training)
    assert queue.template.precision == "bf16"
    assert queue.stack.skeleton.precision == "bf16"
