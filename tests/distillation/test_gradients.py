"""Gradient matching: the batched step against the published loops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reference
import reference_gradient
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from reference import ClassBatch
from support import cell_run, dataset, demand
from torch import Tensor

from dcbench_bacon.augmentation.kornia_modules import OPERATIONS
from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.gradient_matcher import (
    GradientMatcher,
    class_gradients,
    gradient_distance,
)
from dcbench_bacon.distillation.gradients import (
    GradientMatching,
    GradientMatchingSettings,
)
from dcbench_bacon.errors import DivergedError, InterruptedRunError, UsageError
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.recipes import protocols
from dcbench_bacon.running.plans import planning
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.schema import Cell

DSA = "color_crop_cutout_flip_scale_rotate"
SMALL: dict[str, Any] = {
    "steps": 6,
    "outer_loop": 3,
    "inner_loop": 2,
    "batch_real": 6,
    "network_batch": 4,
    "architecture": "ConvNetD2W8",
    "augmentation": DSA,
}
# One of every kind of parameter: maps, vectors, matrices, and LayerNorm's three axes.
ARCHITECTURES = ["ConvNetD2W8", "ConvNetD2W8LN", "ConvNetD2W8GN", "MLP", "LeNet"]


def build(architecture: str, classes: int = 3) -> Network:
    generator = torch.Generator().manual_seed(5)
    network = builder.build(
        architecture, channels=1, size=8, classes=classes, generator=generator
    )
    return network.double()


def pixels(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def learner(
    folder: Path, run: CellRun | None = None, **changes: Any
) -> GradientMatching:
    settings = GradientMatchingSettings(**{**SMALL, **changes})
    run = run or cell_run(dataset(), folder, method="dsa")
    return GradientMatching(run, settings)


def class_batches(real: Tensor, draw: Draw) -> list[ClassBatch]:
    """The draws of a batched step as the published loop takes them."""

    def one(label: int) -> ClassBatch:
        if not draw.operations:
            return ClassBatch(real[label], lambda x: x, label)
        name, values = draw.operations[label], draw.values[label].tolist()
        return ClassBatch(
            real[label], lambda x: reference.augment(x, name, values), label
        )

    return [one(label) for label in range(len(real))]


# The distance


def random_gradients(seed: int, classes: int = 3) -> dict[str, Tensor]:
    shapes = {"map": (4, 2, 3, 3), "matrix": (5, 7), "norm": (2, 3, 3)}
    return {
        name: pixels(classes, *shape, seed=seed + place)
        for place, (name, shape) in enumerate(shapes.items())
    }


def test_equal_gradients_have_no_distance() -> None:
    gradients = random_gradients(0)
    assert gradient_distance(gradients, gradients).abs().max() < 1e-4  # epsilon's
    scaled = {name: 1e3 * each for name, each in gradients.items()}
    assert gradient_distance(scaled, scaled).abs().max() < 1e-9
    opposite = {name: -each for name, each in scaled.items()}
    rows = 4 + 5 + 2
    assert torch.allclose(
        gradient_distance(scaled, opposite), torch.tensor(2.0 * rows).double()
    )


@hypothesis_settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 4))
def test_distance_equals_a_loop_over_layers_and_rows(seed: int, classes: int) -> None:
    real = random_gradients(seed, classes)
    synthetic = random_gradients(seed + 100, classes)
    ours = gradient_distance(real, synthetic)
    for label in range(classes):
        expected = reference_gradient.distance(
            [each[label] for each in real.values()],
            [each[label] for each in synthetic.values()],
        )
        assert torch.isclose(ours[label], expected, rtol=1e-12)


def test_distance_of_nothing_is_finite_and_so_is_its_gradient() -> None:
    """A unit that no image excites has a gradient of zeros."""
    real, zero = pixels(1, 2, 3), torch.zeros(1, 2, 3).double().requires_grad_()
    value = gradient_distance({"w": real}, {"w": zero})
    assert float(value.detach()) == 2
    (gradient,) = torch.autograd.grad(value.sum(), zero)
    assert gradient.isfinite().all()


# Gradients by class


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batched_gradients_equal_one_class_at_a_time(architecture: str) -> None:
    network, images = build(architecture), pixels(3, 5, 1, 8, 8)
    ours = class_gradients(network, images, torch.arange(3))
    names = [name for name, each in network.named_parameters() if each.ndim > 1]
    assert list(ours) == names
    assert not any(each.requires_grad for each in ours.values())
    for label in range(3):
        expected = reference_gradient.class_gradient(
            network, images[label], label, create_graph=False
        )
        every = dict(zip(dict(network.named_parameters()), expected, strict=True))
        for name in names:
            assert torch.allclose(ours[name][label], every[name], rtol=1e-9, atol=1e-12)


def test_frozen_batch_norm_has_gradients_by_class() -> None:
    network, images = build("ConvNetD2W8BN"), pixels(3, 5, 1, 8, 8)
    reference_gradient.freeze_statistics(network, pixels(12, 1, 8, 8, seed=1))
    before = {name: each.clone() for name, each in network.named_buffers()}
    ours = class_gradients(network, images, torch.arange(3))
    for label in range(3):
        expected = reference_gradient.class_gradient(
            network, images[label], label, create_graph=False
        )
        every = dict(zip(dict(network.named_parameters()), expected, strict=True))
        for name, each in ours.items():
            assert torch.allclose(each[label], every[name], rtol=1e-9, atol=1e-12)
    for name, each in network.named_buffers():
        assert torch.equal(each, before[name])


# The gradient with respect to the images


class Double(RealImages):
    """In float64, where no rounding moves an activation across its kink."""

    def take(self, index: Tensor) -> Tensor:
        return super().take(index).double()


def forced(names: list[str], size: int) -> Draw:
    """Draws of the given operations, one a class."""
    generator = torch.Generator().manual_seed(3)
    rows = [Augmentation(n, (size, size)).draw(1, generator).values for n in names]
    return Draw.of(names, torch.cat(rows))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("most", [10_000, 40, 1])
def test_gradient_of_images_equals_the_class_loop(
    tmp_path: Path, architecture: str, most: int
) -> None:
    """Six operations, each class by another, in one pass and in many."""
    run = cell_run(dataset(classes=6), tmp_path)
    real, names = Double(run), list(OPERATIONS)
    network = build(architecture, classes=6)
    network.memory_demand = demand(most)
    index = real.draw(5, run.generator("real"))
    images = real.initial(1, run.generator("init"))
    draw = forced(names, 8)
    matcher = GradientMatcher(run, real, Augmentation(DSA, (8, 8)))
    losses, gradient = matcher(network, index, draw, images)
    for label, batch in enumerate(class_batches(real.take(index), draw)):
        own = images[label].clone().requires_grad_()
        loss = reference_gradient.class_loss(network, batch, own)
        (expected,) = torch.autograd.grad(loss, own)
        assert torch.isclose(losses[label], loss.detach(), rtol=1e-9)
        assert expected.norm() > 0
        error = (gradient[label] - expected).norm() / expected.norm()
        assert error < 1e-6, names[label]


# The pipeline


def published(learner: GradientMatching, twin: CellRun, steps: int) -> Tensor:
    """The published loop with the draws of a twin's streams; the images at its end."""
    settings, classes = learner.settings, twin.info.classes
    images = learner.images.flatten(0, 1).clone().requires_grad_()
    labels = torch.arange(classes).repeat_interleave(twin.cell.ipc)
    sgd = torch.optim.SGD(
        [images], lr=settings.image_lr, momentum=settings.image_momentum
    )
    network = builder.build(settings.architecture, channels=1, size=8, classes=classes)
    augmentation, real = learner.augmentation, RealImages(twin)
    training = torch.optim.SGD(network.parameters(), lr=settings.network_lr)
    for step in range(steps):
        if step % settings.outer_loop == 0:
            builder.reinitialize(network, twin.generator("network"))
        else:
            batches = training_batches(learner, twin, len(images))
            own = images.detach().clone()
            network.train()
            reference_gradient.train_network(network, own, labels, training, batches)
        if network.batch_statistics:
            index = real.draw(16, twin.generator("network/statistics"))
            reference_gradient.freeze_statistics(
                network, real.take(index).flatten(0, 1)
            )
        index = real.draw(settings.batch_real, twin.generator("real"))
        draw = augmentation.draw(classes, twin.generator("augmentation", "cpu"))
        reference_gradient.update_images(
            network, class_batches(real.take(index), draw), images, sgd
        )
    return images.detach()


