"""Protocols: training against a plain loop, recipes, and choices by validation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import commandline
import msgspec
import numpy as np
import pytest
import torch
from commandline import found, invoke, judged, settable
from PIL import Image
from support import cell_run, dataset
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon import field_types, schema
from dcbench_bacon.augmentation import policies, policy_steps
from dcbench_bacon.augmentation.mixing import Mixer
from dcbench_bacon.augmentation.policies import POLICIES
from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import Dataset, hold_out, normalize
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.splits import ResidentSplit, Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DivergedError, InterruptedRunError, UsageError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.protocol import Exemption, Protocol
from dcbench_bacon.recipes import digests, protocols, toml_tables
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.plans import planning
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell
from dcbench_bacon.training import features, on_synthetic, teachers
from dcbench_bacon.training.on_real import train
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.task import Task, enlarge
from dcbench_bacon.training.teachers import find

CPU = torch.device("cpu")
SMALL, NORMED = "ConvNetD1W8", "ConvNetD1W8BN"
REAL = dataset()
TEST = REAL.test.subset(torch.arange(18))
VALIDATION = REAL.test.subset(torch.arange(18, len(REAL.test)))
NAMES = protocols.protocol_names()
SIX = "color_crop_cutout_flip_scale_rotate"
FIVE = "color_crop_cutout_scale_rotate"


def network(architecture: str = SMALL, seed: int = 0, classes: int = 3) -> Network:
    generator = torch.Generator().manual_seed(seed)
    return builder.build(
        architecture, channels=1, size=8, classes=classes, generator=generator
    )


def synthetic(count: int = 12, *, soft: bool = True) -> SyntheticSet:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    labels = F.one_hot(torch.arange(count) % 3, 3).float()
    if soft:
        labels = torch.randn(count, 3, generator=generator).softmax(1)
    return SyntheticSet(images, labels)


def task(protocol: Protocol, *, soft: bool = True) -> Task:
    teachers = tuple(
        network(name, seed=7 + i) for i, name in enumerate(protocol.teachers)
    )
    held_out = VALIDATION if protocol.held_out else None
    return Task(synthetic(soft=soft), TEST, REAL.info, protocol, held_out, teachers)


def small(name: str, **changes: object) -> Protocol:
    """A protocol of ``protocols.toml`` for tiny networks, hard to tell from it."""
    request = protocols.Request(protocol=name)
    full = protocols.protocol(Cell("any", "digits", 10), request)
    values = {
        "architectures": (SMALL,),
        "teachers": (SMALL, NORMED)[: len(full.teachers)],
        "networks": 2,
        "epochs": 7,
        "batch_size": 5,
        "learning_rate": 0.02,
    }
    return msgspec.structs.replace(full, **{**values, **changes})


class Plain:
    """A training loop with PyTorch's own modules, a sample at a time."""

    def __init__(self, what: Task, architecture: str) -> None:
        self.what, self.protocol = what, what.protocol
        clock, stage = Clock("cell", CPU), f"evaluate/{architecture}/0"
        self.network = builder.build(
            architecture,
            channels=1,
            size=8,
            classes=3,
            generator=clock.generator(f"{stage}/init", device="cpu"),
        )
        self.average = [p.detach().clone() for p in self.network.parameters()]
        self.shuffling = clock.generator(f"{stage}/shuffle")
        self.drawing = clock.generator(f"{stage}/augmentation", device="cpu")
        self.pairing = clock.generator(f"{stage}/mixing", device="cpu")
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.network.parameters() if p.ndim > 1]},
            {
                "params": [p for p in self.network.parameters() if p.ndim == 1],
                "weight_decay": 0.0,
            },
        ]
        decay = self.protocol.weight_decay
        self.adamw = torch.optim.AdamW(groups, weight_decay=decay)

    def train(self) -> None:
        images, protocol = self.what.synthetic.images, self.protocol
        for epoch in range(protocol.epochs):
            share = epoch / (2 * protocol.epochs)
            rate = protocol.learning_rate * (1 + torch.tensor(torch.pi * share).cos())
            for group in self.adamw.param_groups:
                group["lr"] = float(rate / 2)
            order = torch.randperm(len(images), generator=self.shuffling)
            for start in range(0, len(images), protocol.batch_size):
                self.step(order[start : start + protocol.batch_size])

    def step(self, rows: Tensor) -> None:
        protocol, law = self.protocol, Augmentation("flip", (8, 8))
        draw = law.draw(1, self.drawing, samples=len(rows))
        flags = draw.values[0, :, 0]
        images = torch.stack(
            [
                image.flip(-1) if flag else image
                for image, flag in zip(
                    self.what.synthetic.images[rows], flags, strict=True
                )
            ]
        )
        original = self.what.synthetic.labels[rows]
        mix = Mixer("cutmix", 1.0, 8).draw(len(rows), self.pairing)
        kept, partners = mix.kept[0], mix.partners[0]
        mixed = kept * images + (1 - kept) * images[partners]
        self.network.train()
        logits = self.network(mixed)
        if protocol.teachers:
            with torch.no_grad():
                teacher = sum(each.eval()(mixed) for each in self.what.teachers)
            labels = (teacher / len(protocol.teachers)).softmax(1)
            teacher = labels.log()
        else:
            share = kept.mean()
            labels = share * original + (1 - share) * original[partners]
            teacher = labels.log()
        temperature = protocol.temperature
        loss = F.kl_div(
            (logits / temperature).log_softmax(1),
            (teacher / temperature).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        ) + 0.1 * F.cross_entropy(logits, original)
        self.adamw.zero_grad()
        torch.autograd.backward(loss)
        self.adamw.step()
        with torch.no_grad():
            for mean, now in zip(self.average, self.network.parameters(), strict=True):
                mean.copy_(protocol.ema * mean + (1 - protocol.ema) * now)


