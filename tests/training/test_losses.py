"""Losses, mixing, schedules and AdamW against plain loops and hand-computed values."""

from collections.abc import Sequence
from math import cos, exp, log, pi

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from dcbench_bacon.augmentation.mixing import Mix, Mixer
from dcbench_bacon.errors import UsageError
from dcbench_bacon.networks import base, builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.training import schedules
from dcbench_bacon.training.losses import Criterion, Targets
from dcbench_bacon.training.optimisers import FlatAdamW, FlatSGD

SMALL = "ConvNetD1W8"


def protocol(**changes: object) -> Protocol:
    return Protocol(**{"name": "test", **changes})  # type: ignore[arg-type]


def softmax(row: Sequence[float], temperature: float = 1.0) -> list[float]:
    powers = [exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(labels: Sequence[float], logits: Sequence[float]) -> float:
    outputs = softmax(logits)
    return -sum(p * log(q) for p, q in zip(labels, outputs, strict=True))


def divergence(
    teacher: Sequence[float], logits: Sequence[float], temperature: float
) -> float:
    labels, outputs = softmax(teacher, temperature), softmax(logits, temperature)
    return sum(p * log(p / q) for p, q in zip(labels, outputs, strict=True) if p)


def batch(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a network, logits of a teacher, rows of probabilities."""
    logits = torch.randn(3, 5, 4, generator=generator).double()
    return logits[0], 3 * logits[1], logits[2].softmax(1)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def loss(rules: Protocol, logits: Tensor, labels: Tensor, original: Tensor) -> float:
    return float(Criterion(rules)(logits, Targets(labels, original)))


@pytest.mark.parametrize("weight", [0.0, 0.15])
@pytest.mark.parametrize("squared", [False, True])
def test_losses_by_hand_with_a_teacher(
    weight: float, squared: bool, generator: torch.Generator
) -> None:
    logits, teacher, original = batch(generator)
    rows = list(zip(logits.tolist(), teacher.tolist(), strict=True))
    extra = weight * mean(
        [
            cross_entropy(p, s)
            for p, s in zip(original.tolist(), logits.tolist(), strict=True)
        ]
    )
    expected = {
        "ce": mean([cross_entropy(softmax(t), s) for s, t in rows]),
        "kl": mean([divergence(t, s, 20.0) for s, t in rows]) * (400 if squared else 1),
        "mse": mean([(a - b) ** 2 for s, t in rows for a, b in zip(s, t, strict=True)]),
    }
    for name, value in expected.items():
        rules = protocol(
            loss=name,
            teachers=("ConvNet",),
            temperature=20.0,
            temperature_squared=squared,
            original_weight=weight,
        )
        assert loss(rules, logits, teacher, original) == pytest.approx(value + extra)


def test_losses_by_hand_with_stored_labels(generator: torch.Generator) -> None:
    logits, _, labels = batch(generator)
    rows = list(zip(logits.tolist(), labels.tolist(), strict=True))

    def centred(row: list[float]) -> list[float]:
        logs = [log(p) for p in row]
        return [value - mean(logs) for value in logs]

    expected = {
        "ce": mean([cross_entropy(p, s) for s, p in rows]),
        "kl": mean([divergence([log(v) for v in p], s, 4.0) for s, p in rows]),
        "mse": mean(
            [(a - b) ** 2 for s, p in rows for a, b in zip(s, centred(p), strict=True)]
        ),
    }
    for name, value in expected.items():
        rules = protocol(loss=name, temperature=4.0)
        assert loss(rules, logits, labels, labels) == pytest.approx(value)


def test_the_logarithm_of_a_teachers_label_is_as_good_as_its_logits(
    generator: torch.Generator,
) -> None:
    logits, teacher, original = batch(generator)
    stored = teacher.softmax(1)
    for name in ("ce", "kl"):
        online = protocol(loss=name, temperature=7.0, teachers=("ConvNet",))
        kept = protocol(loss=name, temperature=7.0)
        assert loss(kept, logits, stored, original) == pytest.approx(
            loss(online, logits, teacher, original)
        )


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_a_hard_label_stays_hard_at_any_temperature(
    temperature: float, generator: torch.Generator
) -> None:
    logits, _, _ = batch(generator)
    logits.requires_grad_()
    hard = torch.eye(4).double()[[0, 1, 2, 3, 0]]
    rules = protocol(loss="kl", temperature=temperature)
    found = Criterion(rules)(logits, Targets(hard, hard))
    rows = zip(hard.tolist(), (logits / temperature).tolist(), strict=True)
    expected = mean([cross_entropy(p, s) for p, s in rows])
    assert found.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(found, logits)
    assert torch.isfinite(gradient).all()


def test_squared_errors_of_hard_labels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"protocol\.teachers"):
        Criterion(protocol(loss="mse")).check(torch.eye(3))
    Criterion(protocol(loss="mse")).check(torch.full((2, 4), 0.25))
    Criterion(protocol(loss="mse", teachers=("ConvNet",))).check(torch.eye(3))


@pytest.mark.parametrize("name", ["ce", "kl", "mse"])
@pytest.mark.parametrize("teachers", [(), ("ConvNet",)])
def test_losses_of_several_networks_at_once(
    name: str, teachers: tuple[str, ...], generator: torch.Generator
) -> None:
    rules = protocol(loss=name, teachers=teachers, original_weight=0.2, temperature=3.0)
    logits, labels, original = torch.randn(3, 2, 5, 4, generator=generator)
    original = original.softmax(2)
    labels = labels if teachers else labels.softmax(2)
    found = vmap(Criterion(rules))(logits, Targets(labels, original))
    for row in range(2):
        single = loss(rules, logits[row], labels[row], original[row])
        assert float(found[row]) == pytest.approx(single, rel=1e-5)


def test_cross_entropy_with_stored_labels_is_torchs_own(
    generator: torch.Generator,
) -> None:
    logits, _, labels = batch(generator)
    found = Criterion(protocol())(logits, Targets(labels, labels))
    assert torch.equal(found, torch.nn.functional.cross_entropy(logits, labels))


# Mixing


def draws(kind: str, count: int, alpha: float = 1.0, size: int = 8) -> list[Mix]:
    generator = torch.Generator().manual_seed(5)
    mixer = Mixer(kind, alpha, size)  # type: ignore[arg-type]
    return [mixer.draw(6, generator) for _ in range(count)]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_images_and_labels_are_mixed_alike(
    kind: str, generator: torch.Generator
) -> None:
    images = torch.randn(3, 6, 2, 8, 8, generator=generator)
    labels = torch.randn(3, 6, 4, generator=generator).softmax(2)
    before = images.clone(), labels.clone()
    drawn = draws(kind, 3)
    mix = Mix.cat(drawn)
    found, mixed = mix.images(images), mix.labels(labels)
    for group, each in enumerate(drawn):
        kept = each.kept[0]
        for i, j in enumerate(each.partners[0].tolist()):
            for y in range(8):
                for x in range(8):
                    share = float(kept[y, x])
                    own, other = images[group, i, :, y, x], images[group, j, :, y, x]
                    expected = share * own + (1 - share) * other
                    assert torch.allclose(found[group, i, :, y, x], expected, atol=1e-6)
            share = float(kept.mean())
            expected = share * labels[group, i] + (1 - share) * labels[group, j]
            assert torch.allclose(mixed[group, i], expected, atol=1e-6)
    assert torch.allclose(mixed.sum(2), torch.ones(3, 6))
    assert torch.equal(images, before[0])  # nothing is mixed in place
    assert torch.equal(labels, before[1])
    assert (found - images).abs().max() > 0.1
    assert (mixed - labels).abs().max() > 0.01


def test_cutmix_pastes_one_box_that_the_border_cuts_off() -> None:
    shares, clipped = [], 0
    for each in draws("cutmix", 400, size=16):
        kept = each.kept[0]
        assert set(kept.flatten().tolist()) <= {0.0, 1.0}
        rows, columns = (kept == 0).any(1), (kept == 0).any(0)
        height, width = int(rows.sum()), int(columns.sum())
        assert int((kept == 0).sum()) == height * width  # one box
        inside = kept[rows][:, columns]
        assert not inside.any()
        clipped += height != width
        shares.append(float(kept.mean()))
    assert clipped > 50
    # Boxes of a mean area of a half lose about a quarter of it at the border.
    assert 0.55 < mean(shares) < 0.75


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_shares_of_mixup_follow_their_law(alpha: float) -> None:
    kept = torch.cat([each.kept for each in draws("mixup", 2000, alpha)])
    assert (kept == kept[:, :1, :1]).all()
    shares = kept[:, 0, 0]
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_partners_are_permutations_that_differ() -> None:
    drawn = draws("cutmix", 50)
    orders = [tuple(each.partners[0].tolist()) for each in drawn]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len(set(orders)) > 40


def test_a_draw_reads_its_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second = draws("cutmix", 5), draws("cutmix", 5)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.kept, other.kept)
        assert torch.equal(one.partners, other.partners)


# Schedules


def rates(count: int, **changes: object) -> list[float]:
    rules = protocol(**{"learning_rate": 1.0, **changes})
    return [schedules.learning_rate(rules, index) for index in range(count)]


@pytest.mark.parametrize(("epochs", "first"), [(7, 5), (8, 5), (1001, 502)])
def test_the_published_drop(epochs: int, first: int) -> None:
    found = rates(epochs, epochs=epochs)
    assert found == [1.0] * first + [0.1] * (epochs - first)
    rules = protocol(epochs=epochs)
    restarts = [i for i in range(epochs) if schedules.restarts(rules, i)]
    assert restarts == [first]
    cosine = protocol(epochs=epochs, schedule="cosine")
    assert not any(schedules.restarts(cosine, i) for i in range(epochs))
    since = [i - schedules.last_restart(rules, i) for i in range(epochs)]
    assert since == [*range(first), *range(epochs - first)]
    assert schedules.last_restart(cosine, epochs - 1) == 0


@pytest.mark.parametrize("smoothing", [1.0, 1.5, 2.0, 3.0])
def test_smoothing_cosine_by_hand(smoothing: float) -> None:
    found = rates(301, epochs=300, schedule="cosine", smoothing=smoothing)
    for index, rate in enumerate(found):
        expected = 0.5 * (1 + cos(pi * index / (smoothing * 300)))
        assert rate == pytest.approx(expected)


def test_plain_cosine_falls_to_zero_and_zeta_2_to_a_half() -> None:
    plain = rates(301, epochs=300, schedule="cosine")
    assert plain[0] == 1
    assert plain[150] == pytest.approx(0.5)
    assert plain[300] == pytest.approx(0)
    smooth = rates(301, epochs=300, schedule="cosine", smoothing=2.0)
    assert smooth[300] == pytest.approx(0.5)


def test_ssrs_at_known_points() -> None:
    found = rates(301, epochs=300, schedule="ssrs", smoothing=2.0)
    expected = {0: 1.0, 250: 0.629, 251: 0.103, 275: 0.052, 300: 0.0}
    for index, rate in expected.items():
        assert found[index] == pytest.approx(rate, abs=5e-4)


def test_milestones_as_in_torch() -> None:
    changes = {"epochs": 100, "milestones": (0.8, 0.9, 0.95), "drop": 0.5}
    found = rates(100, schedule="multistep", **changes)
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=1.0)
    oracle = torch.optim.lr_scheduler.MultiStepLR(sgd, [80, 90, 95], 0.5)
    for rate in found:
        assert rate == pytest.approx(oracle.get_last_lr()[0])
        sgd.step()
        oracle.step()


def test_warm_up_as_in_torch() -> None:
    found = rates(50, epochs=50, schedule="cosine", warm_up=5)
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    library = torch.optim.lr_scheduler
    linear = library.LinearLR(sgd, start_factor=0.01, total_iters=5)
    cosine = library.CosineAnnealingLR(sgd, T_max=45)
    for index, rate in enumerate(found):
        assert rate == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-3), index
        sgd.step()
        (linear if index < 5 else cosine).step()
        if index == 4:  # what SequentialLR does at its milestone
            sgd.param_groups[0]["lr"] = 1.0


# Optimisers


def network() -> base.Network:
    return builder.build(
        SMALL,
        channels=1,
        size=8,
        classes=3,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_optimisers_are_torchs(
    kind: str, matrices: bool, generator: torch.Generator
) -> None:
    theirs, flat = network(), FlatNetwork(network())
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1]},
        {"params": [p for p in theirs.parameters() if p.ndim == 1]},
    ]
    if matrices:
        groups[1]["weight_decay"] = 0.0  # type: ignore[assignment]
    decay: float | Tensor = 0.3 * flat.matrices() if matrices else 0.3
    oracle: torch.optim.Optimizer
    if kind == "adamw":
        oracle = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.3)
    else:
        oracle = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=0.3)
    vector = flat.vector().expand(2, -1).clone()  # two networks, the second at rest
    memory = torch.zeros(2, len(flat) * (2 if kind == "adamw" else 1))
    for step in range(7):
        gradient = torch.randn(len(flat), generator=generator)
        flat.attach(vector[0].clone(), gradient.clone())
        for own, other in zip(
            flat.network.parameters(), theirs.parameters(), strict=True
        ):
            assert own.grad is not None
            other.grad = own.grad.clone()
        oracle.step()
        both = torch.stack([gradient, torch.zeros_like(gradient)])
        if kind == "adamw":
            FlatAdamW(0.01, decay, steps_taken=step).step(vector, memory, both)
        else:
            FlatSGD(0.01, 0.9, decay).step(vector, memory, both)
    expected = FlatNetwork(theirs).vector()
    torch.testing.assert_close(vector[0], expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(vector[0], vector[1], atol=1e-3)


def test_matrices_are_the_weights() -> None:
    flat = FlatNetwork(network())
    flat.attach(flat.matrices())
    for parameter in flat.network.parameters():
        assert bool((parameter == float(parameter.ndim > 1)).all())
