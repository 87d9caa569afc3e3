"""What the published code computes, from both the slow loop and the batched step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import reference
import torch
from safetensors.torch import load_file
from support import FixedImages, cell_run, dataset
from torch import Tensor

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.distillation.feature_matching import Matcher, MatchingBatch
from dcbench_bacon.distillation.image_sgd import ImageSGD
from dcbench_bacon.distillation.objectives import (
    Bacon,
    Matched,
    Objective,
    SquaredMeanDistance,
    bacon_terms,
)
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network

TOLERANCE = 1e-5
CLASS = 3  # of the fixture's images


class Fixture(NamedTuple):
    tensors: dict[str, Tensor]
    values: dict[str, Any]
    network: Network


@pytest.fixture(scope="module")
def fixture(parity: Path) -> Fixture:
    tensors = load_file(parity / "parity.safetensors")
    network = builder.build("ConvNet", channels=3, size=32, classes=10)
    weights = {k[4:]: v for k, v in tensors.items() if k.startswith("net.")}
    network.load_state_dict(weights)
    values = json.loads((parity / "parity.json").read_text())
    return Fixture(tensors, values, network.requires_grad_(False))


def relative(actual: Tensor, expected: Tensor) -> float:
    scale = expected.norm().clamp_min(1e-12)
    return float((actual - expected).norm() / scale)


def likelihood(matched: Matched) -> Tensor:
    return bacon_terms(matched.real, matched.synthetic).likelihood


def variation(matched: Matched) -> Tensor:
    return bacon_terms(matched.real, matched.synthetic).total_variation


def clip(matched: Matched) -> Tensor:
    return bacon_terms(matched.real, matched.synthetic).clip + 0 * likelihood(matched)


def nothing(matched: Matched) -> Tensor:
    return 0 * matched.synthetic.sum((1, 2))


def none(real: Tensor, synthetic: Tensor) -> Tensor:
    return 0 * synthetic.sum()


L2, BACON = SquaredMeanDistance(), Bacon()
TERMS: dict[str, tuple[Objective, reference.Loss, float | None]] = {
    "dm": (L2, reference.squared_distance, None),
    "idm_feat": (L2, reference.squared_distance, None),
    "ce": (nothing, none, 1.0),
    "nll": (likelihood, reference.negative_log_likelihood, None),
    "tv": (variation, reference.total_variation, None),
    "clip": (clip, reference.clip, None),
    "idm_total_acc0": (L2, reference.squared_distance, 0.0),
    "idm_total_acc37_5": (L2, reference.squared_distance, 0.5 * 37.5),
    "bacon_total_acc0": (BACON, reference.bacon, 0.0),
    "bacon_total_acc37_5": (BACON, reference.bacon, 0.5 * 37.5),
}


def check(fixture: Fixture, key: str, loss: Tensor, gradient: Tensor) -> None:
    expected = fixture.values[key]
    assert float(loss) == pytest.approx(expected["value"], rel=TOLERANCE, abs=1e-9)
    if expected["grad_norm"] == 0:
        assert float(gradient.norm()) < 1e-9
    else:
        assert relative(gradient, fixture.tensors[f"{key}.grad"]) < TOLERANCE


@pytest.mark.parametrize("case", ["plain", "expand"])
@pytest.mark.parametrize("term", TERMS)
def test_loop_computes_what_was_published(
    fixture: Fixture, case: str, term: str
) -> None:
    images = fixture.tensors["syn"].clone().requires_grad_()
    batch = reference.ClassBatch(fixture.tensors["real"], lambda x: x, CLASS)
    _, loss, weight = TERMS[term]
    value = reference.class_loss(
        fixture.network, batch, images, loss, weight, partition=case == "expand"
    )
    (gradient,) = torch.autograd.grad(value, images)
    check(fixture, f"{case}.{term}", value.detach(), gradient)


def batched(
    network: Network, folder: Path, objective: Objective, partition: int, real: Tensor
) -> Callable[[Tensor, MatchingBatch], Any]:
    run = cell_run(dataset(channels=3, size=32), folder)
    fixed = FixedImages(real)
    plain = Augmentation("none", (32, 32))
    matcher = Matcher(run, network, fixed, objective, plain, partition)
    return lambda images, batch: matcher(batch, images)


@pytest.mark.parametrize("case", ["plain", "expand"])
@pytest.mark.parametrize("term", TERMS)
def test_batched_step_computes_what_was_published(
    fixture: Fixture, tmp_path: Path, case: str, term: str
) -> None:
    """The fixture's class sits between two others in one batch."""
    objective, _, weight = TERMS[term]
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(2, 16, 3, 32, 32, generator=generator)
    real = torch.stack([others[0], fixture.tensors["real"], others[1]])
    images = torch.stack([fixture.tensors["syn"]] * 3)
    images[0] += 1
    images[2] *= 0.5
    network = with_classes(fixture.network, [0, CLASS, 2])
    step = batched(network, tmp_path, objective, 2 if case == "expand" else 1, real)
    draw = Augmentation("none", (32, 32)).draw(3, generator)
    ce = None if weight is None else torch.tensor(weight)
    losses, gradient = step(images, MatchingBatch(FixedImages.indices(3, 16), draw, ce))
    check(fixture, f"{case}.{term}", losses[1], gradient[1])