def training_batches(
    learner: GradientMatching, twin: CellRun, count: int
) -> list[tuple[Tensor, Any]]:
    """Epochs of shuffled mini-batches: an operation a batch, parameters an image."""
    batches: list[tuple[Tensor, Any]] = []
    for _ in range(learner.settings.inner_loop):
        order = torch.randperm(count, generator=twin.generator("network/shuffle"))
        for index in torch.split(order, learner.settings.network_batch):
            draw = learner.augmentation.draw(
                1, twin.generator("network/augmentation", "cpu"), samples=len(index)
            )
            batches.append((index, augmenting(draw)))
    return batches


def augmenting(draw: Draw) -> Any:
    if not draw.operations:
        return lambda images: images
    rows = list(draw.values[0].unbind(1))
    return lambda images: reference.operate(images, draw.operations[0], rows)


@pytest.mark.parametrize(
    ("augmentation", "architecture"),
    [("none", "ConvNetD2W8"), (DSA, "ConvNetD2W8"), (DSA, "ConvNetD2W8BN")],
    ids=["dc", "dsa", "batch-norm"],
)
def test_steps_equal_the_published_loop(
    tmp_path: Path, augmentation: str, architecture: str
) -> None:
    """Over two networks and the training between the updates."""
    choices: dict[str, Any] = {
        "augmentation": augmentation,
        "architecture": architecture,
        "image_lr": 0.01,
        "init": "real",
    }
    ours = learner(tmp_path, **choices)
    start = ours.images.flatten(0, 1).clone()
    twin = cell_run(dataset(), tmp_path, method="dsa")
    expected = published(ours, twin, 5)
    for step in range(5):
        ours.step(step)
    made = ours.synthetic()
    moved = (expected - start).norm()
    assert moved > 0.01
    assert (made.images - expected).norm() < 1e-3 * moved
    assert torch.equal(made.labels.argmax(1), torch.tensor([0, 0, 1, 1, 2, 2]))


