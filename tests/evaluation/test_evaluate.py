"""Evaluation against a plain training loop, and what counts as its result."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reference
import torch
from support import dataset, demand
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.data.dataset import normalize
from dcbench_bacon.data.splits import ResidentSplit, Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import InterruptedRunError, UsageError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.evaluation.judged import check_protocol
from dcbench_bacon.field_types import Selection
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.training import on_synthetic
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.optimisers import FlatSGD
from dcbench_bacon.training.task import Task, accuracy

CPU = torch.device("cpu")
SMALL, NORMED = "ConvNetD1W8", "ConvNetD1W8BN"
DSA = "color_crop_cutout_flip_scale_rotate"
REAL = dataset()
TEST = REAL.test.subset(torch.arange(18))
VALIDATION = REAL.test.subset(torch.arange(18, len(REAL.test)))


def rules(**changes: object) -> Protocol:
    """A protocol of seven passes over batches of five."""
    values = {
        "name": "test",
        "architectures": (SMALL,),
        "networks": 1,
        "epochs": 7,
        "batch_size": 5,
        "learning_rate": 0.05,
        "augmentation": "none",
        "measure_every": 1,
    }
    return Protocol(**{**values, **changes})  # type: ignore[arg-type]


def synthetic(
    count: int = 12, partition: int = 1, *, soft: bool = False
) -> SyntheticSet:
    """Random images, normalised; their number is no multiple of the batch."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    labels = F.one_hot(torch.arange(count) % 3, 3).float()
    if soft:
        labels = torch.randn(count, 3, generator=generator).softmax(1)
    return SyntheticSet(images, labels, partition)


def task(protocol: Protocol, images: SyntheticSet | None = None) -> Task:
    """What to evaluate: images of noise have nothing to teach."""
    return Task(images or synthetic(), TEST, REAL.info, protocol)


def oracle(what: Task, architecture: str = SMALL, key: str = "cell") -> Network:
    """``evaluate_synset``, one sample's augmentation at a time."""
    clock, stage = Clock(key, CPU), f"evaluate/{architecture}/0"
    protocol, info = what.protocol, what.info
    network = builder.build(
        architecture,
        channels=info.channels,
        size=info.size,
        classes=info.classes,
        generator=clock.generator(f"{stage}/init", device="cpu"),
    )
    shuffling = clock.generator(f"{stage}/shuffle")
    drawing = clock.generator(f"{stage}/augmentation", device="cpu")
    law = Augmentation(protocol.augmentation, (info.size, info.size))
    images, labels = what.synthetic.images, what.synthetic.labels
    if what.synthetic.partition == 2:
        images, labels = reference.decode(images), torch.cat([labels] * 4)
    rate = protocol.learning_rate

    def optimiser() -> torch.optim.SGD:
        return torch.optim.SGD(
            network.parameters(),
            lr=rate,
            momentum=protocol.momentum,
            weight_decay=protocol.weight_decay,
        )

    sgd, criterion = optimiser(), torch.nn.CrossEntropyLoss()
    network.train()
    for epoch in range(protocol.epochs):
        order = torch.randperm(len(images), generator=shuffling)
        for start in range(0, len(images), protocol.batch_size):
            rows = order[start : start + protocol.batch_size]
            batch = images[rows]
            draw = law.draw(1, drawing, samples=len(batch))
            if draw.operations:
                batch = torch.cat(
                    [
                        reference.augment(
                            image[None], draw.operations[0], values.tolist()
                        )
                        for image, values in zip(batch, draw.values[0], strict=True)
                    ]
                )
            loss = criterion(network(batch), labels[rows])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        if epoch == (protocol.epochs - 1) // 2 + 1:  # after the pass, as published
            rate *= 0.1
            sgd = optimiser()
    return network


def equal_to_oracle(found: SetTrainer, what: Task, architecture: str = SMALL) -> None:
    """Parameters and running statistics agree to rounding, and training moved them."""
    expected = oracle(what, architecture)
    vector = FlatNetwork(expected).vector()
    assert torch.allclose(found.vector, vector, rtol=1e-4, atol=1e-5)
    for name, buffer in expected.named_buffers():
        own = dict(found.network.named_buffers())[name]
        assert torch.allclose(own.float(), buffer.float(), rtol=1e-4, atol=1e-5)
    start = SetTrainer(Clock("cell", CPU), what, architecture, stage(architecture))
    assert float((start.vector - vector).abs().max()) > 1e-2