def everything(**changes: object) -> Protocol:
    """RDED's protocol with an average of weights and a term for original labels."""
    values = {
        "augmentation": "flip",
        "temperature": 3.0,
        "original_weight": 0.1,
        "ema": 0.8,
        "networks": 1,
        "weight_decay": 0.3,
    }
    return small("rded", **{**values, **changes})


@pytest.mark.parametrize("architecture", [SMALL, NORMED])
@pytest.mark.parametrize("teachers", [(), (SMALL,), (SMALL, NORMED)])
def test_training_is_that_of_a_plain_loop(
    architecture: str, teachers: tuple[str, ...], trainers: list[SetTrainer]
) -> None:
    protocol = everything(architectures=(architecture,), teachers=teachers)
    what = task(protocol)
    evaluate(Clock("cell", CPU), what)
    plain = Plain(what, architecture)
    start = FlatNetwork(plain.network).vector()
    plain.train()
    found, expected = trainers[0], FlatNetwork(plain.network).vector()
    felt = matters(plain.network)
    average = torch.cat([each.flatten() for each in plain.average])
    assert found.average is not None
    for one, other in ((found.vector, expected), (found.average, average)):
        assert torch.allclose(one[felt], other[felt], rtol=1e-3, atol=1e-4)
    for one, other in ((start, expected), (expected, average)):
        assert (one - other)[felt].abs().max() > 1e-2
    for name, buffer in plain.network.named_buffers():
        own = dict(found.network.named_buffers())[name]
        if "mean" not in name:  # which the bias before it moves
            assert torch.allclose(own.float(), buffer.float(), rtol=1e-3, atol=1e-4)


def matters(network: Network) -> Tensor:
    """Whether a parameter has a gradient; a bias before a norm has none but rounding.

    Adam divides that by its own size, and takes steps as large as any other.
    """
    flags = [
        torch.full((parameter.numel(),), name != "features.0.bias")
        for name, parameter in network.named_parameters()
    ]
    return torch.cat(flags)


def test_the_average_is_tested_and_the_live_network_is_left(
    trainers: list[SetTrainer],
) -> None:
    tested: list[tuple[Tensor, Tensor]] = []

    def spied(network: Network, split: Split, info: object) -> float:
        means = dict(network.named_buffers())["features.1.running_mean"]
        tested.append((FlatNetwork(network).vector(), means.clone()))
        return 0.5

    what = task(everything(architectures=(NORMED,)))._replace(measure=spied)
    evaluate(Clock("cell", CPU), what)
    (found,), ((vector, means),) = list(trainers), list(tested)
    assert found.average is not None
    assert torch.equal(vector, found.average)
    assert not torch.equal(found.average, found.vector)
    assert torch.equal(FlatNetwork(found.network).vector(), found.vector)
    plain = everything(architectures=(NORMED,), ema=0.0)
    evaluate(Clock("cell", CPU), task(plain)._replace(measure=spied))
    live = tested[1]
    assert torch.equal(live[0], found.vector)  # the average does not touch training
    assert torch.equal(live[1], means)  # batch statistics are the live ones


def test_no_average_by_default(trainers: list[SetTrainer]) -> None:
    evaluate(Clock("cell", CPU), task(small("dc")))
    assert trainers[0].average is None


@pytest.mark.parametrize("name", NAMES)
def test_networks_together_come_out_as_one_by_one(
    name: str, trainers: list[SetTrainer]
) -> None:
    protocol = small(name)
    what = task(protocol)
    alone = evaluate(Clock("cell", CPU), what)
    together = evaluate(Clock("cell", CPU), what, together=True)
    felt, count = matters(trainers[0].network), len(alone)
    for one, other in zip(trainers[:count], trainers[count:], strict=True):
        first, second = one.vector[felt], other.vector[felt]
        assert torch.allclose(first, second, rtol=1e-2, atol=1e-3)
        assert (one.average is None) == (protocol.ema == 0)
        if one.average is not None and other.average is not None:
            first, second = one.average[felt], other.average[felt]
            assert torch.allclose(first, second, rtol=1e-2, atol=1e-3)
    assert not torch.allclose(trainers[0].vector, trainers[1].vector, atol=1e-2)
    for single, joint in zip(alone, together, strict=True):
        assert abs(single.accuracy - joint.accuracy) <= 2 / len(TEST.labels)


