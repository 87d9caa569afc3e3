"""The batched step against the published loop, on random inputs."""

from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import cell_run, dataset, demand
from torch import Tensor

from dcbench_bacon.augmentation.kornia_modules import OPERATIONS
from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.feature_matching import Matcher, MatchingBatch
from dcbench_bacon.distillation.image_sgd import ImageSGD
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.objectives import Bacon, Objective, SquaredMeanDistance
from dcbench_bacon.distillation.pipeline import MatchingSettings
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import base, builder
from dcbench_bacon.running.run import CellRun

OBJECTIVES: dict[str, tuple[Objective, reference.Loss]] = {
    "distance": (SquaredMeanDistance(), reference.squared_distance),
    "bacon": (Bacon(), reference.bacon),
}
SMALL: dict[str, Any] = {"architecture": "ConvNetW32D2", "batch_real": 6}


def class_batches(
    real: RealImages, batch: MatchingBatch, classes: int
) -> list[reference.ClassBatch]:
    """The draws of a batched step as the published loop takes them."""
    images = real.take(batch.index)

    def one(label: int) -> reference.ClassBatch:
        name = batch.draw.operations[label]
        values = batch.draw.values[label].tolist()
        return reference.ClassBatch(
            images[label], lambda x: reference.augment(x, name, values), label
        )

    return [one(label) for label in range(classes)]


def forced(names: list[str], size: int) -> Draw:
    """Draws of the given operations, one a class."""
    generator = torch.Generator().manual_seed(3)
    rows = [Augmentation(n, (size, size)).draw(1, generator).values for n in names]
    return Draw.of(names, torch.cat(rows))


class Double(RealImages):
    """In float64, where no rounding moves an activation across its kink."""

    def take(self, index: Tensor) -> Tensor:
        return super().take(index).double()


@pytest.mark.parametrize("partition", [1, 2])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, 64)])
def test_gradient_equals_the_class_loop(
    tmp_path: Path, channels: int, size: int, objective: str, partition: int
) -> None:
    """All six operations at once, each class by another."""
    names = list(OPERATIONS)
    source = dataset(classes=6, channels=channels, size=size)
    run = cell_run(source, tmp_path)
    real = Double(run)
    ours, theirs = OBJECTIVES[objective]
    augmentation = Augmentation("_".join(names), (size, size))
    network = builder.build("ConvNetW8", channels=channels, size=size, classes=6)
    network = network.double().requires_grad_(False)
    index = real.draw(8, run.generator("real"))
    batch = MatchingBatch(index, forced(names, size), torch.tensor(7.5).double())
    images = real.initial(1, run.generator("init"))
    matcher = Matcher(run, network, real, ours, augmentation, partition)
    losses, gradient = matcher(batch, images)
    for label, each in enumerate(class_batches(real, batch, 6)):
        own = images[label].clone().requires_grad_()
        loss = reference.class_loss(
            network, each, own, theirs, 7.5, partition=partition == 2
        )
        (expected,) = torch.autograd.grad(loss, own)
        assert torch.isclose(losses[label], loss.detach(), rtol=1e-6)
        error = (gradient[label] - expected).norm() / expected.norm()
        assert error < 1e-6, names[label]


def test_memory_bounds_change_nothing(tmp_path: Path) -> None:
    run = cell_run(dataset(classes=5), tmp_path)
    real = RealImages(run)
    augmentation = Augmentation("color_crop_cutout_flip_scale_rotate", (8, 8))
    network = builder.build("ConvNetW32", channels=1, size=8, classes=5)
    network.requires_grad_(False)
    index = real.draw(6, run.generator("real"))
    draw = augmentation.draw(5, run.generator("draw", "cpu"))
    batch = MatchingBatch(index, draw, torch.tensor(2.0))
    images = real.initial(1, run.generator("init"))
    matcher = Matcher(run, network, real, Bacon(), augmentation)
    whole = matcher(batch, images)
    for most in (13, 3):  # calls of real images in pieces; then two classes at a time
        network.memory_demand = demand(most)
        pieces = matcher(batch, images)
        assert torch.allclose(whole.losses, pieces.losses, rtol=1e-5)
        assert torch.allclose(whole.gradient, pieces.gradient, rtol=1e-4, atol=1e-7)