def stage(architecture: str = SMALL, trial: int = 0) -> str:
    return f"evaluate/{architecture}/{trial}"


@pytest.mark.parametrize("augmentation", ["none", DSA])
@pytest.mark.parametrize(
    ("partition", "soft"), [(1, False), (1, True), (2, False), (2, True)]
)
def test_training_is_the_published_loop(
    augmentation: str, partition: int, soft: bool, trainers: list[SetTrainer]
) -> None:
    images = synthetic(7, partition, soft=soft)
    what = task(rules(augmentation=augmentation), images)
    (found,) = evaluate(Clock("cell", CPU), what)
    equal_to_oracle(trainers[0], what)
    network = oracle(what).eval()
    right = network(normalize(TEST.images, REAL.info)).argmax(1) == TEST.labels
    # Rounding may tip an image on the border of two classes.
    assert abs(found.accuracy * len(TEST.labels) - int(right.sum())) <= 1


@pytest.mark.parametrize("epochs", [2, 3, 8])
def test_the_loop_is_the_published_one_for_odd_and_even_epochs(
    epochs: int, trainers: list[SetTrainer]
) -> None:
    what = task(rules(epochs=epochs))
    evaluate(Clock("cell", CPU), what)
    equal_to_oracle(trainers[0], what)


def test_batch_norm_trains_as_in_the_published_loop(trainers: list[SetTrainer]) -> None:
    what = task(rules(epochs=4))
    (found,) = evaluate(
        Clock("cell", CPU), task(rules(epochs=4, architectures=(NORMED,)))
    )
    equal_to_oracle(trainers[0], what, NORMED)
    assert 0 <= found.accuracy <= 1


