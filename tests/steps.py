"""A step of every method with steps, ours and plain, on the same draws.

``PAIRS`` holds for each method two functions of a ``Shape``. Each returns a function
that takes one step and returns the state that the method makes: images, or for a
selection the positions of the images chosen. Both sides draw from streams of the same
names, so that they compute the same at any shape; ``test_steps.py`` shows it at a small
one, and ``test_benchmarks.py`` times them at that of CIFAR-10. The plain side is
written from the specification, one class, image or student step at a time, and does
nothing slower than the published code.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import reference
import reference_gradient
import reference_recovery
import torch
from reference import ClassBatch
from support import cell_run, dataset
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resized_crop

from dcbench_bacon.augmentation.siamese import Augmentation, Draw
from dcbench_bacon.data.dataset import standardize
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.coresets import (
    FeatureSettings,
    Selection,
    herding,
    k_center,
)
from dcbench_bacon.distillation.decoupled.crops import draw_boxes
from dcbench_bacon.distillation.decoupled.real_statistics import real_statistics
from dcbench_bacon.distillation.decoupled.realistic import CropChoice
from dcbench_bacon.distillation.decoupled.recovery import Recovery
from dcbench_bacon.distillation.decoupled.settings import CropSettings, RecoverySettings
from dcbench_bacon.distillation.decoupled.squeeze import Observers
from dcbench_bacon.distillation.decoupled.views import draw_view
from dcbench_bacon.distillation.gradients import (
    GradientMatching,
    GradientMatchingSettings,
)
from dcbench_bacon.distillation.trajectories import (
    TrajectoryMatching,
    TrajectorySettings,
)
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.training.expert_store import ExpertStore, Pair

DSA = "color_crop_cutout_flip_scale_rotate"
ORIGIN = {  # of an untrained observer
    "file": "observer",
    "weights_sha256": "0",
    "training": {"architecture": "observer"},
}
Step = Callable[[], Tensor]


class Shape(NamedTuple):
    """The size of a step.

    Attributes:
        real: images per class in the train split.
        batch_real: those of a step; also the candidates of a choice of crops.
        student_steps: steps of a student of MTT.
        inner_loop: passes of DC's networks over the synthetic images between steps.
    """

    classes: int = 10
    real: int = 500
    channels: int = 3
    size: int = 32
    ipc: int = 1
    batch_real: int = 256
    architecture: str = "ConvNet"
    observer: str = "ResNet18BN"
    student_steps: int = 50
    inner_loop: int = 1
    recompute: bool = True


class Sides(NamedTuple):
    """The two sides of a method's step."""

    ours: Callable[[Shape], Step]
    plain: Callable[[Shape], Step]


def run_of(name: str, shape: Shape) -> CellRun:
    """A run without files, whose streams depend on the method and the shape alone."""
    source = dataset(
        classes=shape.classes,
        per_class=shape.real,
        channels=shape.channels,
        size=shape.size,
    )
    return cell_run(source, Path(), method=name, ipc=shape.ipc)


def network_of(shape: Shape, name: str, seed: int = 0) -> Network:
    """A network with the parameters of a seed, and running statistics of its own."""
    draws = torch.Generator().manual_seed(seed)
    network = builder.build(
        name,
        channels=shape.channels,
        size=shape.size,
        classes=shape.classes,
        generator=draws,
    )
    for key, buffer in network.named_buffers():
        if buffer.is_floating_point():
            drawn = torch.rand(buffer.shape, generator=draws)
            buffer.copy_(drawn + 0.5 if "var" in key else 0.2 * (drawn - 0.5))
    return network.eval().requires_grad_(False)


def augmenting(draw: Draw, row: int = 0) -> Callable[[Tensor], Tensor]:
    """The operation of a row of a draw, with parameters for a batch or its images."""
    if not draw.operations:
        return lambda images: images
    name, values = draw.operations[row], draw.values[row]
    if values.ndim == 1:
        return lambda images: reference.augment(images, name, values.tolist())
    return lambda images: reference.operate(images, name, list(values.unbind(1)))


def class_batches(real: Tensor, draw: Draw) -> list[ClassBatch]:
    """The draws of a batched step as a loop over classes takes them."""
    return [
        ClassBatch(images, augmenting(draw, label), label)
        for label, images in enumerate(real)
    ]


# DC and DSA: a step trains the network on the images, unless each step has its own