def improved(folder: Path, **changes: Any) -> ImprovedMatching:
    settings = ImprovedMatchingSettings(
        **{**SMALL, "queue_batch": 16, "queue_train_steps": 1, **changes}
    )
    run = cell_run(dataset(), folder, method="idm")
    return ImprovedMatching(run, settings, OBJECTIVES["bacon"][0])


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_closed_form_equals_the_sequential_loop(tmp_path: Path, steps: int) -> None:
    """Over several steps with queue, augmentation and cross-entropy, at every end."""
    fast = improved(tmp_path / "a", update="closed")
    slow = improved(tmp_path / "b", update="sequential")
    for step in range(steps):
        fast.step(step)
        slow.step(step)
        ours, loop = fast.synthetic().images, slow.synthetic().images
        assert torch.allclose(ours, loop, rtol=1e-4, atol=1e-5)
    moved = (
        fast.synthetic().images - improved(tmp_path / "c").synthetic().images
    ).norm()
    assert moved > 1e-3


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    classes=st.integers(1, 12),
    momentum=st.floats(0, 0.95),
    rate=st.floats(0.01, 2),
    steps=st.integers(1, 4),
)
def test_closed_form_of_momentum(
    classes: int, momentum: float, rate: float, steps: int
) -> None:
    """Against torch's optimiser stepped once a class, at every visit and every end."""
    generator = torch.Generator().manual_seed(classes)
    start = torch.randn(classes, 2, dtype=torch.float64, generator=generator)
    loop = start.clone().requires_grad_()
    sgd = torch.optim.SGD([loop], lr=rate, momentum=momentum)
    images = start.clone()
    ours = ImageSGD(images, rate, momentum, visits=classes)
    for _ in range(steps):
        gradients = []
        for label in range(classes):
            at_visit = loop.detach()[label]
            assert torch.allclose(at_visit, images[label])
            gradients.append(at_visit * 0.3 + label)  # of a toy loss
            loop.grad = torch.zeros_like(loop)
            loop.grad[label] = gradients[-1]
            sgd.step()
        ours.step(images, torch.stack(gradients))
        assert torch.allclose(ours.snapshot(images), loop.detach())


def test_one_visit_is_plain_sgd() -> None:
    images = torch.ones(2, 3)
    ours = ImageSGD(images, 0.5, 0.5, visits=1)
    ours.step(images, torch.ones(2, 3))
    ours.step(images, torch.ones(2, 3))
    assert torch.allclose(images, torch.tensor(1 - 0.5 - 0.5 * 1.5))
    assert torch.equal(ours.snapshot(images), images)


def test_dm_steps_equal_the_published_loop(tmp_path: Path) -> None:
    """Three steps of the pipeline against three of the loop, same draws."""
    run = cell_run(dataset(), tmp_path)
    learner = DistributionMatching(
        run, MatchingSettings(**SMALL), SquaredMeanDistance()
    )
    images = learner.images.flatten(0, 1).clone().requires_grad_()
    sgd = torch.optim.SGD([images], lr=1.0, momentum=0.5)
    twin = cell_run(dataset(), tmp_path)  # the same streams, drawn a second time
    for step in range(3):
        builder.reinitialize(learner.network, twin.generator("network"))
        index = learner.real.draw(6, twin.generator("real"))
        draw = learner.augmentation.draw(3, twin.generator("augmentation", "cpu"))
        batch = MatchingBatch(index, draw)
        reference.dm_iteration(
            learner.network, class_batches(learner.real, batch, 3), images, sgd
        )
        learner.step(step)
    ours = learner.synthetic().images
    assert torch.allclose(ours, images.detach(), rtol=1e-4, atol=1e-5)


def test_batch_norm_sees_all_classes_at_once(tmp_path: Path) -> None:
    """Statistics are those of one joint forward, as in the published DM code."""
    run = cell_run(dataset(), tmp_path)
    settings = MatchingSettings(architecture="ConvNetBN", batch_real=6)
    learner = DistributionMatching(run, settings, SquaredMeanDistance())
    assert learner.matcher.joint
    network, real = learner.network, learner.real
    index = real.draw(6, run.generator("real"))
    learner.augmentation = Augmentation("none", (8, 8))
    learner.matcher.augmentation = learner.augmentation
    batch = MatchingBatch(index, learner.augmentation.draw(3, torch.Generator()))
    losses, _ = learner.matcher(batch, learner.images)
    joint = network.embed(real.take(index).flatten(0, 1)).reshape(3, 6, -1)
    own = network.embed(learner.images.flatten(0, 1)).reshape(3, 2, -1)
    assert torch.allclose(losses, (joint.mean(1) - own.mean(1)).square().sum(1))


def unbalanced(folder: Path) -> CellRun:
    source = dataset(classes=3, per_class=12)
    keep = torch.cat([torch.arange(3), torch.arange(3, 36, 3)])  # class 0 has most
    split = source.train.subset(keep)
    return cell_run(type(source)(source.info, split, split, ""), folder)