def with_classes(network: Network, classes: list[int]) -> Network:
    """The network with its logits reordered so that these come first."""
    order = classes + [label for label in range(10) if label not in classes]
    copy = builder.build("ConvNet", channels=3, size=32, classes=10)
    copy.load_state_dict(network.state_dict())
    copy.classifier.weight.data = network.classifier.weight[order]
    copy.classifier.bias.data = network.classifier.bias[order]
    return copy.requires_grad_(False)


def sequence(fixture: Fixture) -> tuple[dict[str, Any], Tensor]:
    values = fixture.values["seq.idm"]
    real = torch.stack(
        [
            torch.stack([fixture.tensors[f"seq.idm.real.{c}.{i}"] for c in range(2)])
            for i in range(2)
        ]
    )
    return values, real


def test_loop_follows_the_published_trajectory(fixture: Fixture) -> None:
    values, real = sequence(fixture)
    images = fixture.tensors["seq.idm.init"].clone().requires_grad_()
    sgd = torch.optim.SGD([images], lr=values["lr"], momentum=values["momentum"])
    losses = []
    for iteration in range(values["iters"]):
        batches = [
            reference.ClassBatch(real[iteration, c], lambda x: x, label)
            for c, label in enumerate(values["classes"])
        ]
        losses += reference.idm_iteration(
            fixture.network,
            batches,
            images,
            sgd,
            reference.squared_distance,
            values["ce_weight"] * values["acc_pct"],
        )
    assert losses == pytest.approx(values["losses"], rel=TOLERANCE)
    assert relative(images.detach(), fixture.tensors["seq.idm.final"]) < TOLERANCE


def test_closed_form_follows_the_published_trajectory(
    fixture: Fixture, tmp_path: Path
) -> None:
    values, real = sequence(fixture)
    network = with_classes(fixture.network, values["classes"])
    images = torch.unflatten(fixture.tensors["seq.idm.init"], 0, (2, 4)).clone()
    start = images.clone()
    optimiser = ImageSGD(images, values["lr"], values["momentum"], visits=2)
    draw = Augmentation("none", (32, 32)).draw(2, torch.Generator())
    weight = torch.tensor(values["ce_weight"] * values["acc_pct"])
    losses: list[float] = []
    for iteration in range(values["iters"]):
        step = batched(network, tmp_path, L2, 2, real[iteration])
        found, gradient = step(
            images, MatchingBatch(FixedImages.indices(2, 16), draw, weight)
        )
        optimiser.step(images, gradient)
        losses += found.tolist()
    assert losses == pytest.approx(values["losses"], rel=TOLERANCE)
    final = torch.unflatten(fixture.tensors["seq.idm.final"], 0, (2, 4))
    snapshot = optimiser.snapshot(images)
    assert relative(snapshot, final) < TOLERANCE
    # The displacement, which is smaller than the images, is right as well.
    assert relative(snapshot - start, final - start) < 1e-4