def _gradient_settings(name: str, shape: Shape) -> GradientMatchingSettings:
    return GradientMatchingSettings(
        steps=100,
        outer_loop=1 if shape.inner_loop == 1 else 100,
        inner_loop=shape.inner_loop,
        batch_real=shape.batch_real,
        architecture=shape.architecture,
        init="noise" if name == "dc" else "real",
        augmentation="none" if name == "dc" else DSA,
        precision="fp32",
    )


def _our_gradients(name: str) -> Callable[[Shape], Step]:
    def make(shape: Shape) -> Step:
        run = run_of(name, shape)
        learner = GradientMatching(run, _gradient_settings(name, shape))
        steps = iter(range(100))

        def step() -> Tensor:
            learner.step(next(steps))
            return learner.images.flatten(0, 1)

        return step

    return make


def _plain_gradients(name: str) -> Callable[[Shape], Step]:
    def make(shape: Shape) -> Step:
        run, settings = run_of(name, shape), _gradient_settings(name, shape)
        augmentation = Augmentation(settings.augmentation, (shape.size, shape.size))
        real = RealImages(run)
        images = real.start(settings.init, run.generator("init")).flatten(0, 1)
        images = images.clone().requires_grad_()
        labels = torch.arange(shape.classes).repeat_interleave(shape.ipc)
        sgd = torch.optim.SGD([images], settings.image_lr, settings.image_momentum)
        network = network_of(shape, shape.architecture).requires_grad_()
        training = torch.optim.SGD(network.parameters(), settings.network_lr)
        steps = iter(range(100))

        def batches() -> Iterator[tuple[Tensor, Callable[[Tensor], Tensor]]]:
            for _ in range(settings.inner_loop):
                shuffling = run.generator("network/shuffle")
                order = torch.randperm(len(images), generator=shuffling)
                for index in torch.split(order, settings.network_batch):
                    draws = run.generator("network/augmentation", "cpu")
                    draw = augmentation.draw(1, draws, samples=len(index))
                    yield index, augmenting(draw)

        def step() -> Tensor:
            if next(steps) % settings.outer_loop == 0:
                builder.reinitialize(network, run.generator("network"))
            else:
                own = images.detach().clone()
                reference_gradient.train_network(
                    network, own, labels, training, list(batches())
                )
            index = real.draw(settings.batch_real, run.generator("real"))
            draw = augmentation.draw(
                shape.classes, run.generator("augmentation", "cpu")
            )
            found = class_batches(real.take(index), draw)
            reference_gradient.update_images(
                network, found, images, sgd, reference_gradient.distance_by_rows
            )
            return images.detach()

        return step

    return make


# MTT: a student on a fixed pair of an expert's snapshots


class OnePair(ExpertStore):
    """A store of experts with one pair of snapshots."""

    def __init__(self, shape: Shape) -> None:
        self.start = FlatNetwork(network_of(shape, shape.architecture)).vector()
        away = torch.randn(self.start.shape, generator=torch.Generator().manual_seed(1))
        self.target = self.start + 0.01 * away

    def pair(self, *_: int) -> Pair:
        return Pair(self.start, self.target)


def _trajectory_settings(shape: Shape) -> TrajectorySettings:
    return TrajectorySettings(
        image_lr=100.0,
        lr_lr=1e-7,
        student_lr=0.01,
        student_steps=shape.student_steps,
        architecture=shape.architecture,
        recompute=shape.recompute,
        precision="fp32",
    )


def _our_trajectory(shape: Shape) -> Step:
    run = run_of("mtt", shape)
    learner = TrajectoryMatching(run, _trajectory_settings(shape), OnePair(shape))
    steps = iter(range(100))

    def step() -> Tensor:
        learner.step(next(steps))
        return learner.images

    return step


