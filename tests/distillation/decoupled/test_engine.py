"""The engine against plain loops, and runs that are stopped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import plain_decoupled as plain
import pytest
import torch
from support import cell_run, dataset
from support import method as create
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resized_crop

from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import Dataset, denormalize, normalize, standardize
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.decoupled import recover
from dcbench_bacon.distillation.decoupled.real_statistics import real_statistics
from dcbench_bacon.distillation.decoupled.realistic import CropChoice
from dcbench_bacon.distillation.decoupled.recovery import Recovery
from dcbench_bacon.distillation.decoupled.settings import (
    CropSettings,
    RecoverySettings,
)
from dcbench_bacon.distillation.decoupled.squeeze import Observers, observers
from dcbench_bacon.distillation.decoupled.views import draw_view
from dcbench_bacon.errors import InterruptedRunError, UsageError
from dcbench_bacon.networks.base import Network
from dcbench_bacon.recipes import protocols
from dcbench_bacon.running.plans import planning
from dcbench_bacon.running.run import CellRun, RunConfig, RunContext
from dcbench_bacon.schema import Cell

SQUEEZE: dict[str, Any] = {
    "observer_passes": 2,
    "observer_batch": 16,
    "observer_lr": 0.05,
    "observer_augmentation": "none",
    "precision": "fp32",
}
STEPS = 10


class Scene:
    """A recovery, and what a plain loop needs to do the same."""

    def __init__(self, folder: Path, nets: tuple[str, ...], **changes: Any) -> None:
        self.settings = RecoverySettings(
            observers=nets, steps=STEPS, **SQUEEZE, **changes
        )
        self.run = cell_run(dataset(), folder / "a", ipc=3)
        self.found = observers(self.run, self.settings)
        self.start = RealImages(self.run).start(
            "noise", torch.Generator().manual_seed(3)
        )
        self.start = self.start.flatten(0, 1)
        low, high = standardize(
            torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), self.run.info
        )
        self.ends = float(low), float(high)
        other = cell_run(dataset(), folder / "b", ipc=3)
        self.viewing = other.generator("recover/view", device="cpu")
        self.labels = torch.arange(3).repeat_interleave(3)

    def recovered(self) -> Tensor:
        learner = Recovery(self.run, self.settings, self.found, self.start)
        for step in range(learner.steps):
            learner.step(step)
        return learner.images

    def see(self, images: Tensor, step: int) -> tuple[Tensor, Any]:
        """The step's view by torchvision; and how to see other images alike."""
        view = draw_view(self.settings, 8, step / STEPS, self.viewing)

        def seen(each: Tensor) -> Tensor:
            if view.box is not None:
                each = resized_crop(each, *view.box[0].tolist(), [8, 8], antialias=True)
            if any(view.shift):
                padded = F.pad(each, (1, 1, 1, 1))
                down, right = view.shift
                each = padded[..., 1 - down : 9 - down, 1 - right : 9 - right]
            if view.mirrored:
                each = each.flip(-1)
            return torch.roll(each, view.roll, (2, 3))

        return seen(images), seen

    def real(self, index: int) -> Any:
        return real_statistics(
            self.run,
            self.found.networks[index],
            self.found.origins[index],
            self.settings,
        )


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-4)


def running(layer: nn.Module) -> list[Tensor]:
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return [layer.running_mean, layer.running_var]


def norms_of(net: Network) -> list[nn.Module]:
    return [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]


@pytest.mark.parametrize("view", ["none", "resized"])
def test_sre2l_is_a_plain_loop(view: str, tmp_path: Path) -> None:
    """One batch per image of each class, one observer, running statistics."""
    scene = Scene(
        tmp_path, ("ConvNetD2W8BN",), view=view, jitter=2, mirrored=view != "none"
    )
    (net,) = scene.found.networks
    made = scene.start.clone()
    for image in range(3):
        chosen = torch.tensor([image, 3 + image, 6 + image])

        def loss(step: int, images: Tensor) -> Tensor:
            seen, _ = scene.see(images, step)
            total = torch.zeros(())
            inputs = plain.layer_inputs(net, seen, nn.BatchNorm2d)
            for index, (maps, norm) in enumerate(
                zip(inputs, norms_of(net), strict=True)
            ):
                weight = 10 if index == 0 else 1
                found = plain.statistics(maps, 0)
                total = total + weight * plain.distance(found, running(norm))
            return F.cross_entropy(net(seen), torch.arange(3)) + 0.01 * total

        made[chosen] = plain.optimise(made[chosen], STEPS, 0.25, scene.ends, loss)
    assert close(scene.recovered(), made)
    assert not close(scene.start, made)