@pytest.mark.parametrize("together", [False, True])
def test_a_stopped_evaluation_goes_on_bit_for_bit(
    together: bool, tmp_path: Path, trainers: list[SetTrainer]
) -> None:
    what = task(everything(networks=2))
    quiet = evaluate(Clock("cell", CPU), what, together=together)
    asked = iter([False, False, True])
    policy = RunPolicy(folder=tmp_path, stop=lambda: next(asked, False))
    with pytest.raises(InterruptedRunError, match="after step 3"):
        evaluate(Clock("cell", CPU, policy), what, together=together)
    found = evaluate(Clock("cell", CPU, policy), what, together=together)
    for one, other in zip(trainers[:2], trainers[-2:], strict=True):
        assert torch.equal(one.vector, other.vector)
        assert one.average is not None
        assert other.average is not None
        assert torch.equal(one.average, other.average)
    pairs = zip(quiet, found, strict=True)
    assert all(one.accuracy == other.accuracy for one, other in pairs)


@pytest.mark.parametrize("augmentation", ["none", "flip", *POLICIES])
def test_every_augmentation_takes_as_many_steps(augmentation: str) -> None:
    steps = []
    for together in (False, True):
        clock = Clock("cell", CPU)
        protocol = small("dc", augmentation=augmentation, epochs=3)
        evaluate(clock, task(protocol), together=together)
        steps += [timing.images for timing in clock.timings.values()]
    assert steps == [36, 36, 72]


@pytest.fixture(scope="module")
def digits(digits_cache: Path) -> Dataset:
    return loading.load("digits", cache=digits_cache)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_every_protocol_learns_digits(name: str, digits: Dataset) -> None:
    protocol = small(
        name,
        networks=1,
        epochs=25,
        batch_size=16,
        augmentation="none",
        learning_rate=0.05 if name == "dc" else 0.01,
    )
    first = torch.cat([(digits.train.labels == k).nonzero()[:6, 0] for k in range(10)])
    images = normalize(digits.train.images[first], digits.info)
    labels = F.one_hot(digits.train.labels[first], 10).float()
    teachers = tuple(taught(digits, each) for each in protocol.teachers)
    what = Task(
        SyntheticSet(images, labels), digits.test, digits.info, protocol, None, teachers
    )
    (found,) = evaluate(Clock("cell", CPU), what)
    assert found.epoch == protocol.epochs - 1
    assert found.accuracy > 0.3, found.accuracy


def taught(digits: Dataset, architecture: str) -> Network:
    """A network that knows the real digits."""
    pupil = network(architecture, classes=10)
    adamw = torch.optim.AdamW(pupil.parameters(), lr=0.02)
    images, generator = normalize(digits.train.images, digits.info), torch.Generator()
    for _ in range(60):
        rows = torch.randint(len(images), (64,), generator=generator)
        loss = F.cross_entropy(pupil(images[rows]), digits.train.labels[rows])
        adamw.zero_grad()
        torch.autograd.backward(loss)
        adamw.step()
    return pupil


def test_a_missing_teacher_is_a_clear_error() -> None:
    what = task(small("rded"))
    with pytest.raises(UsageError, match=r"rded.*ConvNetD1W8.*0 teachers") as caught:
        evaluate(Clock("cell", CPU), what._replace(teachers=()))
    assert "protocol.teachers=[]" in str(caught.value)


def test_teachers_label_what_the_network_sees() -> None:
    protocol = small("edc", teachers=(SMALL, NORMED), networks=1)
    what, seen = task(protocol), []
    for each in what.teachers:
        each.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trainer = SetTrainer(Clock("cell", CPU), what, SMALL, "evaluate/x/0")
    index = torch.arange(5)[None]
    batch = on_synthetic.prepare([trainer], index)
    assert all(torch.equal(each, batch.images[0]) for each in seen)
    expected = sum(each.eval()(batch.images[0]) for each in what.teachers) / 2
    torch.testing.assert_close(batch.targets.labels[0], expected.detach())
    assert not batch.targets.labels.requires_grad
    assert torch.equal(batch.targets.original[0], what.synthetic.labels[:5])
    assert not torch.equal(batch.images[0], what.synthetic.images[:5])


# Learning rates chosen on validation


def rates(*candidates: float, **changes: object) -> Task:
    return task(small("dc", learning_rates=candidates, **changes), soft=False)


@pytest.mark.parametrize("together", [False, True])
def test_the_rate_of_the_best_mean_validation_accuracy_counts(together: bool) -> None:
    script = {
        id(VALIDATION): iter([0.1, 0.3, 0.5, 0.4, 0.6, 0.3]),  # of two networks each
        id(TEST): iter([0.9, 0.8, 0.1, 0.2, 0.7, 0.7]),
    }
    what = rates(0.1, 0.01, 0.001)._replace(
        measure=lambda network, split, info: next(script[id(split)])
    )
    found = evaluate(Clock("cell", CPU), what, together=together)
    assert [each.learning_rate for each in found] == [0.01, 0.01]
    assert [each.accuracy for each in found] == [0.1, 0.2]
    assert [each.validation for each in found] == [0.5, 0.4]