@pytest.mark.parametrize(("epochs", "dropped"), [(7, 5), (8, 5), (2, 2)])
def test_the_rate_drops_once_and_the_momentum_is_lost(
    epochs: int, dropped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    fresh: list[bool] = []

    class Seen(FlatSGD):
        def step(self, vector: Tensor, velocity: Tensor, gradient: Tensor) -> None:
            rates.append(float(self.learning_rate))
            fresh.append(not velocity.any())
            super().step(vector, velocity, gradient)

    monkeypatch.setattr(on_synthetic, "FlatSGD", Seen)
    clock = Clock("cell", CPU)
    evaluate(clock, task(rules(epochs=epochs)))
    batches = 3  # of 5, 5 and 2 images
    assert rates == pytest.approx(
        [0.05] * dropped * batches + [0.005] * (epochs - dropped) * batches
    )
    starts = [0, dropped * batches][: 1 + (dropped < epochs)]
    assert [i for i, zero in enumerate(fresh) if zero] == starts
    assert clock.timings[stage()].steps == epochs
    assert clock.timings[stage()].images == epochs * 12


def batches_of(what: Task) -> list[Tensor]:
    """What the network sees, batch by batch."""
    clock = Clock("cell", CPU)
    trainer = SetTrainer(clock, what, SMALL, stage())
    seen: list[Tensor] = []

    def see(network: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if network.training:  # not when it is tested
            seen.append(inputs[0])

    trainer.network.register_forward_pre_hook(see)
    for index in range(what.protocol.epochs):
        trainer.epoch(index)
    return seen


def test_each_pass_takes_every_image_once_in_another_order() -> None:
    images = synthetic(12)
    seen = batches_of(task(rules(epochs=3), images))
    assert [len(batch) for batch in seen] == [5, 5, 2] * 3
    passes = [torch.cat(seen[i : i + 3]) for i in (0, 3, 6)]
    orders = []
    for each in passes:
        same = (each[:, None] == images.images[None]).flatten(2).all(2)
        assert torch.equal(same.sum(0), torch.ones(12, dtype=torch.int64))
        orders.append(tuple(same.int().argmax(1).tolist()))
    assert len(set(orders)) == 3


@pytest.mark.parametrize("operation", ["color", "scale", "rotate", "crop", "cutout"])
def test_each_sample_has_parameters_of_its_own(operation: str) -> None:
    one = synthetic(1).images.expand(12, -1, -1, -1).clone()
    same = replace(synthetic(12), images=one)
    first, second, *_ = batches_of(task(rules(augmentation=operation), same))
    for batch in (first, second):
        differences = [(batch[0] - other).abs().max() for other in batch[1:]]
        assert max(map(float, differences)) > 1e-3
    assert not torch.equal(first, second)


def test_each_batch_has_one_operation() -> None:
    one = synthetic(1).images.expand(12, -1, -1, -1).clone()
    same = replace(synthetic(12), images=one)
    protocol = rules(augmentation="flip_cutout", epochs=8)
    kinds = set()
    for batch in batches_of(task(protocol, same)):
        flipped = [torch.equal(image, one[0].flip(-1)) for image in batch]
        cut = [bool((image == 0).any()) for image in batch]
        assert all(cut) or not any(cut)
        assert not (any(cut) and any(flipped))
        kinds.add(any(cut))
    assert kinds == {True, False}


def test_the_last_pass_counts_by_default() -> None:
    asked: list[Split] = []

    def measured(network: Network, split: Split, info: object) -> float:
        asked.append(split)
        return 0.25

    assert Protocol(name="dc").selection == "final"
    (found,) = evaluate(Clock("cell", CPU), task(rules())._replace(measure=measured))
    assert (found.accuracy, found.epoch, found.validation) == (0.25, 6, None)
    assert len(asked) == 1
    assert asked[0] is TEST


def scripted(what: Task, test: list[float], validation: list[float]) -> Task:
    """A task with the accuracies that will be measured, in order."""
    script = {id(TEST): iter(test), id(VALIDATION): iter(validation)}
    return what._replace(measure=lambda network, split, info: next(script[id(split)]))


def selecting(selection: Selection, **changes: object) -> Task:
    held_out = VALIDATION if selection == "best_val" else None
    return task(rules(selection=selection, **changes))._replace(validation=held_out)


def test_best_val_takes_the_first_best_pass_on_validation() -> None:
    validation = [0.1, 0.4, 0.4, 0.8, 0.8, 0.2, 0.7]
    what = scripted(selecting("best_val"), [0.3, 0.2, 0.9], validation)
    (found,) = evaluate(Clock("cell", CPU), what)
    assert (found.epoch, found.accuracy, found.validation) == (3, 0.9, 0.8)


def test_best_test_takes_the_first_best_pass_on_test() -> None:
    test = [0.1, 0.4, 0.2, 0.7, 0.7, 0.3, 0.6]
    what = scripted(selecting("best_test"), test, [])
    (found,) = evaluate(Clock("cell", CPU), what)
    assert (found.epoch, found.accuracy, found.validation) == (3, 0.7, None)


def test_selection_measures_now_and_then_and_at_the_end() -> None:
    what = selecting("best_test", measure_every=2)
    what = scripted(what, [0.1, 0.4, 0.2, 0.7], [])  # after passes 2, 4, 6 and 7
    (found,) = evaluate(Clock("cell", CPU), what)
    assert (found.epoch, found.accuracy) == (6, 0.7)


@pytest.mark.slow
def test_test_labels_do_not_reach_best_val() -> None:
    epochs = set()
    for key in "abcdef":
        what = selecting("best_val", epochs=10, learning_rate=0.2)
        (fair,) = evaluate(Clock(key, CPU), what)
        poisoned = ResidentSplit(TEST.images, (TEST.labels + 1) % 3, REAL.info)
        (other,) = evaluate(Clock(key, CPU), what._replace(test=poisoned))
        assert (other.epoch, other.validation) == (fair.epoch, fair.validation)
        assert other.accuracy != fair.accuracy
        epochs.add(fair.epoch)
        if len(epochs) > 2:
            break
    assert len(epochs) > 2  # the choice does depend on something


NOISY = rules(epochs=16, batch_size=30, learning_rate=0.3)


def noise(seed: int) -> Task:
    """A set and test images of random pixels, their labels drawn apart from them."""
    stream = torch.Generator().manual_seed(seed)
    labels = torch.arange(60)[torch.randperm(60, generator=stream)] % 3
    shape = (len(labels), 1, 8, 8)
    pixels = torch.randint(0, 256, shape, generator=stream, dtype=torch.uint8)
    images = torch.randn(30, 1, 8, 8, generator=stream)
    made = SyntheticSet(images, F.one_hot(torch.arange(30) % 3, 3).float())
    return Task(made, ResidentSplit(pixels, labels, REAL.info), REAL.info, NOISY)


@pytest.mark.slow
def test_best_test_is_optimistic_on_noise() -> None:
    """Noise teaches nothing: what is chosen on test is luck that is counted twice."""
    found: dict[Selection, list[float]] = {"final": [], "best_test": []}
    for seed in range(20):
        fair = noise(seed)
        for selection, accuracies in found.items():
            chosen = msgspec.structs.replace(NOISY, selection=selection)
            what = fair._replace(protocol=chosen)
            (evaluated,) = evaluate(Clock("noise", CPU), what)
            accuracies.append(evaluated.accuracy)
    final, best = (torch.tensor(each) for each in found.values())
    chance = 1 / 3
    error = (chance * (1 - chance) / 60 / 20) ** 0.5  # of the mean of all networks
    assert float(final.mean()) == pytest.approx(chance, abs=3 * error)
    assert bool((best >= final).all())  # the same networks, pass for pass
    assert float(best.mean()) > chance + 3 * error


def test_measuring_moves_no_number(trainers: list[SetTrainer]) -> None:
    for selection in ("final", "best_val", "best_test"):
        what = selecting(selection, architectures=(NORMED,))
        evaluate(Clock("cell", CPU), what)
    first, *others = trainers
    for other in others:
        assert torch.equal(first.vector, other.vector)
        for name, buffer in first.network.named_buffers():
            assert torch.equal(dict(other.network.named_buffers())[name], buffer)


def test_networks_have_streams_of_their_own(trainers: list[SetTrainer]) -> None:
    several = rules(architectures=("MLP", SMALL), networks=2, augmentation=DSA)
    clock = Clock("cell", CPU)
    found = evaluate(clock, task(several))
    order = [("MLP", 0), ("MLP", 1), (SMALL, 0), (SMALL, 1)]
    assert [(each.architecture, each.trial) for each in found] == order
    assert list(clock.timings) == [stage(*each) for each in order]
    fresh = [
        SetTrainer(Clock("cell", CPU), task(several), SMALL, stage(SMALL, trial))
        for trial in range(2)
    ]
    assert not torch.equal(fresh[0].vector, fresh[1].vector)
    orders = [torch.randperm(99, generator=each.shuffling) for each in fresh]
    assert not torch.equal(orders[0], orders[1])
    draws = [torch.rand(9, generator=each.drawing) for each in fresh]
    assert not torch.equal(draws[0], draws[1])


def test_more_networks_do_not_change_the_first(trainers: list[SetTrainer]) -> None:
    alone = rules(augmentation=DSA)
    among = rules(architectures=("MLP", SMALL), networks=2, augmentation=DSA)
    (single,) = evaluate(Clock("cell", CPU), task(alone))
    several = evaluate(Clock("cell", CPU), task(among))
    assert torch.equal(trainers[0].vector, trainers[3].vector)
    assert single.accuracy == several[2].accuracy
    assert not torch.equal(trainers[3].vector, trainers[4].vector)


def test_the_cell_decides_the_networks(trainers: list[SetTrainer]) -> None:
    for key in ("one", "one", "two"):
        evaluate(Clock(key, CPU), task(rules(augmentation=DSA)))
    assert torch.equal(trainers[0].vector, trainers[1].vector)
    assert not torch.equal(trainers[0].vector, trainers[2].vector)


def test_accuracy_by_hand() -> None:
    class Bright(Network):
        """Calls an image 2 when it is bright, 0 otherwise."""

        def forward(self, images: Tensor) -> Tensor:
            bright = (images.mean((1, 2, 3)) > 0).long()
            return F.one_hot(2 * bright, 3).float()

    pixels = torch.tensor([0, 255, 255, 0, 255], dtype=torch.uint8)
    images = pixels.view(5, 1, 1, 1).expand(5, 1, 8, 8).contiguous()
    labels = torch.tensor([0, 2, 1, 2, 2])  # the third and the fourth are wrong
    network = Bright(torch.nn.Sequential(), 64, 3)
    found = accuracy(network, ResidentSplit(images, labels, REAL.info), REAL.info)
    assert found == pytest.approx(3 / 5)


@pytest.mark.parametrize("architecture", [SMALL, NORMED])
def test_accuracy_in_pieces_is_the_whole(architecture: str) -> None:
    trainer = SetTrainer(Clock("cell", CPU), task(rules()), architecture, stage())
    for index in range(3):
        trainer.epoch(index)
    network, sizes = trainer.network, []
    whole = accuracy(network, REAL.test, REAL.info)
    assert 0 < whole < 1
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    network.memory_demand = demand(7)
    assert accuracy(network, REAL.test, REAL.info) == whole
    assert sizes == [7] * 5 + [1]


def large(architecture: str, images: int, trial: int) -> Network:
    """A network of which so many images fit into memory at a time."""
    stream = torch.Generator().manual_seed(trial)
    made = builder.build(architecture, channels=1, size=8, classes=3, generator=stream)
    made.memory_demand = demand(images)
    return made


@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_a_batch_in_pieces_is_the_whole(loss: str) -> None:
    what = task(rules(loss=loss, original_weight=0.5, batch_size=11))
    found = []
    for most in (100, 4):
        bounded = what._replace(start=partial(large, SMALL, most))
        trainer = SetTrainer(Clock("cell", CPU), bounded, SMALL, stage())
        sizes: list[int] = []
        trainer.network.register_forward_pre_hook(
            lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0]))
        )
        trainer.epoch(0)
        found.append(trainer.vector.clone())
    assert max(sizes) == 4
    whole, parts = found
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-6)