def run_steps(run: CellRun, folder: Path, **changes: Any) -> GradientMatching:
    made = learner(folder, run, **changes)
    for step in run.steps("match", made.settings.steps, state=made):
        made.step(step)
    return made


@pytest.mark.parametrize(
    ("architecture", "stop"),
    [("ConvNetD2W8", 3), *(("ConvNetD2W8BN", stop) for stop in (1, 2, 3, 4, 5))],
)
def test_resumed_inside_the_outer_loop_with_the_same_bits(
    tmp_path: Path, architecture: str, stop: int
) -> None:
    """The network, its velocity and its statistics are in the checkpoint."""
    changes = {"architecture": architecture, "network_momentum": 0.5}
    quiet = run_steps(
        cell_run(dataset(), tmp_path / "a", method="dsa"), tmp_path, **changes
    )
    stopped = cell_run(dataset(), tmp_path / "b", method="dsa")
    asked = iter(range(stop))
    stopped.policy = replace(stopped.policy, stop=lambda: next(asked, 0) == stop - 1)
    with pytest.raises(InterruptedRunError):
        run_steps(stopped, tmp_path, **changes)
    resumed = cell_run(dataset(), tmp_path / "b", method="dsa")
    again = run_steps(resumed, tmp_path, **changes)
    assert torch.equal(again.images, quiet.images)
    assert torch.equal(again.vector, quiet.vector)
    assert resumed.timings["match"].steps == 6


def test_images_that_explode_end_the_run(tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path, method="dc")
    with pytest.raises(DivergedError, match="loss is nan"):
        run_steps(run, tmp_path, image_lr=1e38)


def test_a_network_that_explodes_ends_the_run(tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path, method="dc")
    with pytest.raises(DivergedError, match="loss is nan"):
        run_steps(run, tmp_path, network_lr=1e38)


def test_each_network_serves_an_outer_loop(tmp_path: Path) -> None:
    """Images that went through a network: matched, and trained on in between."""
    run = cell_run(dataset(), tmp_path, method="dc")
    run_steps(run, tmp_path, steps=5)
    matched, trained = 3 * (6 + 2), 2 * 6  # batch_real and ipc; epochs of six images
    assert run.timings["match"].images == 5 * matched + 3 * trained


@pytest.mark.parametrize("method", ["dc", "dsa"])
def test_other_counts_of_images_want_their_loops(method: str) -> None:
    def loops(ipc: int, **overrides: str) -> list[Any]:
        request = protocols.Request(overrides=overrides)
        made = planning.resolve(Cell(method, "cifar10", ipc), request).recipe.settings
        return [made[key] for key in ("steps", "outer_loop", "inner_loop")]

    # get_loops of the published code, with its 1,000 iterations.
    assert loops(1) == [1_000, 1, 1]
    assert loops(10) == [10_000, 10, 50]
    assert loops(20) == [20_000, 20, 25]
    assert loops(30) == [30_000, 30, 20]
    assert loops(40) == [40_000, 40, 15]
    assert loops(50) == [50_000, 50, 10]
    with pytest.raises(UsageError, match="--set inner_loop"):
        loops(5)
    with pytest.raises(UsageError, match="--set inner_loop"):
        loops(5, steps="10", outer_loop="5")
    assert loops(5, steps="10", outer_loop="5", inner_loop="2") == [10, 5, 2]
