"""Label regimes and budgets of updates: losses, labels, identity and tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from commandline import found, invoke, settable
from support import cell_run, dataset
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import InterruptedRunError, UsageError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.field_types import Regime
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import digests, protocols
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.reporting.literature import published
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell
from dcbench_bacon.training.losses import Criterion
from dcbench_bacon.training.on_synthetic import SetTrainer, prepare
from dcbench_bacon.training.regimes import label_bytes, labelled
from dcbench_bacon.training.task import Task

CPU = torch.device("cpu")
NETWORK = "ConvNetD1W8"
REAL = dataset()


def network(seed: int) -> Network:
    generator = torch.Generator().manual_seed(seed)
    made = builder.build(NETWORK, channels=1, size=8, classes=3, generator=generator)
    return made.eval()


def judging(regime: Regime, **changes: Any) -> Protocol:
    """The protocol of all methods under a regime, for tiny networks."""
    request = protocols.Request(protocol="common", regime=regime)
    full = protocols.protocol(Cell("any", "digits", 10), request)
    small = {"architectures": (NETWORK,), "networks": 1, "epochs": 4, "batch_size": 5}
    teachers = (NETWORK,) if full.teachers else ()
    return msgspec.structs.replace(full, **{**small, "teachers": teachers, **changes})


def a_set(count: int = 12, partition: int = 1) -> SyntheticSet:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    labels = torch.randn(count, 3, generator=generator).softmax(1)
    return SyntheticSet(images, labels, partition)


def task(protocol: Protocol, synthetic: SyntheticSet | None = None) -> Task:
    teachers = (network(7),) if protocol.teachers else ()
    made = synthetic or a_set()
    return Task(made, REAL.test, REAL.info, protocol, None, teachers)


def run_of(folder: Path) -> CellRun:
    return cell_run(REAL, folder)


def slow_loss(logits: Tensor, teacher: Tensor, temperature: float) -> float:
    """KL of softened rows, one number at a time, as in the paper of RDED."""
    total = 0.0
    for student_row, teacher_row in zip(logits.tolist(), teacher.tolist(), strict=True):
        p, q = (
            np.exp(np.array(row) / temperature)
            / np.exp(np.array(row) / temperature).sum()
            for row in (teacher_row, student_row)
        )
        total += sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))
    return total / len(logits)


@pytest.mark.parametrize("regime", ["soft", "renewed"])
def test_the_loss_is_that_of_a_slow_oracle(regime: Regime, tmp_path: Path) -> None:
    """Soft labels are of the images as they are, renewed ones of what is seen."""
    own = {"mixing": "none", "augmentation": "color_crop_scale", "temperature": 0.5}
    rules = judging(regime, **own)
    given = task(rules)
    prepared = labelled(run_of(tmp_path), given)
    trainer = SetTrainer(Clock("cell", CPU), prepared, NETWORK, "stage/0")
    index = torch.tensor([3, 0, 11, 7])
    batch = prepare([trainer], index[None])
    teacher = network(7)
    seen, original = batch.images[0], given.synthetic.images[index]
    assert not torch.equal(seen, original)
    with torch.no_grad():
        logits = trainer.network.eval()(seen)
        told = teacher(original if regime == "soft" else seen)
    loss = Criterion(prepared.protocol)(
        logits, type(batch.targets)(*(t[0] for t in batch.targets))
    )
    assert loss.item() == pytest.approx(slow_loss(logits, told, 0.5), rel=1e-4)


def test_mixed_soft_labels_are_mixed_probabilities(tmp_path: Path) -> None:
    prepared = labelled(run_of(tmp_path), task(judging("soft", augmentation="none")))
    trainer = SetTrainer(Clock("cell", CPU), prepared, NETWORK, "stage/0")
    index = torch.arange(12)[None]
    labels = prepare([trainer], index).targets.labels[0]
    mixer = SetTrainer(Clock("cell", CPU), prepared, NETWORK, "stage/0")
    assert mixer.mixer is not None
    mix = mixer.mixer.draw(12, mixer.pairing)
    expected = mix.labels(prepared.synthetic.labels[None])[0]
    assert torch.allclose(labels, expected)


def test_classes_are_the_largest_labels(tmp_path: Path) -> None:
    prepared = labelled(run_of(tmp_path), task(judging("hard")))
    assert not prepared.protocol.teachers
    assert prepared.protocol.loss == "ce"
    expected = F.one_hot(a_set().labels.argmax(1), 3).float()
    assert torch.equal(prepared.synthetic.labels, expected)


def test_soft_labels_are_made_once_for_each_part_and_kept(tmp_path: Path) -> None:
    given = task(judging("soft"), a_set(6, partition=2))
    shared = tmp_path / "shared"
    run = CellRun(*run_of(tmp_path)._parts, tmp_path / "cell", shared)
    first = labelled(run, given).synthetic
    assert len(first.labels) == 24 == len(first.images)
    assert first.partition == 1
    (kept,) = shared.glob("labels-*.safetensors")
    changed = kept.stat().st_mtime_ns
    assert torch.equal(labelled(run, given).synthetic.labels, first.labels)
    assert kept.stat().st_mtime_ns == changed
    labelled(run, given._replace(teachers=(network(8),)))
    assert len(list(shared.glob("labels-*.safetensors"))) == 2


def test_sizes_of_labels() -> None:
    sizes = {
        regime: label_bytes(task(judging(regime, updates=10), a_set(6, partition=2)))
        for regime in get_args(Regime)
    }
    assert sizes == {"hard": 24, "soft": 24 * 3 * 4, "renewed": 10 * 5 * 3 * 2}
    own = msgspec.structs.replace(judging("hard"), labels="own")
    assert label_bytes(task(own)) == 12 * 3 * 4


def test_labels_that_nobody_has_made_are_refused() -> None:
    with pytest.raises(UsageError, match="--regime"):
        evaluate(Clock("cell", CPU), task(judging("soft")))


def judged(given: Task, **changes: Any) -> list[SetTrainer]:
    """The trainers of an evaluation."""
    protocol = msgspec.structs.replace(given.protocol, **changes)
    clock = Clock("cell", CPU)
    trainer = SetTrainer(clock, given._replace(protocol=protocol), NETWORK, "s/0")
    for index in clock.steps("s/0", protocol.epochs, state=trainer):
        trainer.epoch(index)
    return [trainer]


@pytest.mark.parametrize("schedule", ["cosine", "drop"])
def test_a_budget_of_the_protocols_own_passes_changes_no_number(schedule: str) -> None:
    """Twelve images in batches of five are three updates a pass."""
    given = task(
        msgspec.structs.replace(judging("hard"), labels="own", schedule=schedule)
    )
    (without,), (within,) = judged(given), judged(given, updates=4 * 3)
    assert torch.equal(without.vector, within.vector)
    (other,) = judged(given, updates=4 * 3 + 1)
    assert not torch.equal(other.vector, within.vector)


@pytest.mark.parametrize("images", [3, 12, 40])
@pytest.mark.parametrize("updates", [2, 7, 30])
def test_every_set_has_the_same_updates(images: int, updates: int) -> None:
    rules = msgspec.structs.replace(judging("hard"), labels="own", updates=updates)
    given = task(rules, a_set(images))
    trainer = SetTrainer(Clock("cell", CPU), given, NETWORK, "s/0")
    taken, steps = [], []
    for index in range(rules.epochs):
        steps.append(trainer.begin(index)[1])
        taken += trainer.batches(index)
    assert len(taken) == updates
    assert steps[-1] <= updates
    row = torch.cat(taken)
    for start in range(0, len(row) - images + 1, images):
        assert set(row[start : start + images].tolist()) == set(range(images))


@pytest.mark.parametrize("together", [False, True])
def test_a_stopped_training_under_a_budget_goes_on(
    together: bool, tmp_path: Path, trainers: list[SetTrainer]
) -> None:
    rules = msgspec.structs.replace(judging("hard"), labels="own", updates=14)
    given = task(msgspec.structs.replace(rules, networks=2))
    evaluate(Clock("cell", CPU), given, together=together)
    asked = iter([False, True])
    policy = RunPolicy(folder=tmp_path, stop=lambda: next(asked, False))
    with pytest.raises(InterruptedRunError, match="after step 2"):
        evaluate(Clock("cell", CPU, policy), given, together=together)
    evaluate(Clock("cell", CPU, policy), given, together=together)
    for one, other in zip(trainers[:2], trainers[-2:], strict=True):
        assert torch.equal(one.vector, other.vector)


def digest_of(**given: Any) -> str:
    cell = Cell("any", "digits", 10)
    return digests.protocol_digest(
        protocols.protocol(
            cell, request_of("paper", preset=None, overrides=(), **given)
        )
    )


def test_regime_and_budget_are_part_of_the_identity() -> None:
    asked: list[dict[str, Any]] = [
        {"protocol": "common"},
        {"protocol": "hard"},
        {"regime": "hard"},
        {"regime": "soft"},
        {"regime": "soft", "budget": 100},
        {"regime": "soft", "budget": 101},
        {"regime": "soft", "protocol": "rded"},
    ]
    assert len({digest_of(**each) for each in asked}) == len(asked)
    assert digest_of(regime="renewed") == digest_of(protocol="common")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"regime": "soft", "protocol": "dc"}, "protocol dc has no teacher"),
        ({"regime": "renewed", "protocol": "hard"}, "protocol.teachers="),
        ({"regime": "hard", "overrides": ('protocol.teachers=["MLP"]',)}, "no teacher"),
        ({"regime": "soft", "overrides": ("protocol.labels=own",)}, "leave out one"),
    ],
)
def test_a_regime_that_cannot_be_is_refused(given: dict[str, Any], told: str) -> None:
    request = request_of("paper", preset=None, **{"overrides": (), **given})
    with pytest.raises(UsageError, match=told):
        protocols.protocol(Cell("any", "digits", 10), request)


def test_a_regime_is_compared_with_no_published_number() -> None:
    for name in ("rded", "sre2l"):
        request = protocols.Request(protocol=name, regime="hard")
        judged = protocols.protocol(Cell("any", "cifar10", 10), request)
        assert published.family(judged) not in protocols.protocol_names()


@pytest.mark.slow
def test_regimes_from_run_and_file_to_table(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    output = tmp_path / "out"
    few = (
        *("--budget", "updates=6", "--architectures", NETWORK, "--preset", "demo"),
        *("--device", "cpu"),
    )
    taught = (
        *settable("protocol.teacher_epochs", 2),
        *settable("protocol.teachers", f'["{NETWORK}"]'),
    )
    cells = ("--methods", "random", "--datasets", "digits", "--ipc", 1)
    for regime in ("hard", "soft", "renewed"):
        given = (*few, *(taught if regime != "hard" else ()), "--regime", regime)
        done = invoke("run", *cells, *given, "--output", output)
        assert done.exit_code == 0, done.output
    (path,) = (output / "synthetic").glob("*.safetensors")
    mine = synthetic_file.read(path)
    other = tmp_path / "other.safetensors"
    synthetic_file.write(other, replace(mine, images=mine.images * 0.5))
    pair = tmp_path / "foreign"
    to = ("--to", "mtt", "--output", pair)
    assert invoke("convert", other, *to).exit_code == 0
    reading = ("--dataset", "digits", "--no-zca", "--normalized")
    done = invoke(
        "evaluate",
        pair,
        *reading,
        *few,
        *taught,
        "--regime",
        "soft",
        "--output",
        output,
    )
    assert done.exit_code == 0, done.output
    records = found(output)
    assert {each.regime for each in records} == {"hard", "soft", "renewed"}
    sizes = {each.regime: each.taught_bytes for each in records}
    assert sizes == {"hard": 10, "soft": 400, "renewed": 6 * 10 * 10 * 2}
    shown = invoke(
        *("table", "--what", "regimes", "--preset", "demo", "--output", output)
    ).stdout
    rows = [line for line in shown.splitlines() if line.startswith("| Digits")]
    assert len(rows) == 4
    assert [row.split("|")[3].strip() for row in rows] == [
        *("hard", "soft", "soft", "renewed")
    ]
    assert "foreign" in rows[2] + rows[1]