def test_batch_statistics_are_those_of_the_whole_batch() -> None:
    what = task(rules(batch_size=11))._replace(start=partial(large, NORMED, 4))
    trainer = SetTrainer(Clock("cell", CPU), what, NORMED, stage())
    sizes: list[int] = []
    trainer.network.register_forward_pre_hook(
        lambda _, inputs: sizes.append(len(inputs[0]))
    )
    trainer.epoch(0)
    assert sizes[0] == 11


def test_adamw_starts_anew_where_its_moments_do() -> None:
    """Its correction for the moments' start counts from there as well."""
    what = task(rules(optimiser="adamw", epochs=7, batch_size=11, learning_rate=0.1))
    trainer = SetTrainer(Clock("cell", CPU), what, SMALL, stage())
    batches = len(trainer.batches(0))
    taken = [trainer.begin(index)[1] for index in range(7)]
    assert taken == [batches * each for each in (0, 1, 2, 3, 4, 0, 1)]


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("architecture", [SMALL, NORMED])
@pytest.mark.parametrize("selection", ["final", "best_val"])
@pytest.mark.parametrize("after", [1, 4, 5])  # before, at and after the drop
def test_a_killed_training_goes_on_bit_for_bit(
    architecture: str,
    selection: Selection,
    after: int,
    tmp_path: Path,
    trainers: list[SetTrainer],
    train_by: Callable[[Any], None],
) -> None:
    what = selecting(selection, architectures=(architecture,), augmentation=DSA)
    (quiet,) = evaluate(Clock("cell", CPU), what)
    policy = RunPolicy(folder=tmp_path, interval=-1.0)
    passes: list[int] = []

    def killed(self: SetTrainer, index: int) -> None:
        if index == after and len(passes) == after:
            self.vector.fill_(7.0)  # what was under way when it died counts nothing
            passes.append(-1)
            raise KilledError
        passes.append(index)
        plain(self, index)

    plain = SetTrainer.epoch
    train_by(killed)
    with pytest.raises(KilledError):
        evaluate(Clock("cell", CPU, policy), what)
    (found,) = evaluate(Clock("cell", CPU, policy), what)
    assert passes == [*range(after), -1, *range(after, 7)]
    first, _, last = trainers
    assert torch.equal(last.vector, first.vector)
    assert torch.equal(last.velocity, first.velocity)
    for name, buffer in first.network.named_buffers():
        assert torch.equal(dict(last.network.named_buffers())[name], buffer)
    assert (found.accuracy, found.epoch, found.validation) == (
        *(quiet.accuracy, quiet.epoch),
        quiet.validation,
    )
    again = evaluate(Clock("cell", CPU, policy), what)  # finished: nothing runs
    assert len(passes) == 8
    assert again[0].accuracy == quiet.accuracy