def test_the_first_of_equally_good_rates_counts() -> None:
    what = rates(0.1, 0.01)._replace(measure=lambda *_: 0.5)
    found = evaluate(Clock("cell", CPU), what)
    assert {each.learning_rate for each in found} == {0.1}


@pytest.mark.slow
def test_test_labels_do_not_reach_the_choice_of_a_rate() -> None:
    chosen = set()
    for key in "abcdefgh":
        what = rates(0.2, 0.02, 0.002)
        fair = evaluate(Clock(key, CPU), what)
        poisoned = ResidentSplit(TEST.images, (TEST.labels + 1) % 3, REAL.info)
        other = evaluate(Clock(key, CPU), what._replace(test=poisoned))
        keys = [(each.learning_rate, each.validation, each.epoch) for each in fair]
        assert keys == [(e.learning_rate, e.validation, e.epoch) for e in other]
        accuracies = [each.accuracy for each in fair]
        assert accuracies != [each.accuracy for each in other]
        chosen.add(keys[0][0])
        if len(chosen) > 1:
            break
    assert len(chosen) > 1  # the choice does depend on something


def test_a_chosen_rate_trains_as_if_it_were_the_only_one(
    trainers: list[SetTrainer],
) -> None:
    evaluate(Clock("cell", CPU), rates(0.2, 0.02))
    evaluate(Clock("cell", CPU), rates(0.02))
    assert torch.equal(trainers[2].vector, trainers[4].vector)
    assert not torch.equal(trainers[0].vector, trainers[2].vector)


def test_a_rate_that_diverges_is_out() -> None:
    what = rates(1e20, 0.02)
    assert {e.learning_rate for e in evaluate(Clock("cell", CPU), what)} == {0.02}
    with pytest.raises(DivergedError):
        evaluate(Clock("cell", CPU), rates(1e20, 1e21))


def test_rates_need_a_validation_split() -> None:
    with pytest.raises(UsageError, match="validation split"):
        evaluate(Clock("cell", CPU), rates(0.1)._replace(validation=None))


# Recipes


def test_defaults_of_fields_are_the_published_protocol() -> None:
    published = protocols.protocol(Cell("dm", "cifar10", 10), protocols.Request())
    assert published == Protocol(name="dc")
    assert published.epochs == 1001
    assert not published.held_out


def test_the_digest_is_blind_to_later_fields_at_their_defaults() -> None:
    plain = schema.Recipe(settings={"steps": 3}, protocol=Protocol(name="dc"))
    # What the version without the later fields gave.
    assert digests.digest(plain) == "79c72b3e"
    changed = set()
    for field, value in {
        "ema": 0.9,
        "loss": "kl",
        "teachers": ("ConvNet",),
        "epochs": 7,
    }.items():
        other = msgspec.structs.replace(plain.protocol, **{field: value})
        changed.add(digests.digest(msgspec.structs.replace(plain, protocol=other)))
    assert len(changed | {digests.digest(plain)}) == 5


def test_tuned_rates_share_the_set_of_best_val_and_not_that_of_final() -> None:
    def digest(**changes: object) -> str:
        protocol = Protocol(name="dc", **changes)  # type: ignore[arg-type]
        made = schema.Recipe(settings={}, protocol=protocol)
        return digests.distillation_digest(made)

    tuned = digest(learning_rates=(0.1,))
    assert tuned == digest(selection="best_val")
    assert tuned == digest(selection="best_val", learning_rates=(0.2,))
    assert tuned != digest()
    assert digest() == digest(ema=0.5)


@pytest.mark.parametrize(
    ("name", "dataset", "ipc", "expected"),
    [
        ("rded", "cifar10", 1, {"batch_size": 10, "smoothing": 2.0}),
        ("rded", "cifar100", 10, {"batch_size": 100, "temperature": 20.0}),
        ("rded", "tiny_imagenet", 50, {"batch_size": 100, "mixing": "cutmix"}),
        ("sre2l", "cifar100", 50, {"temperature": 30.0, "mixing": "mixup"}),
        ("sre2l", "tiny_imagenet", 50, {"optimiser": "sgd", "warm_up": 5}),
        ("gvbsm", "cifar10", 10, {"loss": "mse", "original_weight": 0.15}),
        ("gvbsm", "cifar100", 10, {"optimiser": "sgd", "batch_size": 64}),
        ("edc", "cifar10", 1, {"batch_size": 10, "ema": 0.99, "drop": 0.5}),
        ("edc", "tiny_imagenet", 1, {"epochs": 1000, "schedule": "cosine"}),
        ("common", "cifar10", 50, {"batch_size": 100, "teachers": ("ConvNetBN",)}),
        ("hard", "cifar10", 10, {"loss": "ce", "teachers": (), "epochs": 300}),
    ],
)
def test_published_protocols(
    name: str, dataset: str, ipc: int, expected: dict[str, object]
) -> None:
    cell = Cell("dm", dataset, ipc)
    found = protocols.protocol(cell, protocols.Request(protocol=name))
    assert {key: getattr(found, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "images"),
    [(name, images) for name in NAMES for images in ("digits", "mnist", "svhn")],
)
def test_digits_are_not_mirrored(name: str, images: str) -> None:
    cell = Cell("dm", images, 10)
    for preset in get_args(field_types.Preset):
        request = protocols.Request(protocol=name, preset=preset)
        for single in protocols.protocol(cell, request).under_each:
            augmentation = single.augmentation
            built = policies.build(augmentation, REAL.info)
            if isinstance(built, policies.AugmentationPolicy):
                assert not any(
                    isinstance(step, policy_steps.Mirror) for step in built.steps
                )
            elif isinstance(built, Augmentation):
                assert "flip" not in built.operations
    other = protocols.protocol(
        Cell("dm", "cifar10", 10), protocols.Request(protocol=name)
    )
    without = other.augmentation + "_no_mirror"
    if without in POLICIES:
        assert augmentation == without