def test_real_images_are_of_their_class_and_distinct(tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path)
    real = RealImages(run)
    index = real.draw(7, run.generator("real"))
    assert index.shape == (3, 7)
    for label, row in enumerate(index):
        assert (run.train.labels[row] == label).all()
        assert len(row.unique()) == 7
    assert not torch.equal(index, real.draw(7, run.generator("real")))


def test_small_classes_give_all_before_any_twice(tmp_path: Path) -> None:
    run = unbalanced(tmp_path)
    real = RealImages(run)
    index = real.draw(10_000, run.generator("real"))
    assert index.shape == (3, 12)
    for label, row in enumerate(index):
        members = (run.train.labels == label).nonzero().flatten()
        counts = torch.bincount(row, minlength=len(run.train.labels))[members]
        assert counts.min() >= 1
        assert counts.max() - counts.min() <= 1


def test_every_image_is_drawn_alike(tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path)
    real = RealImages(run)
    drawn = [real.draw(3, run.generator("real")) for _ in range(400)]
    counts = torch.bincount(torch.cat(drawn).flatten(), minlength=36).float()
    # Each of 36 images: 400 draws at 3 / 12; mean 100, deviation 8.7.
    assert (counts - 100).abs().max() < 45


def test_partitioned_start_holds_four_different_images(tmp_path: Path) -> None:
    """Quadrants are real images halved: 2x2 averages."""
    run = cell_run(dataset(), tmp_path)
    real = RealImages(run)
    images = real.initial(2, run.generator("init"))
    every = real.take(torch.arange(36)[None])[0]
    halved = torch.nn.functional.avg_pool2d(every, 2)
    seen = []
    for label in range(3):
        for image in images[label]:
            for rows in (slice(0, 4), slice(4, 8)):
                for columns in (slice(0, 4), slice(4, 8)):
                    errors = (halved - image[:, rows, columns]).abs().amax((1, 2, 3))
                    assert errors.min() < 1e-6
                    found = int(errors.argmin())
                    assert int(run.train.labels[found]) == label
                    seen.append(found)
    assert len(set(seen)) > 12  # of 24 draws from 36


def test_decode_puts_columns_outermost_and_passes_gradients() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()
    labels = torch.tensor([[0.0, 1.0]])
    decoded = SyntheticSet(images, labels, 2).decode()
    corners = [float(image[0, 0, 0]) for image in decoded.images.detach()]
    assert corners == [0, 8, 2, 10]  # TL, BL, TR, BR
    assert decoded.partition == 1
    assert torch.equal(decoded.labels, labels.repeat(4, 1))
    assert torch.equal(decoded.images, reference.decode(images))
    (gradient,) = torch.autograd.grad(decoded.images.sum(), images)
    assert gradient.sum() == pytest.approx(64)


@pytest.mark.parametrize("size", [28, 64])
def test_decode_keeps_the_size(size: int) -> None:
    images = torch.randn(3, 1, size, size)
    assert reference.decode(images).shape == (12, 1, size, size)
    labels = torch.ones(3, 1)
    decoded = SyntheticSet(images, labels, 2).decode().images
    assert torch.equal(decoded, reference.decode(images))


def test_partition_must_divide_the_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="partition 3"):
        improved(tmp_path, partition=3)


def test_noise_start(tmp_path: Path) -> None:
    run = cell_run(dataset(per_class=64), tmp_path, ipc=64)
    settings = MatchingSettings(**SMALL, init="noise")
    images = DistributionMatching(run, settings, SquaredMeanDistance()).images
    assert abs(float(images.mean())) < 0.05
    assert abs(float(images.std()) - 1) < 0.05


def test_dm_gradient_of_a_linear_network_by_hand(tmp_path: Path) -> None:
    """f(x) = W x: the gradient of class c is 2 W^T W (mean s - mean r) / ipc."""

    class Linear(base.Network):
        def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features = self.embed(images)
            return features, features

        def embed(self, images: Tensor) -> Tensor:
            features: Tensor = self.classifier(images.flatten(1))
            return features

    run = cell_run(dataset(), tmp_path)
    real = RealImages(run)
    network = Linear(torch.nn.Sequential(), 64, 5).requires_grad_(False)
    plain = Augmentation("none", (8, 8))
    matcher = Matcher(run, network, real, SquaredMeanDistance(), plain)
    index = real.draw(4, run.generator("real"))
    images = real.initial(1, run.generator("init"))
    batch = MatchingBatch(index, plain.draw(3, torch.Generator()))
    _, gradient = matcher(batch, images)
    weight = network.classifier.weight
    difference = images.mean(1).flatten(1) - real.take(index).mean(1).flatten(1)
    expected = 2 * difference @ weight.T @ weight / 2
    assert torch.allclose(gradient[:, 0].flatten(1), expected, atol=1e-5)
