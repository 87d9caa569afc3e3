"""Crops, statistics and losses against slow versions on random inputs."""

from pathlib import Path

import plain_decoupled as plain
import pytest
import torch
from support import cell_run, dataset
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resized_crop

from dcbench_bacon.distillation.decoupled import regularisers
from dcbench_bacon.distillation.decoupled.crops import (
    draw_boxes,
    least_area,
    resized_crops,
)
from dcbench_bacon.distillation.decoupled.matching import (
    Members,
    StatisticsMatching,
    mixture,
)
from dcbench_bacon.distillation.decoupled.moments import (
    Moments,
    Probe,
    batch_moments,
    image_moments,
)
from dcbench_bacon.distillation.decoupled.real_statistics import (
    LayerStatistics,
    StatisticsPass,
)
from dcbench_bacon.distillation.decoupled.realistic import tiled
from dcbench_bacon.distillation.decoupled.recovery import batches
from dcbench_bacon.distillation.decoupled.settings import RecoverySettings
from dcbench_bacon.distillation.decoupled.views import View, draw_view
from dcbench_bacon.errors import UsageError


def close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether the relative error is small."""
    scale = other.abs().max().clamp(min=1e-12)
    return bool((one - other).abs().max() <= tolerance * scale)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [5, 8, 16])
def test_crops_are_those_of_torchvision(side: int) -> None:
    images = random(40, 3, 8, 8)
    boxes = draw_boxes(40, 8, 0.08, torch.Generator().manual_seed(1))
    crops = resized_crops(images, boxes, side)
    for image, box, crop in zip(images, boxes.tolist(), crops, strict=True):
        wanted = resized_crop(image, *box, [side, side], antialias=True)
        assert close(crop, wanted)


def test_boxes_lie_inside_and_cover_the_least_area() -> None:
    boxes = draw_boxes(5000, 32, 0.3, torch.Generator().manual_seed(1))
    top, left, height, width = boxes.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert int((top + height).max()) == int((left + width).max()) == 32
    share = height * width / 32**2
    assert 0.27 < float(share.min()) < 0.33
    assert 0.57 < float(share.mean()) < 0.65  # large boxes often do not fit
    ratio = width / height
    assert 0.7 < float(ratio.min()) < 0.8
    square = draw_boxes(500, 32, 0.3, torch.Generator(), aspect=(1.0, 1.0))
    assert torch.equal(square[:, 2], square[:, 3])
    whole = draw_boxes(50, 32, 1.0, torch.Generator())
    assert whole.tolist() == [[0, 0, 32, 32]] * 50


@pytest.mark.parametrize(
    ("curriculum", "milestone", "wanted"),
    [
        ("cosine", 1.0, (1.0, 0.865, 0.54, 0.215)),
        ("linear", 1.0, (1.0, 0.77, 0.54, 0.31)),
        ("linear", 0.5, (1.0, 0.54, 0.08, 0.08)),
        ("step", 0.5, (1.0, 1.0, 0.08, 0.08)),
        ("cosine", 0.0, (0.08, 0.08, 0.08, 0.08)),
        ("none", 1.0, (0.08, 0.08, 0.08, 0.08)),
    ],
)
def test_the_curriculum(
    curriculum: str, milestone: float, wanted: tuple[float, ...]
) -> None:
    settings = RecoverySettings(curriculum=curriculum, milestone=milestone)  # type: ignore[arg-type]
    found = [least_area(settings, done) for done in (0.0, 0.25, 0.5, 0.75)]
    assert found == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("shift", [(0, 0), (1, -1), (-2, 0), (2, 2)])
def test_a_view_moves_mirrors_and_rolls(shift: tuple[int, int]) -> None:
    images = random(4, 1, 8, 8)
    down, right = shift
    padded = F.pad(images, (2, 2, 2, 2))
    wanted = padded[..., 2 - down : 10 - down, 2 - right : 10 - right]
    assert torch.equal(View(shift=shift)(images), wanted)
    seen = View(shift=shift, mirrored=True, roll=(1, -3))(images)
    assert torch.equal(seen, torch.roll(wanted.flip(-1), (1, -3), (2, 3)))


def test_views_are_drawn_in_their_ranges() -> None:
    stream = torch.Generator().manual_seed(0)
    both = RecoverySettings(view="shift", jitter=2, jitter_signed=True, mirrored=True)
    views = [draw_view(both, 32, 0.0, stream) for _ in range(400)]
    assert {view.shift[0] for view in views} == set(range(-4, 5))
    assert {view.roll[1] for view in views} == set(range(-2, 3))
    assert {view.mirrored for view in views} == {True, False}
    one = [draw_view(RecoverySettings(jitter=2), 32, 0.0, stream) for _ in range(99)]
    assert {view.roll[0] for view in one} == {0, 1, 2}


@pytest.mark.parametrize(("size", "patch"), [(8, 4), (6, 4), (2, 4), (8, 0)])
def test_moments_are_those_of_a_loop(size: int, patch: int) -> None:
    maps = random(5, 3, size, size) * 3 + 1
    found = [each for each in batch_moments(maps, patch) if each.numel()]
    for own, other in zip(found, plain.statistics(maps, patch), strict=True):
        assert close(own, other)
    each = image_moments(maps, patch)
    for row in range(5):
        own_row = [part[row] for part in each if part.numel()]
        wanted = plain.statistics(maps[row : row + 1], patch)
        for own, other in zip(own_row, wanted, strict=True):
            assert close(own, other)


@pytest.mark.parametrize(
    "name",
    [
        *("ConvNetD2W8BN", "ConvNetD2W8", "ResNet18BN"),
        *("WRN-16-2", "MobileNetV2", "ShuffleNetV2-0.5"),
    ],
)
def test_the_probe_reads_what_hooks_read(name: str) -> None:
    net, images = plain.network(name), random(3, 1, 8, 8)
    _, inputs = Probe(net, True, 4)(images)
    wanted = plain.layer_inputs(net, images, nn.BatchNorm2d, nn.Conv2d)
    assert len(inputs) == len(wanted)
    for own in inputs:  # blocks call their layers in another order than they list them
        assert any(torch.equal(own, other) for other in wanted)


def test_an_observer_without_batch_norms_needs_convolutions() -> None:
    with pytest.raises(UsageError, match="matched=all"):
        Probe(plain.network("ConvNetD2W8"), False, 4)


def test_a_batch_with_the_running_statistics_has_no_distance() -> None:
    net = plain.network()
    settings = RecoverySettings()
    matching = StatisticsMatching(Probe(net, False, 4), None, settings)
    inputs = []
    for running in matching.pooled:
        maps = random(6, len(running.mean), 4, 4)
        mean, variance = (each.view(1, -1, 1, 1) for each in batch_moments(maps, 0)[:2])
        target_mean, target_variance = (
            each.view(1, -1, 1, 1) for each in (running.mean, running.variance)
        )
        unit = (maps - mean) / variance.sqrt()
        inputs.append(unit * target_variance.sqrt() + target_mean)
    assert float(matching(inputs, [False] * len(inputs))) < 1e-4


def layer(classes: int = 3, channels: int = 4, cells: int = 5) -> LayerStatistics:
    """Random statistics of real images."""

    def moments(*group: int) -> Moments:
        parts = [random(*group, size, seed=size) for size in (channels, 9, cells, 9)]
        parts[1], parts[3] = parts[0].square() + 1, parts[2].square() + 1
        return Moments(*parts)

    between = random(classes, channels).square(), random(classes, cells).square()
    return LayerStatistics(moments(), moments(classes), between)


def matching_of(settings: RecoverySettings) -> StatisticsMatching:
    """The loss of one convolution with random targets."""
    net = plain.network("ConvNetD1W8")
    probe = Probe(net, True, settings.patch)
    assert len(probe.layers) == 1
    return StatisticsMatching(probe, [layer(channels=4, cells=4)], settings)


LABELS = torch.tensor([0, 0, 2, 2, 2, 1])


@pytest.mark.parametrize("variance", ["image", "total"])
@pytest.mark.parametrize("category", ["none", "pooled", "per_class"])
def test_the_matching_loss_is_that_of_a_loop(category: str, variance: str) -> None:
    settings = RecoverySettings(
        matched="all",
        category=category,  # type: ignore[arg-type]
        category_variance=variance,  # type: ignore[arg-type]
        global_share=0.3,
        first_weight=7.0,
    )
    matching, maps = matching_of(settings), random(6, 4, 8, 8, seed=5)
    matching.begin(LABELS)
    real = layer(channels=4, cells=4)
    present = plain.statistics(maps, 4)
    whole = plain.distance(present, [*real.pooled])
    targets = real.images if variance == "image" else real.total()
    by_class = torch.zeros(())
    if category == "pooled":
        rows = [[part[label] for part in targets] for label in LABELS.tolist()]
        mixed = [torch.stack(column).mean(0) for column in zip(*rows, strict=True)]
        if variance == "total":
            for mean, spread in ((0, 1), (2, 3)):
                centres = torch.stack([row[mean] for row in rows])
                mixed[spread] = mixed[spread] + centres.var(0, correction=0)
        by_class = plain.distance(present, mixed)
    elif category == "per_class":
        for label in range(3):
            own = maps[label == LABELS]
            singles = [plain.statistics(image[None], 4) for image in own]
            parts = [torch.stack(each).mean(0) for each in zip(*singles, strict=True)]
            if variance == "total":
                parts = plain.statistics(own, 4)
            row = [part[label] for part in targets]
            by_class = by_class + len(own) / 6 * plain.distance(parts, row)
    wanted = 7 * (whole if category == "none" else 0.3 * whole + 0.7 * by_class)
    assert close(matching([maps], [False]), wanted)


def test_all_weight_on_the_whole_is_matching_without_categories() -> None:
    maps, losses = random(6, 4, 8, 8, seed=5), []
    for category in ("none", "pooled", "per_class"):
        settings = RecoverySettings(
            matched="all",
            category=category,
            global_share=1.0,
        )
        matching = matching_of(settings)
        matching.begin(LABELS)
        losses.append(float(matching([maps], [False])))
    assert losses[1:] == pytest.approx(losses[:1] * 2)


def test_of_one_class_both_forms_have_the_same_mean_term() -> None:
    settings = RecoverySettings(matched="all", category="pooled")
    real = layer(channels=4, cells=4)
    labels = torch.tensor([2, 2, 2])
    mixed = mixture(real.images, Members.of(labels), settings.category_variance)
    assert torch.allclose(mixed.mean, real.images.mean[2])


@pytest.mark.parametrize("compat_bugs", [False, True])
def test_moving_averages_have_the_gradient_of_the_present(compat_bugs: bool) -> None:
    settings = RecoverySettings(
        matched="all", statistics_momentum=0.8, compat_bugs=compat_bugs
    )
    matching = matching_of(settings)
    average = None
    for seed in range(3):
        maps = random(6, 4, 8, 8, seed=seed).requires_grad_()
        followed = matching._follow(0, batch_moments(maps, 4))
        present = plain.statistics(maps, 4)
        if average is None:
            start = [
                torch.zeros_like(each) if compat_bugs else each for each in present
            ]
            average = [each.detach() for each in start]
        average = [
            (0.8 * old + 0.2 * new).detach()
            for old, new in zip(average, present, strict=True)
        ]
        for own, value, new in zip(followed, average, present, strict=True):
            assert close(own.detach(), value)
            weights = random(*new.shape, seed=9)
            (gradient,) = torch.autograd.grad(
                (own * weights).sum(), maps, retain_graph=True
            )
            (wanted,) = torch.autograd.grad(
                (new * weights).sum(), maps, retain_graph=True
            )
            assert close(gradient, wanted, 1e-4)


def test_compat_bugs_exchange_the_patch_targets_of_classes() -> None:
    plainly, faulty = (
        matching_of(
            RecoverySettings(matched="all", category="pooled", compat_bugs=compat)
        ).by_class[0]
        for compat in (False, True)
    )
    assert torch.equal(faulty.patch_mean, plainly.patch_variance)
    assert torch.equal(faulty.patch_variance, plainly.patch_mean)
    assert torch.equal(faulty.mean, plainly.mean)


def test_real_statistics_are_those_of_a_loop(tmp_path: Path) -> None:
    source = dataset(per_class=30)
    run = cell_run(source, tmp_path)
    net = plain.network("ConvNetD2W8BN")
    settings = RecoverySettings(matched="all", observer_augmentation="none")
    learner = StatisticsPass(run, net, settings)
    for step in range(learner.batches):
        learner.step(step)
    images, labels = learner.real.labelled(torch.arange(90))
    probe = learner.probe
    shares = [learner.order[:64], learner.order[64:]]
    for index, found in enumerate(learner.result()):
        patch = probe.patches[index]

        def inputs(chosen: Tensor, index: int = index) -> Tensor:
            return probe(images[chosen])[1][index]

        whole = [plain.statistics(inputs(part), patch) for part in shares]
        for own, one, other in zip(
            [each for each in found["pooled"] if each.numel()], *whole, strict=True
        ):
            assert close(own, (64 * one + 26 * other) / 90)
        for label in range(3):
            singles = [
                plain.statistics(inputs(torch.tensor([i])), patch)
                for i in torch.nonzero(labels == label).flatten().tolist()
            ]
            columns = [torch.stack(each) for each in zip(*singles, strict=True)]
            own_rows = [e[label] for e in found["images"] if e.numel()]
            for own, column in zip(own_rows, columns, strict=True):
                assert close(own, column.mean(0))
            between = [e[label] for e in found["between"] if e.numel()]
            for own, column in zip(between, columns[::2], strict=True):
                assert close(own, column.var(0, correction=0), 1e-4)


def test_total_variation_and_norm_are_those_of_a_loop() -> None:
    images = random(3, 2, 5, 5)
    total = 0.0
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        squares = [
            float(images[i, c, y + down, x + right] - images[i, c, y, x]) ** 2
            for i in range(3)
            for c in range(2)
            for y in range(5 - down)
            for x in range(5)
            if 0 <= x + right < 5
        ]
        total += sum(squares) ** 0.5
    assert float(regularisers.total_variation(images)) == pytest.approx(total, rel=1e-5)
    norms = [float(image.square().sum().sqrt()) for image in images]
    wanted = sum(norms) / 3
    assert float(regularisers.mean_norm(images)) == pytest.approx(wanted, rel=1e-5)


def test_density_is_that_of_a_loop() -> None:
    counts = (3, 1, 3, 2)
    images = random(9, 1, 8, 8)
    wanted, start = 0.0, 0
    for count in counts:
        own = images[start : start + count].flatten(1).double()
        values = torch.linalg.eigvalsh(own @ own.T)
        target, given = (values / 4).softmax(0), values.softmax(0)
        wanted += float((target * (target.log() - given.log())).sum())
        start += count
    found = regularisers.density(images, counts, 4.0)
    assert float(found) == pytest.approx(wanted, rel=1e-4)
    assert float(regularisers.density(images, (1,) * 9, 4.0)) == 0


@pytest.mark.parametrize("turned", [False, True])
def test_flatness_is_that_of_a_loop(turned: bool) -> None:
    own, average = random(5, 4), random(5, 4, seed=1)
    first, second = ((each / 4).softmax(1) for each in (own, average))
    if turned:
        first, second = second, first
    wanted = (first * (first / second).log()).sum(1).mean()
    assert close(regularisers.flatness(own, average, 4.0, turned), wanted)


def test_batches_are_cut_class_by_class_from_each_block() -> None:
    labels = torch.arange(3).repeat_interleave(4)

    def classes(*arguments: int) -> list[list[int]]:
        return [labels[each].tolist() for each in batches(3, 4, *arguments)]

    assert classes(0, 100) == [[0, 1, 2]] * 4
    assert classes(0, 2) == [[0, 1], [2]] * 4
    assert classes(1, 100) == [[0] * 4 + [1] * 4 + [2] * 4]
    assert classes(1, 6) == [[0, 0, 0, 0, 1, 1], [1, 1, 2, 2, 2, 2]]
    assert classes(2, 100) == [[0, 0, 1, 1, 2, 2]] * 2
    found = torch.cat(batches(3, 4, 2, 5)).sort().values
    assert torch.equal(found, torch.arange(12))


def test_crops_are_tiled_row_by_row() -> None:
    crops = torch.arange(2 * 8.0).view(2, 8, 1, 1, 1)  # 2 classes, 2 images, 4 cells
    images = tiled(crops, 2)
    assert images.shape == (4, 1, 2, 2)
    for label in range(2):
        for image in range(2):
            cells = [
                [label * 8 + k * 2 + image for k in row] for row in ([0, 1], [2, 3])
            ]
            assert images[label * 2 + image, 0].tolist() == cells
