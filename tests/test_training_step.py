"""The step that all training of one network takes, and the settings of training."""

import msgspec
import pytest
import torch
from torch.nn import functional as F

from dcbench_bacon.distillation.trajectories import TrajectorySettings
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.training import features
from dcbench_bacon.training.features import FeatureSettings
from dcbench_bacon.training.losses import Criterion, Targets
from dcbench_bacon.training.optimisers import FlatAdamW, FlatSGD
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.step import TrainingStep

IMAGES = torch.randn(11, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(11) % 3


def network() -> FlatNetwork:
    stream = torch.Generator().manual_seed(1)
    return FlatNetwork(
        builder.build("ConvNetD1W8", channels=1, size=8, classes=3, generator=stream)
    )


@pytest.mark.parametrize("most", [None, 4])
def test_a_step_is_that_of_torch_whole_or_in_pieces(most: int | None) -> None:
    flat, twin = network(), network()
    vector = flat.vector()
    velocity = torch.zeros_like(vector)
    step = TrainingStep(flat, most=most)
    step.attach(vector)
    sizes: list[int] = []
    flat.network.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    sgd = torch.optim.SGD(twin.network.parameters(), 0.1, 0.9, weight_decay=0.01)
    for _ in range(3):
        outcome = step(FlatSGD(0.1, 0.9, 0.01), velocity, IMAGES, LABELS)
        sgd.zero_grad()
        logits = twin.network(IMAGES)
        loss = F.cross_entropy(logits, LABELS)
        torch.autograd.backward(loss)
        sgd.step()
        assert torch.allclose(outcome.loss, loss, rtol=1e-5)
        assert torch.allclose(outcome.logits, logits, rtol=1e-4, atol=1e-5)
    assert not outcome.loss.requires_grad
    assert sizes == ([11] if most is None else [4, 4, 3]) * 3
    assert torch.allclose(vector, twin.vector(), rtol=1e-4, atol=1e-6)


def test_pieces_keep_rows_of_all_targets_together() -> None:
    labels = torch.eye(3)[LABELS].roll(1, 0)
    targets = Targets(labels, torch.eye(3)[LABELS])
    criterion = Criterion(
        Protocol(name="test", architectures=("ConvNetD1W8",), original_weight=0.5)
    )
    found = []
    for most in (None, 4):
        flat = network()
        vector = flat.vector()
        step = TrainingStep(flat, criterion, most)
        step.attach(vector)
        moments = torch.zeros_like(vector).repeat(2)
        loss = step(FlatAdamW(0.01, 0.1), moments, IMAGES, targets).loss
        found.append((loss, moments))
    (whole, moments), (pieces, summed) = found
    assert torch.allclose(whole, pieces, rtol=1e-5)
    assert torch.allclose(moments, summed, rtol=1e-4, atol=1e-7)


def test_settings_are_encoded_as_in_the_names_of_shared_files() -> None:
    """Other bytes would train everybody's networks and experts again."""
    described = features._counted_before(FeatureSettings().training)
    assert msgspec.json.encode(described) == (
        b'{"architecture":"ConvNet","epochs":50,"learning_rate":0.01,"momentum":0.9,'
        b'"weight_decay":0.0005,"batch_size":256,'
        b'"augmentation":"color_crop_cutout_flip_scale_rotate","precision":"tf32"}'
    )
    experts = TrajectorySettings(steps=1).training
    assert msgspec.json.encode(experts, order="sorted") == (
        b'{"architecture":"ConvNet",'
        b'"augmentation":"color_crop_cutout_flip_scale_rotate","batch_size":256,'
        b'"learning_rate":0.01,"momentum":0.0,"passes":50,"precision":"tf32",'
        b'"weight_decay":0.0}'
    )
    assert msgspec.convert(msgspec.to_builtins(experts), Training) == experts