def test_the_best_pass_outlives_a_stop(tmp_path: Path) -> None:
    what = scripted(selecting("best_val"), [0.8], [0.9] + [0.1] * 6)
    asked = iter([False, True])
    policy = RunPolicy(folder=tmp_path, stop=lambda: next(asked, False))
    with pytest.raises(InterruptedRunError, match="after step 2"):
        evaluate(Clock("cell", CPU, policy), what)
    (found,) = evaluate(Clock("cell", CPU, policy), what)
    assert (found.epoch, found.accuracy, found.validation) == (0, 0.8, 0.9)


def test_the_set_is_left_as_it_was() -> None:
    images = synthetic(12)
    before = images.images.clone()
    evaluate(Clock("cell", CPU), task(rules(augmentation=DSA), images))
    assert torch.equal(images.images, before)


def stacked(count: int = 3, **changes: object) -> Task:
    """Several networks, with all that differs between them."""
    return task(rules(networks=count, augmentation=DSA, **changes), synthetic(7, 2))


@pytest.mark.parametrize("architecture", [SMALL, "MLP", "ConvNetD2W8"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.slow
def test_networks_together_come_out_as_one_by_one(
    architecture: str, soft: bool, trainers: list[SetTrainer]
) -> None:
    what = task(
        rules(networks=3, augmentation=DSA, architectures=(architecture,)),
        synthetic(7, 2, soft=soft),
    )
    alone = evaluate(Clock("cell", CPU), what)
    together = evaluate(Clock("cell", CPU), what, together=True)
    for one, other in zip(trainers[:3], trainers[3:], strict=True):
        assert torch.allclose(one.vector, other.vector, rtol=1e-4, atol=1e-5)
        assert torch.allclose(one.velocity, other.velocity, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(trainers[0].vector, trainers[1].vector, atol=1e-2)
    for first, second in zip(alone, together, strict=True):
        assert (first.trial, first.epoch) == (second.trial, second.epoch)
        assert abs(first.accuracy - second.accuracy) <= 1 / len(TEST.labels)


def test_several_augmentations_train_networks_of_their_own_for_as_long() -> None:
    """Each as if it were alone, one by one or together, whatever the pass counts."""
    names = ("none", DSA, "autoaugment")
    several = rules(
        architectures=("MLP",), networks=2, epochs=4, augmentation="+".join(names)
    )
    clock = Clock("cell", CPU)
    alone = evaluate(clock, task(several))
    assert [(each.augmentation, each.trial) for each in alone] == [
        (name, trial) for name in names for trial in range(2)
    ]
    assert {timing.steps for timing in clock.timings.values()} == {several.epochs}
    assert len(clock.timings) == len(alone)
    together = evaluate(Clock("cell", CPU), task(several), together=True)
    for one, stacked_ in zip(alone, together, strict=True):
        assert (one.augmentation, one.trial) == (stacked_.augmentation, stacked_.trial)
        assert one.accuracy == pytest.approx(stacked_.accuracy, abs=0.06)  # one image
    one_name = msgspec.structs.replace(several, augmentation=DSA)
    single = evaluate(Clock("cell", CPU), task(one_name))
    assert [each.augmentation for each in single] == [None, None]


@pytest.mark.parametrize(
    ("names", "reason"),
    [("none+nonesuch", "nonesuch"), ("none+", "twice"), ("crop+cutout+crop", "twice")],
)
def test_a_wrong_list_of_augmentations_is_refused(names: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_protocol(rules(augmentation=names))


@pytest.mark.slow
def test_selection_is_each_networks_own_when_together() -> None:
    what = stacked(selection="best_val", epochs=10)._replace(validation=VALIDATION)
    alone = evaluate(Clock("cell", CPU), what)
    together = evaluate(Clock("cell", CPU), what, together=True)
    assert [each.epoch for each in alone] == [each.epoch for each in together]
    assert len({each.epoch for each in together}) > 1


@pytest.mark.slow
def test_memory_bounds_how_many_train_together() -> None:
    whole = Clock("cell", CPU)
    evaluate(whole, stacked(), together=True)
    assert list(whole.timings) == [f"evaluate/{SMALL}/0-2"]
    clock, what = Clock("cell", CPU), stacked()
    batch = min(what.protocol.batch_size, len(what.synthetic.images))
    bounded = what._replace(start=partial(large, SMALL, 2 * batch))
    evaluate(clock, bounded, together=True)
    assert list(clock.timings) == [f"evaluate/{SMALL}/0-1", f"evaluate/{SMALL}/2-2"]


def test_batch_norm_trains_alone_even_when_together_is_asked_for() -> None:
    clock = Clock("cell", CPU)
    evaluate(clock, stacked(2, architectures=(NORMED,)), together=True)
    assert list(clock.timings) == [stage(NORMED, trial) for trial in range(2)]


def test_networks_stopped_together_go_on_bit_for_bit(
    tmp_path: Path, trainers: list[SetTrainer]
) -> None:
    quiet = evaluate(Clock("cell", CPU), stacked(), together=True)
    asked = iter([False, False, True])
    policy = RunPolicy(folder=tmp_path, stop=lambda: next(asked, False))
    with pytest.raises(InterruptedRunError, match="after step 3"):
        evaluate(Clock("cell", CPU, policy), stacked(), together=True)
    found = evaluate(Clock("cell", CPU, policy), stacked(), together=True)
    for one, other in zip(trainers[:3], trainers[6:], strict=True):
        assert torch.equal(one.vector, other.vector)
    pairs = zip(quiet, found, strict=True)
    assert all(one.accuracy == other.accuracy for one, other in pairs)