class Followed:
    """Moving averages of plain statistics, with the gradient of the present ones."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.averages: dict[tuple[int, int], list[Tensor]] = {}

    def __call__(self, key: tuple[int, int], values: list[Tensor]) -> list[Tensor]:
        old = self.averages.get(key, [each.detach() for each in values])
        new = [
            self.share * one + (1 - self.share) * value.detach()
            for one, value in zip(old, values, strict=True)
        ]
        self.averages[key] = new
        return [
            average + value - value.detach()
            for average, value in zip(new, values, strict=True)
        ]


def spectrum(seen: Tensor, classes: int) -> Tensor:
    """The densification of classes of as many images each."""
    total = torch.zeros(())
    for own in seen.flatten(1).chunk(classes):
        values = torch.linalg.eigvalsh(own @ own.T)
        target = (values.detach() / 4).softmax(0)
        total = total + (target * (target.log() - values.log_softmax(0))).sum()
    return total


@pytest.mark.parametrize("kind", ["gvbsm", "edc", "edc_per_class"])
def test_gvbsm_and_edc_are_plain_loops(kind: str, tmp_path: Path) -> None:
    """All images in one batch, two observers in turn, all layers, averages."""
    common = {"blocks": 1, "matched": "all", "image_lr": 0.05}
    common["statistics_momentum"] = 0.8
    own: dict[str, Any] = {"view": "shift", "jitter": 8, "density_weight": 1.0}
    if kind != "gvbsm":
        own = {"view": "resized", "view_area": 0.5, "flatness_weight": 0.25}
        own["category"] = "pooled" if kind == "edc" else "per_class"
    scene = Scene(
        tmp_path, ("ConvNetD2W8BN", "ConvNetD1W8"), mirrored=True, **common, **own
    )
    follow, average = Followed(0.8), scene.start.clone()
    real = [scene.real(0), scene.real(1)]

    def loss(step: int, images: Tensor) -> Tensor:
        seen, see = scene.see(images, step)
        turn = step % 2
        net = scene.found.networks[turn]
        layers = [
            each
            for each in net.modules()
            if isinstance(each, nn.BatchNorm2d | nn.Conv2d)
        ]
        inputs = plain.layer_inputs(net, seen, nn.BatchNorm2d, nn.Conv2d)
        total = torch.zeros(())
        for index, (layer, maps) in enumerate(zip(layers, inputs, strict=True)):
            patch = 4 if isinstance(layer, nn.Conv2d) else 0
            measured = real[turn][index]
            target = [*measured.pooled] if patch else running(layer)
            present = follow((turn, index), plain.statistics(maps, patch))
            term = plain.distance(present, target)
            if kind == "edc":
                mean = [part.mean(0) for part in measured.images if part.numel()]
                term = term / 2 + plain.distance(present, mean) / 2
            elif kind == "edc_per_class":
                term = term / 2
                for label in range(3):
                    singles = [
                        plain.statistics(image[None], patch)
                        for image in maps[3 * label : 3 * label + 3]
                    ]
                    mean = [torch.stack(e).mean(0) for e in zip(*singles, strict=True)]
                    row = [part[label] for part in measured.images if part.numel()]
                    term = term + plain.distance(mean, row) / 6
            total = total + (10 if index == 0 else 1) * term
        logits = net(seen)
        result = F.cross_entropy(logits, scene.labels) + 0.01 * total
        if kind == "gvbsm":
            return result + spectrum(seen, 3)
        first, second = ((each / 4).softmax(1) for each in (logits, net(see(average))))
        flatness = (first * (first / second).log()).sum(1).mean()
        return torch.add(result, flatness, alpha=0.25)

    def after(images: Tensor) -> None:
        average.copy_(0.99 * average + 0.01 * images)

    made = plain.optimise(scene.start, STEPS, 0.05, scene.ends, loss, after)
    assert close(scene.recovered(), made)
    assert not close(scene.start, made)


def test_rded_is_a_plain_loop(tmp_path: Path) -> None:
    """The best of a class's crops, each of another image, best first, tiled."""
    run = cell_run(dataset(), tmp_path, method="rded", ipc=2)
    settings = CropSettings(
        observers=("ConvNetD2W8BN",), candidates=12, factor=2, crops=3, **SQUEEZE
    )
    made = create("rded", _values(settings)).distill(run)
    (net,) = observers(run, settings).networks
    again = cell_run(dataset(), tmp_path / "again", method="rded", ipc=2)
    choice = CropChoice(again, settings, Observers((net,), ()))
    for step in range(choice.steps):
        choice.step(step)
    images = normalize(run.train.images[choice.index], run.info)
    best = []
    for position, box in enumerate(choice.boxes.tolist()):
        crop = resized_crop(images[position], *box, [4, 4], antialias=True)
        logits = net(F.pad(crop, (2, 2, 2, 2))[None])
        label = torch.tensor([position // 12])
        best.append((float(F.cross_entropy(logits, label)), crop))
    for class_index in range(3):
        crops = [
            crop
            for _, crop in sorted(
                best[12 * class_index : 12 * class_index + 12], key=_loss
            )
        ]
        for number in range(2):
            rows = [
                torch.cat([crops[number], crops[2 + number]], 2),
                torch.cat([crops[4 + number], crops[6 + number]], 2),
            ]
            assert close(made.images[2 * class_index + number], torch.cat(rows, 1))


def _loss(pair: tuple[float, Tensor]) -> float:
    return pair[0]


def _values(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def distil(
    folder: Path, shared: Path, context: RunContext | None = None, **changes: Any
) -> SyntheticSet:
    """A recovery with every kind of state, from crops, of three batches."""
    settings = RecoverySettings(
        observers=("ConvNetD2W8BN", "ConvNetD1W8"),
        steps=3,
        init="rded",
        candidates=8,
        view="resized",
        mirrored=True,
        jitter=2,
        matched="all",
        drop_rate=0.3,
        statistics_momentum=0.5,
        flatness_weight=0.2,
        category="pooled",
        labels="soft",
        **{**SQUEEZE, **changes},
    )
    source = dataset()
    context = context or RunConfig(torch.device("cpu")).here()
    cell = Cell("edc", source.info.name, 3)
    run = CellRun(cell, source, context, folder, shared)
    return recover(run, settings)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> SyntheticSet:
    """The set of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("quiet")
    return distil(folder / "run", folder / "shared")


@pytest.mark.parametrize("after", [9, 15, 21])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    after: int, quiet: SyntheticSet, tmp_path: Path
) -> None:
    asked: Iterator[int] = iter(range(1, 1000))
    config = RunConfig(torch.device("cpu"), checkpoint_every=0.0)
    stopped = config.here(stop=lambda: next(asked) >= after)
    with pytest.raises(InterruptedRunError):
        distil(tmp_path / "c", tmp_path / "shared", stopped)
    again = distil(tmp_path / "c", tmp_path / "shared")
    assert torch.equal(again.images, quiet.images)
    assert torch.equal(again.labels, quiet.labels)


def test_soft_labels_are_the_observers(tmp_path: Path) -> None:
    made = distil(tmp_path / "a", tmp_path / "shared", label_temperature=2.0)
    assert torch.allclose(made.labels.sum(1), torch.ones(9))
    run = cell_run(dataset(), tmp_path / "b", ipc=3)
    names = ("ConvNetD2W8BN", "ConvNetD1W8")
    found = observers(run, RecoverySettings(observers=names, **SQUEEZE))
    wanted = sum(net(made.images) for net in found.networks) / 2
    assert torch.allclose(made.labels, (wanted / 2).softmax(1), atol=1e-5)


@pytest.mark.parametrize(("factor", "message"), [(3, "factor"), (4, "candidates")])
def test_settings_that_cannot_work_are_refused(
    factor: int, message: str, tmp_path: Path
) -> None:
    run = cell_run(dataset(), tmp_path, ipc=2)
    settings = CropSettings(observers=("ConvNetD2W8BN",), factor=factor, **SQUEEZE)
    with pytest.raises(UsageError, match=message):
        create("rded", _values(settings)).distill(run)


@pytest.mark.slow
def test_observers_recognise_recovered_digits(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last iterate of SRe2L's demo, rounded to bytes."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    source: Dataset = loading.load("digits", None, torch.device("cpu"))
    cell = Cell("sre2l", "digits", 1)
    recipe = planning.resolve(cell, protocols.Request(preset="demo")).recipe
    run = CellRun(cell, source, RunConfig(torch.device("cpu")).here(), tmp_path)
    made = create("sre2l", dict(recipe.settings)).distill(run)
    pixels = denormalize(made.images, source.info)
    assert float(pixels.min()) > -1e-5
    assert float(pixels.max()) < 1 + 1e-5
    stored = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    settings = msgspec.convert(recipe.settings, RecoverySettings)
    (net,) = observers(run, settings).networks
    seen = net(normalize(stored, source.info)).argmax(1)
    assert float((seen == made.labels.argmax(1)).float().mean()) >= 0.95