@pytest.mark.parametrize("preset", ["demo", "quick", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_presets_are_shorter_and_keep_what_a_protocol_is(
    name: str, preset: field_types.Preset
) -> None:
    cell = Cell("dm", "digits", 10)
    full = protocols.protocol(cell, protocols.Request(protocol=name))
    found = protocols.protocol(cell, protocols.Request(protocol=name, preset=preset))
    alone = ("dc", "dc_2021", "dc_bench", "hard", "reference")
    assert bool(found.teachers) == (name not in alone)
    assert (found.loss, found.mixing, found.ema) == (full.loss, full.mixing, full.ema)
    assert (found.epochs < full.epochs) == (preset != "paper")


@pytest.mark.parametrize("name", NAMES)
def test_every_table_has_a_source(name: str) -> None:
    document = toml_tables.read(protocols.PROTOCOLS)[name]
    for tables in (document, *document.get("presets", {}).values()):
        for label, _, _ in toml_tables.tables(tables):
            if "." not in label:
                assert tables[label]["source"]


def test_a_methods_own_keys_change_the_published_protocol_alone() -> None:
    cell = Cell("dm", "tiny_imagenet", 1)
    own = planning.resolve(cell, protocols.Request()).recipe.protocol
    assert own.architectures == ("ConvNetD4",)
    fair = planning.resolve(cell, protocols.Request(protocol="rded"))
    assert fair.recipe.protocol.architectures == ("ResNet18BN",)
    assert "rded" in fair.origins["protocol.architectures"].table


def test_check_names_the_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = (
        ("[x.defaults]\nloss = 'l1'", "loss"),
        ("[x.defaults]\nepoch = 3", "epoch"),
        ("[x.defaults]\naugmentation = 'blur'", "blur"),
        ("[x.defaults]\nteachers = ['Convnet']", "Convnet"),
        ("[x.nowhere]\nepochs = 3", "nowhere"),
        ("[x.digits.ten]\nepochs = 3", "ten"),
        ("[x.presets.quick.digits]\nema = 1.0", "ema"),
        ("base = 'y'", "base"),
        ("base = 'x'", "base"),
    )
    protocols_file = tmp_path / "protocols.toml"
    text = "[dc]\ntitle = 'dc'\n"
    for index, (lines, _) in enumerate(problems):
        table = f"[x]\ntitle = 'x'\n{lines}\n".replace("[x", f"[x{index}")
        text += table.replace("'x'", f"'x{index}'")
    protocols_file.write_text(text)
    monkeypatch.setattr(protocols, "PROTOCOLS", protocols_file)
    result = invoke("check")
    assert result.exit_code == 1
    messages = result.stderr.splitlines()
    for index, (message, problem) in enumerate(zip(messages, problems, strict=True)):
        assert message.startswith(f"protocol x{index}: ")
        assert problem[1] in message


@pytest.mark.parametrize(
    ("method", "images", "distilled", "evaluated"),
    [
        ("dm", "mnist", FIVE, FIVE),
        ("bacon+dm", "svhn", FIVE, FIVE),
        ("dsa", "svhn", FIVE, FIVE),
        ("mtt", "mnist", FIVE, FIVE),
        ("herding", "mnist", FIVE, FIVE),
        ("k_center", "svhn", FIVE, FIVE),
        ("random", "mnist", None, FIVE),
        ("idm", "mnist", SIX, SIX),
        ("bacon", "svhn", SIX, SIX),
        ("bacon+idm", "mnist", SIX, SIX),
        ("dm", "fashion_mnist", SIX, SIX),
        ("dsa", "fashion_mnist", SIX, SIX),
        ("mtt", "fashion_mnist", SIX, SIX),
        ("dc", "mnist", "none", "dc_crop_scale_rotate"),
        ("dc", "svhn", "none", "none"),
    ],
)
def test_methods_mirror_what_their_sources_mirror(
    method: str, images: str, distilled: str | None, evaluated: str
) -> None:
    found = planning.resolve(Cell(method, images, 10), protocols.Request())
    assert found.recipe.settings.get("augmentation") == distilled
    assert found.recipe.protocol.augmentation == evaluated
    assert found.origins["protocol.augmentation"].source


def test_a_teacher_of_digits_is_not_trained_on_mirrored_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained: list[str] = []

    def spied(run: object, training: Any) -> tuple[Network, dict[str, Any]]:
        trained.append(training.augmentation)
        run.timings["features"] = schema.Timing()  # type: ignore[attr-defined]
        return network(), {}

    monkeypatch.setattr(teachers, "trained", spied)
    for name in ("mnist", "svhn", "fashion_mnist"):
        run = cell_run(REAL, tmp_path)
        run.cell = Cell("dm", name, 2)
        find(run, Protocol(name="rded", teachers=(SMALL,)))
    assert trained == [FIVE, FIVE, SIX]


@pytest.mark.parametrize("typed", ["dc-2021", "dc_2021", "dc+2021"])
def test_the_evaluation_of_dc_is_a_protocol(typed: str) -> None:
    shown = invoke("show", "random", "mnist", 1, "--protocol", typed)
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line.split()[1] for line in shown.output.splitlines()[1:]}
    assert lines["protocol.augmentation"] == '"dc_crop_scale_rotate"'
    assert (lines["protocol.epochs"], lines["protocol.networks"]) == ("1001", "20")
    other = protocols.protocol(
        Cell("random", "cifar10", 1), protocols.Request(protocol="dc_2021")
    )
    assert (other.augmentation, other.epochs) == ("none", 301)
    normed = other.of("ConvNetBN")
    assert (normed.augmentation, normed.epochs) == ("dc_crop_noise", 1001)
    assert other.of("ConvNet") == other


def test_a_network_is_trained_by_its_own_exemption(trainers: list[SetTrainer]) -> None:
    special = Exemption(
        architecture=NORMED, augmentation="none", epochs=4, learning_rate=0.5
    )
    protocol = small("dc", architectures=(SMALL, NORMED), exemptions=(special,))
    found = evaluate(Clock("cell", CPU), task(protocol))
    assert [each.epoch for each in found] == [6, 6, 3, 3]
    assert {each.protocol.learning_rate for each in trainers[2:]} == {0.5}
    assert isinstance(trainers[2].augmentation, Augmentation)
    assert not trainers[2].augmentation.operations
    assert trainers[0].protocol.learning_rate == protocol.learning_rate
    plain = schema.Recipe(settings={}, protocol=small("dc"))
    exempt = msgspec.structs.replace(plain, protocol=protocol)
    assert digests.digest(plain) != digests.digest(exempt)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sre2l", "rded", "gvbsm", "edc"])
def test_residual_students_start_as_in_their_sources(
    name: str, trainers: list[SetTrainer]
) -> None:
    protocol = small(name, architectures=("ResNet18BN", SMALL), networks=1, epochs=1)
    evaluate(Clock("cell", CPU), task(protocol))
    streams = ("evaluate/ResNet18BN/0/init", f"evaluate/{SMALL}/0/init")
    clock = Clock("cell", CPU)
    for architecture, stream in zip(("ResNet18BN", SMALL), streams, strict=True):
        built = builder.build(
            architecture,
            channels=1,
            size=8,
            classes=3,
            generator=clock.generator(stream, device="cpu"),
            residual_init=protocol.residual_init,
        )
        wide = [
            each
            for each in built.modules()
            if isinstance(each, torch.nn.Conv2d) and each.out_channels > 255
        ]
        for each in wide:
            outputs = each.out_channels * each.kernel_size[0] ** 2
            assert each.weight.std().item() == pytest.approx(
                (2 / outputs) ** 0.5, rel=0.02
            )
        assert bool(wide) == (architecture != SMALL)
    assert small("dc").residual_init == "default"


def test_what_is_tested_is_the_middle_of_the_enlarged_image() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).mul(3)
    split = ResidentSplit(images, torch.zeros(1, dtype=torch.int64), REAL.info)
    found = enlarge(split, 12).images
    picture = Image.fromarray(images[0, 0].numpy()).resize(
        (12, 12), Image.Resampling.BILINEAR
    )
    expected = torch.from_numpy(np.array(picture))[2:10, 2:10]
    assert (found[0, 0].int() - expected.int()).abs().max() <= 1
    assert found.dtype == torch.uint8
    with pytest.raises(UsageError, match="test_size=4"):
        enlarge(split, 4)
    rded = protocols.Request(protocol="rded")
    assert protocols.protocol(Cell("dm", "tiny_imagenet", 1), rded).test_size == 72
    assert protocols.protocol(Cell("dm", "cifar10", 1), rded).test_size == 0