def _plain_trajectory(shape: Shape) -> Step:
    """The graph of all student steps, differentiated at once, as published."""
    run, settings, store = (
        run_of("mtt", shape),
        _trajectory_settings(shape),
        OnePair(shape),
    )
    images = RealImages(run).start(settings.init, run.generator("init")).flatten(0, 1)
    images = images.clone().requires_grad_()
    rate = torch.tensor(settings.student_lr, requires_grad=True)
    labels = torch.arange(shape.classes).repeat_interleave(shape.ipc)
    sgd = torch.optim.SGD([images], settings.image_lr, settings.image_momentum)
    rate_sgd = torch.optim.SGD([rate], settings.lr_lr, settings.image_momentum)
    network = network_of(shape, shape.architecture)
    augmentation = Augmentation(settings.augmentation, (shape.size, shape.size))
    sizes = [(name, each.shape) for name, each in network.named_parameters()]

    def views(vector: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(vector, [each.numel() for _, each in sizes])
        return {
            name: piece.view(size)
            for (name, size), piece in zip(sizes, pieces, strict=True)
        }

    def step() -> Tensor:
        start, target = store.start, store.target
        path = [start.clone().requires_grad_()]
        for _ in range(settings.student_steps):
            order = torch.randperm(
                len(images), generator=run.generator("student/batches", "cpu")
            )
            draw = augmentation.draw(
                1, run.generator("student/augmentation", "cpu"), samples=len(order)
            )
            batch = augmenting(draw)(images[order])
            logits = functional_call(network, views(path[-1]), (batch,))
            loss = F.cross_entropy(logits, labels[order])
            (slope,) = torch.autograd.grad(loss, path[-1], create_graph=True)
            path.append(path[-1] - rate * slope)
        distance = (path[-1] - target).square().sum() / (start - target).square().sum()
        sgd.zero_grad()
        rate_sgd.zero_grad()
        torch.autograd.backward(distance, inputs=[images, rate])
        sgd.step()
        rate_sgd.step()
        return images.detach()

    return step


# Selection: the features of the train split, and a greedy choice


def _our_selection(name: str) -> Callable[[Shape], Step]:
    choose = {"herding": herding, "k_center": k_center}[name]

    def make(shape: Shape) -> Step:
        run = run_of(name, shape)
        selection = Selection(run, FeatureSettings(features="pixels"), choose)
        network = network_of(shape, shape.architecture)
        selection.features = selection.features._replace(embed=network.embed)
        selection.width = network.embed(
            run.train.take(torch.zeros(1, dtype=torch.int64))
        ).shape[1]

        def step() -> Tensor:
            selection.step(0)
            return selection.chosen.clone()

        return step

    return make


def _plain_selection(name: str) -> Callable[[Shape], Step]:
    def choose_by_herding(features: Tensor, count: int) -> list[int]:
        chosen: list[int] = []
        mean, total = features.mean(0), torch.zeros_like(features[0])
        for number in range(1, count + 1):
            distances = (number * mean - (total + features)).norm(dim=1)
            distances[chosen] = torch.inf
            chosen.append(int(distances.argmin()))
            total = total + features[chosen[-1]]
        return chosen

    def choose_by_k_center(features: Tensor, count: int) -> list[int]:
        chosen = [int((features - features.mean(0)).norm(dim=1).argmin())]
        nearest = torch.full((len(features),), torch.inf)
        while len(chosen) < count:
            away = (features - features[chosen[-1]]).norm(dim=1)
            nearest = torch.minimum(nearest, away)
            chosen.append(int(nearest.argmax()))
        return chosen

    choose = {"herding": choose_by_herding, "k_center": choose_by_k_center}[name]

    def make(shape: Shape) -> Step:
        run, network = run_of(name, shape), network_of(shape, shape.architecture)
        labels = run.train.labels

        def step() -> Tensor:
            rows = []
            for label in range(shape.classes):
                members = (labels == label).nonzero().flatten()
                with torch.no_grad():
                    pieces = torch.split(run.train.take(members), 256)
                    features = torch.cat([network.embed(piece) for piece in pieces])
                rows.append(members[choose(features, shape.ipc)])
            return torch.stack(rows)

        return step

    return make


# RDED: the best crop of each candidate


def _crop_settings(shape: Shape) -> CropSettings:
    return CropSettings(
        observers=(shape.observer,), candidates=shape.batch_real, precision="fp32"
    )


def _our_crops(shape: Shape) -> Step:
    network = network_of(shape, shape.observer)

    def step() -> Tensor:
        run = run_of("rded", shape)
        choice = CropChoice(run, _crop_settings(shape), Observers((network,), ()))
        for index in range(choice.steps):
            choice.step(index)
        return choice.images()

    return step


def _plain_crops(shape: Shape) -> Step:
    """One candidate at a time; its crops are a batch, as published."""
    network, settings = network_of(shape, shape.observer), _crop_settings(shape)

    @torch.no_grad()
    def step() -> Tensor:
        run = run_of("rded", shape)
        real = RealImages(run)
        index = real.draw(settings.candidates, run.generator("score/images"))
        drawing = run.generator("score/crops", "cpu")
        made = []
        for label, images in enumerate(real.take(index)):
            scored = []
            for image in images:
                boxes = draw_boxes(
                    settings.crops,
                    shape.size,
                    settings.crop_area,
                    drawing,
                    aspect=(1.0, 1.0),
                )
                size = [shape.size, shape.size]
                crops = torch.stack(
                    [
                        resized_crop(image, *box, size, antialias=True)
                        for box in boxes.tolist()
                    ]
                )
                labels = torch.full((len(crops),), label)
                losses = F.cross_entropy(network(crops), labels, reduction="none")
                best = int(losses.argmin())
                scored.append((float(losses[best]), crops[best]))
            scored.sort(key=lambda pair: pair[0])
            made += [crop for _, crop in scored[: shape.ipc]]
        return torch.stack(made)

    return step


# SRe2L and EDC: a step of the recovery


_RECOVERIES: dict[str, dict[str, Any]] = {
    "sre2l": {"jitter": 4, "view": "none"},
    "edc": {
        "image_lr": 0.05,
        "blocks": 1,
        "init": "real",
        "matched": "all",
        "view": "resized",
        "view_area": 0.5,
        "mirrored": True,
        "statistics_momentum": 0.8,
        "category": "pooled",
        "flatness_weight": 0.25,
    },
}


def _recovery_settings(name: str, shape: Shape) -> RecoverySettings:
    return RecoverySettings(
        observers=(shape.observer,),
        precision="fp32",
        observer_augmentation="none",
        observer_batch=64,
        **_RECOVERIES[name],
    )


def _start(run: CellRun, settings: RecoverySettings) -> Tensor:
    init: Any = settings.init
    return RealImages(run).start(init, run.generator("init")).flatten(0, 1)


def _our_recovery(name: str) -> Callable[[Shape], Step]:
    def make(shape: Shape) -> Step:
        run, settings = run_of(name, shape), _recovery_settings(name, shape)
        network = network_of(shape, shape.observer)
        found = Observers((network,), (ORIGIN,))
        learner = Recovery(run, settings, found, _start(run, settings))
        steps = iter(range(100))

        def step() -> Tensor:
            learner.step(next(steps))
            return learner.images

        return step

    return make


def _plain_recovery(name: str) -> Callable[[Shape], Step]:
    def make(shape: Shape) -> Step:
        run, settings = run_of(name, shape), _recovery_settings(name, shape)
        network = network_of(shape, shape.observer)
        images = _start(run, settings)
        labels = torch.arange(shape.classes).repeat_interleave(shape.ipc)
        # The first batch: all images, or the first one of each class.
        first = torch.arange(len(images))
        if settings.blocks == 0:
            first = first.view(shape.classes, shape.ipc)[:, 0]
        batch = images[first][: settings.recover_batch].clone().requires_grad_()
        first = first[: len(batch)]
        adam = torch.optim.Adam([batch], settings.image_lr, betas=(0.5, 0.9))
        ends = standardize(
            torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, shape.channels, 1, 1),
            run.info,
        )
        drawing, steps = run.generator("recover/view", device="cpu"), iter(range(100))
        measured = None
        if settings.needs_real_statistics:
            measured = real_statistics(run, network, ORIGIN, settings)
        loss_of = reference_recovery.Loss(network, settings, measured)

        def step() -> Tensor:
            share = next(steps) / settings.steps
            view = draw_view(settings, shape.size, share, drawing)
            for group in adam.param_groups:
                cosine = torch.cos(torch.tensor(torch.pi * share, dtype=torch.float64))
                group["lr"] = settings.image_lr * 0.5 * (1 + float(cosine))
            loss = loss_of(batch, labels[first], view)
            adam.zero_grad()
            torch.autograd.backward(loss, inputs=[batch])
            adam.step()
            with torch.no_grad():
                batch.copy_(torch.minimum(torch.maximum(batch, ends[0]), ends[1]))
                images[first] = batch
            loss_of.after(batch.detach())
            return images

        return step

    return make


PAIRS: dict[str, Sides] = {
    **{n: Sides(_our_gradients(n), _plain_gradients(n)) for n in ("dc", "dsa")},
    "mtt": Sides(_our_trajectory, _plain_trajectory),
    **{
        n: Sides(_our_selection(n), _plain_selection(n))
        for n in ("herding", "k_center")
    },
    "rded": Sides(_our_crops, _plain_crops),
    **{n: Sides(_our_recovery(n), _plain_recovery(n)) for n in ("sre2l", "edc")},
}