def test_a_protocol_tests_on_images_of_its_own_size() -> None:
    seen: list[Split] = []

    def spied(network: Network, split: Split, info: object) -> float:
        seen.append(split)
        return 0.5

    protocol = small("dc", test_size=12, networks=1, epochs=1, selection="best_val")
    evaluate(Clock("cell", CPU), task(protocol)._replace(measure=spied))
    held_out, tested = seen
    assert torch.equal(tested.images, enlarge(TEST, 12).images)
    assert torch.equal(held_out.images, enlarge(VALIDATION, 12).images)


@pytest.mark.parametrize("precision", get_args(field_types.Precision))
@pytest.mark.parametrize("together", [False, True])
def test_accuracy_is_measured_in_the_declared_precision(
    precision: field_types.Precision, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    seen: list[tuple[bool, ...]] = []
    own = Network.features_and_logits

    def spied(self: Network, images: Tensor) -> tuple[Tensor, Tensor]:
        if len(images) == len(TEST.labels):  # of test and validation alike
            seen.append(tuple(library.allow_tf32 for library in libraries))
        return own(self, images)

    monkeypatch.setattr(Network, "features_and_logits", spied)
    protocol = small("dc", precision=precision, selection="best_val")
    with tensor_cores("fp32" if precision != "fp32" else "tf32"):  # the opposite
        evaluate(Clock("cell", CPU), task(protocol), together=together)
    assert seen
    assert set(seen) == {(precision != "fp32",) * 2}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ipc", [1, 10])
def test_every_value_of_a_protocol_has_a_source(name: str, ipc: int) -> None:
    for method in ("dm", "idm", "mtt", "dc"):
        for images in ("cifar10", "mnist", "tiny_imagenet"):
            plain = {"zca": "false"}  # policies work on pixels
            request = protocols.Request(protocol=name, overrides=plain)
            found = planning.resolve(Cell(method, images, ipc), request)
            for field in Protocol.__struct_fields__:
                origin = found.origins[f"protocol.{field}"]
                assert origin.source, (method, images, field)


@pytest.mark.parametrize("images", ["mnist", "svhn", "fashion_mnist"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_idm_is_not_cited_for_commands_that_it_does_not_have(
    images: str, ipc: int
) -> None:
    origins = planning.resolve(Cell("idm", images, ipc), protocols.Request()).origins
    for key, origin in origins.items():
        if not key.startswith("protocol."):
            ours = key in ("update", "precision")
            assert origin.source.startswith("ours" if ours else "BACON"), (key, origin)
    assert (
        "IDM"
        in planning.resolve(Cell("idm", "cifar10", 10), protocols.Request())
        .origins["steps"]
        .source
    )


def test_random_images_of_64_pixels_are_judged_by_the_network_of_the_others() -> None:
    for method in ("random", "herding", "k_means", "dm", "whole"):
        found = planning.resolve(Cell(method, "tiny_imagenet", 10), protocols.Request())
        assert found.recipe.protocol.architectures == ("ConvNetD4",), method


def test_departures_of_a_protocol_are_shown() -> None:
    shown = invoke("show", "dm", "cifar10", 10, "--protocol", "rded").output
    assert "departs from its source: images are normalised by their own" in shown
    assert "departs" not in invoke("show", "dm", "cifar10", 10).output


def test_a_source_of_a_key_that_is_not_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[dc]\ntitle = 'dc'\n[dc.defaults.sources]\nepoch = 'a paper'"
    (tmp_path / "protocols.toml").write_text(text)
    monkeypatch.setattr(protocols, "PROTOCOLS", tmp_path / "protocols.toml")
    with pytest.raises(UsageError, match="epoch"):
        protocols.protocol(Cell("dm", "digits", 1), protocols.Request())


# The command line


@pytest.fixture
def _cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


ONE = (
    *("--methods", "random", "--datasets", "digits", "--ipc", 2),
    *("--preset", "demo", "--device", "cpu", "--no-download"),
    *("--architectures", SMALL),
    *settable("protocol.epochs", 3),
    *settable("protocol.networks", 2),
)


@pytest.mark.usefixtures("_cache")
def test_a_run_records_the_rate_it_chose(tmp_path: Path) -> None:
    candidates = settable("protocol.learning_rates", "[0.05, 1e-6]")
    result = invoke("run", *ONE, *candidates, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    record = commandline.only_record(tmp_path)
    assert record.recipe.protocol.learning_rates == (0.05, 1e-6)
    rates = {each.learning_rate for each in record.evaluations}
    assert len(rates) == 1
    assert rates <= {0.05, 1e-6}
    assert all(each.validation is not None for each in record.evaluations)


@pytest.mark.usefixtures("_cache")
def test_a_file_that_says_what_was_held_out_is_chosen_by_it(
    tmp_path: Path, evaluate_by: Callable[[Any], None]
) -> None:
    seen: list[Split | None] = []

    def spied(clock: Clock, what: Task, *rest: object) -> list[schema.Evaluation]:
        seen.append(what.validation)
        return evaluate(clock, what)

    evaluate_by(spied)
    chosen = ("--selection", "best_val")
    share = settable("protocol.validation", 0.2)
    invoke("run", *ONE, *chosen, *share, "--output", tmp_path)
    record = commandline.only_record(tmp_path)
    (path,) = (tmp_path / "synthetic").glob("*.safetensors")
    options = (*settable("protocol.epochs", 3), *settable("protocol.networks", 2))
    again = ("--preset", "demo", "--architectures", SMALL, *chosen, *options)
    result = invoke("evaluate", path, *again)
    assert result.exit_code == 0, result.output
    first, second = seen
    assert first is not None
    assert second is not None
    assert torch.equal(first.images, second.images)  # 0.2, though 0.1 was asked for
    mean = sum(each.accuracy for each in record.evaluations) / 2
    assert f"{100 * mean:.2f}" in result.output


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize(
    "option",
    [("--selection", "best_val"), settable("protocol.learning_rates", "[0.1]")],
)
def test_a_file_of_which_nothing_was_held_out_is_refused(
    option: tuple[str, str], tmp_path: Path
) -> None:
    invoke("run", *ONE, "--output", tmp_path)
    (path,) = (tmp_path / "synthetic").glob("*.safetensors")
    result = invoke("evaluate", path, "--architectures", SMALL, *option)
    assert result.exit_code == 2
    assert "was held out" in result.stderr
    assert "dcbench run" in result.stderr
    assert path.name in result.stderr


@pytest.mark.usefixtures("_cache")
def test_a_file_of_other_images_is_not_chosen_by_validation(tmp_path: Path) -> None:
    invoke("run", *ONE, "--selection", "best_val", "--output", tmp_path)
    (path,) = (tmp_path / "synthetic").glob("*.safetensors")
    made = synthetic_file.read(path)
    synthetic_file.write(
        path,
        replace(made, provenance={**made.provenance, "dataset_sha256": "0" * 64}),
    )
    chosen = ("--selection", "best_val")
    result = invoke("evaluate", path, "--architectures", SMALL, *chosen)
    assert result.exit_code == 2
    assert "other images" in result.stderr


@pytest.mark.usefixtures("_cache")
@pytest.mark.slow
def test_a_teacher_is_trained_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = settable("protocol.teachers", f'["{SMALL}"]')
    command = ("run", *ONE, "--protocol", "rded", *teacher, "--output", tmp_path)
    first = invoke(*command)
    assert first.exit_code == 0, first.output
    assert list((tmp_path / "shared").glob("features-*"))
    monkeypatch.setattr(features, "train", None)  # would fail if it were called
    again = invoke(*command, "--fresh")
    assert again.exit_code == 0, again.output
    invoke("run", *ONE, "--output", tmp_path)
    learned, alone = (judged(record) for record in found(tmp_path))
    assert learned != alone


@pytest.mark.parametrize("seed", [0, 1])
def test_methods_are_compared_on_one_validation_split(
    seed: int, digits: Dataset
) -> None:
    cells = [Cell("dm", "digits", 1, seed), Cell("dm", "digits", 10, seed)]
    cells += [Cell("random", "digits", 10, seed), Cell("whole", "digits", 0, seed)]
    held = [hold_out(cell, digits.train, 0.1)[1].images for cell in cells]
    assert all(torch.equal(each, held[0]) for each in held)
    other = hold_out(Cell("dm", "digits", 1, seed + 1), digits.train, 0.1)[1]
    assert not torch.equal(other.images, held[0])


@pytest.mark.usefixtures("_cache")
@pytest.mark.slow
def test_a_teacher_is_trained_once_for_all_cells_that_hold_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    own = train

    def counted(run: Any, *rest: Any) -> Network:
        trained.append(str(run.cell))
        return own(run, *rest)

    monkeypatch.setattr(features, "train", counted)
    teacher = settable("protocol.teachers", f'["{SMALL}"]')
    grid = ("--methods", "random,k_center", "--ipc", "1,2", "--set", "features=pixels")
    chosen = ("--protocol", "rded", "--selection", "best_val", "--output", tmp_path)
    result = invoke("run", *ONE, *grid, *teacher, *chosen)
    assert result.exit_code == 0, result.output
    assert len(found(tmp_path)) == 4
    assert len(trained) == 1


@pytest.mark.usefixtures("_cache")
def test_a_set_with_other_images_held_out_is_not_chosen_by_these(
    tmp_path: Path,
) -> None:
    fixed = ("--selection", "best_val", "--output", tmp_path)
    assert invoke("run", *ONE, *fixed).exit_code == 0
    (path,) = (tmp_path / "synthetic").glob("*.safetensors")
    made = synthetic_file.read(path)
    provenance = {**made.provenance, "validation_sha256": None}  # of an older version
    synthetic_file.write(path, replace(made, provenance=provenance))
    chosen = ("--selection", "best_val")
    judging = invoke("evaluate", path, "--architectures", SMALL, *chosen)
    assert judging.exit_code == 2
    assert "images held out" in judging.stderr
    shorter = settable("protocol.epochs", 2)
    again = invoke("run", *ONE, *fixed, *shorter)
    assert again.exit_code == 1
    assert "--fresh" in again.stderr


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("augmentation", ["none", "autoaugment", "cifar_aug"])
def test_a_policy_is_a_value_of_the_protocol(augmentation: str, tmp_path: Path) -> None:
    option = settable("protocol.augmentation", augmentation)
    result = invoke("run", *ONE, *option, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    record = commandline.only_record(tmp_path)
    assert record.recipe.protocol.augmentation == augmentation


def test_protocols_are_listed_with_a_line_each() -> None:
    lines = invoke("list", "protocols").output.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert {"dc", "sre2l", "rded", "gvbsm", "edc", "common", "hard"} <= set(NAMES)
    assert all(len(line.split()) > 4 for line in lines)
