"""GraphedFunction functions against the functions themselves.

On a CPU ``recording.CpuRecorder`` stands in for CUDA graphs: it repeats operations on
the memory they first saw, and nothing of the Python around them.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from meta_device import Crossings, elsewhere, empty, indices
from recording import CpuRecorder, Recording
from support import cell_run, dataset, demand
from torch import Tensor

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.data.splits import ResidentSplit
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.feature_matching import Matcher
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.network_queue import NetworkQueue, QueueSize
from dcbench_bacon.distillation.objectives import (
    Bacon,
    Objective,
    SquaredMeanDistance,
    Sum,
)
from dcbench_bacon.distillation.pipeline import MatchingSettings
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.field_types import CompileMode
from dcbench_bacon.networks import builder
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.runtime.compute import cuda_graphs
from dcbench_bacon.runtime.compute.compilation import Compiler
from dcbench_bacon.runtime.compute.cuda_graphs import CALLS, GraphedFunction
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Evaluation
from dcbench_bacon.training import on_synthetic, on_synthetic_stack
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.task import Task

ALL = "color_crop_cutout_flip_scale_rotate"
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"architecture": "ConvNetW32D2", "batch_real": 6}


class Counted:
    """A function that knows how often Python ran it."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        return self.function(*inputs)


def recorded(function: cuda_graphs.Function) -> tuple[GraphedFunction, Counted]:
    counted = Counted(function)
    return GraphedFunction(counted, CpuRecorder(), lambda: None), counted


def test_what_was_recorded_is_repeated_without_python() -> None:
    weight = torch.ones(3)

    def function(x: Tensor, rate: Tensor) -> tuple[Tensor, ...]:
        y = x.clone()
        y += (rate * weight).view(1, 3)
        return y, y.sum()

    ours, counted = recorded(function)
    for call in range(3 * CALLS):
        weight.fill_(call)  # memory that stays is read anew
        x, rate = torch.randn(4, 3), torch.tensor(0.1 * call)
        result, expected = ours(x, rate), function(x, rate)
        assert all(torch.equal(*pair) for pair in zip(result, expected, strict=True))
    # Python ran it to warm up, to record and, together with the replay, to compare.
    assert counted.calls == CALLS + 1


def test_results_are_not_overwritten() -> None:
    ours, _ = recorded(lambda x: (x + 1,))
    results = [ours(torch.tensor(float(call)))[0] for call in range(2 * CALLS)]
    assert [float(each) for each in results] == [call + 1.0 for call in range(8)]


def test_each_shape_has_a_recording() -> None:
    ours, counted = recorded(lambda x: (x.cumsum(0),))
    for _ in range(2 * CALLS):
        for count in (2, 5):
            x = torch.randn(count)
            assert torch.equal(ours(x)[0], x.cumsum(0))
    assert counted.calls == 2 * (CALLS + 1)


def test_a_number_frozen_on_the_host_is_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rates = iter(range(100))
    ours, counted = recorded(lambda x: (x * next(rates),))
    with caplog.at_level(logging.WARNING):
        results = [float(ours(torch.ones(()))[0]) for _ in range(10)]
    assert "differs when recorded" in caplog.text
    # All calls but the recording's own run as they are.
    assert sorted(set(range(11)) - set(results)) == [3]
    assert counted.calls == 11


def test_what_cannot_be_recorded_runs_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, _ = recorded(lambda x: (x * x.max().item(),))
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            x = torch.rand(5)
            assert torch.equal(ours(x)[0], x * x.max())
    assert caplog.text.count("cannot be recorded") == 1
    assert "_local_scalar_dense" in caplog.text


def test_nothing_is_recorded_on_a_cpu(tmp_path: Path) -> None:
    assert cuda_graphs.recorder(CPU) is None
    run = cell_run(dataset(), tmp_path)
    assert run.graphed(Counted) is Counted  # type: ignore[arg-type,comparison-overlap]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Augmentation by tensors alone."""
    monkeypatch.setattr(Augmentation, "_by_operation", Augmentation.everywhere)


def recording(run: CellRun, record: bool) -> CellRun:
    run.policy = RunPolicy(compiler=Recording()) if record else RunPolicy()
    return run


OBJECTIVES: dict[str, Objective] = {
    "dm": SquaredMeanDistance(),
    "bacon": Bacon("paper", "range"),
    "sum": Sum(SquaredMeanDistance(), Bacon()),
}


def distil(learner: DistributionMatching, steps: int) -> Tensor:
    for step in learner.run.steps("match", steps, state=learner):
        learner.step(step)
    return learner.synthetic().images


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_recorded_steps_of_dm(tmp_path: Path, objective: str) -> None:
    def made(name: str, record: bool) -> DistributionMatching:
        run = recording(cell_run(dataset(), tmp_path / name), record)
        settings = MatchingSettings(**SMALL)
        return DistributionMatching(run, settings, OBJECTIVES[objective])

    plain, ours = made("a", False), made("b", True)
    assert torch.equal(distil(plain, 9), distil(ours, 9))
    assert plain.run.timings["match"].graphs == 0
    # Three functions, from the call after the one that compares.
    assert ours.run.timings["match"].graphs == 3 * (9 - CALLS)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    "changes", [{}, {"update": "sequential"}, {"partition": 1, "ce_weight": 0.0}]
)
@pytest.mark.slow
def test_recorded_steps_of_idm(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Networks of the queue come and go, and so do their parameters."""
    more = {"queue_batch": 16, "queue_train_steps": 2, "queue_interval": 3}

    def made(name: str, record: bool) -> ImprovedMatching:
        run = recording(cell_run(dataset(), tmp_path / name, method="idm"), record)
        settings = ImprovedMatchingSettings(**{**SMALL, **more, **changes})
        learner = ImprovedMatching(run, settings, Bacon())
        learner.queue.together = True
        return learner

    plain, ours = made("a", False), made("b", True)
    assert torch.equal(distil(plain, 10), distil(ours, 10))
    assert torch.equal(plain.queue.parameters, ours.queue.parameters)
    assert torch.equal(plain.queue.correct, ours.queue.correct)
    assert ours.run.timings["match"].graphs >= 3 * (10 - CALLS)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_recorded_steps_in_pieces(tmp_path: Path) -> None:
    """Runs of classes, the last of them shorter, share what was recorded."""

    def made(name: str, record: bool) -> DistributionMatching:
        run = recording(cell_run(dataset(classes=5), tmp_path / name), record)
        learner = DistributionMatching(run, MatchingSettings(**SMALL), Bacon())
        learner.network.memory_demand = demand(5)
        return learner

    assert torch.equal(distil(made("a", False), 7), distil(made("b", True), 7))


def noise(count: int, seed: int) -> ResidentSplit:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(
        0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8
    )
    return ResidentSplit(images, torch.arange(count) % 3, dataset().info)


def judged(
    protocol: Protocol, compiler: Compiler, device: torch.device = CPU
) -> tuple[list[Evaluation], int]:
    """The evaluations of a set of noise, and the launches of graphs."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(13, 1, 8, 8, generator=generator)
    labels = torch.rand(13, 3, generator=generator).softmax(1)
    clock = Clock("cell", device, RunPolicy(compiler=compiler))
    test = noise(200, 1).to(device)
    task = Task(SyntheticSet(images, labels), test, dataset().info, protocol)
    found = evaluate(clock, task, together=True)
    return found, sum(timing.graphs for timing in clock.timings.values())


PROTOCOLS: dict[str, dict[str, Any]] = {
    "dc": {},
    "cosine": {"schedule": "cosine"},
    "adamw": {"optimiser": "adamw", "learning_rate": 0.001, "ema": 0.9},
    "mixed": {"mixing": "cutmix", "augmentation": "color_crop"},
}


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("kind", PROTOCOLS)
@pytest.mark.parametrize("limit", [16, 2])
@pytest.mark.slow
def test_recorded_passes(
    kind: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates, moments and corrections go on from pass to pass; tails are of a size."""
    monkeypatch.setattr(on_synthetic_stack, "_GRAPH", limit)
    vectors: list[Tensor] = []

    class Kept(on_synthetic_stack.SetTrainerStack):
        def epoch(self, index: int) -> None:
            super().epoch(index)
            if index == 11:
                vectors.append(self.vectors.clone())

    monkeypatch.setattr("dcbench_bacon.evaluation.evaluate.SetTrainerStack", Kept)
    options: dict[str, Any] = {
        "name": "test",
        "architectures": ("ConvNetW8D2",),
        "networks": 2,
        "epochs": 12,
        "batch_size": 3,
        "augmentation": ALL,
        **PROTOCOLS[kind],
    }
    plain, none = judged(Protocol(**options), Compiler())
    ours, launched = judged(Protocol(**options), Recording())
    assert torch.equal(vectors[0], vectors[1])
    assert [each.accuracy for each in plain] == [each.accuracy for each in ours]
    assert (none, launched > 0) == (0, True)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_never_leaves_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str, weighted: bool
) -> None:
    run, functions = elsewhere(tmp_path, monkeypatch)
    real = RealImages(run)
    network = builder.build("ConvNetW32D2", channels=1, size=8, classes=3)
    network = network.to("meta").requires_grad_(False)
    augmentation = Augmentation(ALL, (8, 8))
    Matcher(run, network, real, OBJECTIVES[objective], augmentation, partition=2)
    augment, embed, differentiate = functions
    codes, values = indices(3), empty(3, 3)
    weight = (empty(),) if weighted else ()
    with Crossings():
        (images,) = augment(empty(3, 6, 1, 8, 8), codes, values)
        (features,) = embed(images)
        losses, gradient = differentiate(
            features, empty(3, 2, 1, 8, 8), indices(3), codes, values, *weight
        )
    assert losses.shape == (3,)
    assert gradient.shape == (3, 2, 1, 8, 8)


def test_training_the_queue_never_leaves_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, functions = elsewhere(tmp_path, monkeypatch)
    queue = NetworkQueue(run, Training(architecture="ConvNetW32D2"), QueueSize(start=2))
    (step,) = functions
    size = len(queue.flat)
    with Crossings():
        *state, correct = step(
            *(empty(2, size), empty(2, size)),
            *(empty(2, 4, 1, 8, 8), indices(2, 4), empty(2, 4, 1, 8, 8), indices(2, 4)),
        )
    assert [each.shape for each in state] == [(2, size), (2, size)]
    assert correct.shape == (2,)


@pytest.mark.parametrize("kind", ["dc", "adamw"])
def test_a_pass_never_leaves_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run, functions = elsewhere(tmp_path, monkeypatch)
    rules = Protocol(name="test", augmentation="none", **PROTOCOLS[kind])
    synthetic = SyntheticSet(empty(6, 1, 8, 8), empty(6, 3))
    task = Task(synthetic, noise(20, 1), run.info, rules)
    learners = [
        on_synthetic.SetTrainer(run, task, "ConvNetW8D2", f"x/{trial}")
        for trial in range(2)
    ]
    stack = on_synthetic_stack.SetTrainerStack(learners)
    (advance,) = functions
    batch = empty(2, 4, 1, 8, 8), empty(2, 4, 3), empty(2, 4, 3)
    with Crossings():
        *state, loss = advance(empty(2, dtype=torch.float64), *stack.state, *batch)
    assert [each.shape for each in state] == [each.shape for each in stack.state]
    assert loss.shape == ()


@pytest.mark.gpu
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_graphs_of_a_gpu(tmp_path: Path, objective: str) -> None:
    def made(name: str, mode: CompileMode) -> ImprovedMatching:
        run = cell_run(dataset(), tmp_path / name, method="idm", device="cuda")
        run.policy = RunPolicy(compiler=Compiler(mode))
        more = {"queue_batch": 16, "queue_train_steps": 2, "precision": "fp32"}
        settings = ImprovedMatchingSettings(**{**SMALL, **more})
        return ImprovedMatching(run, settings, OBJECTIVES[objective])

    plain, ours = made("a", "off"), made("b", "auto")
    pairs = distil(plain, 10), distil(ours, 10)
    torch.testing.assert_close(*pairs, rtol=1e-3, atol=1e-3)
    assert plain.run.timings["match"].graphs == 0
    assert ours.run.timings["match"].graphs >= 3 * (10 - CALLS)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", PROTOCOLS)
def test_passes_of_a_gpu(kind: str) -> None:
    rules = Protocol(
        **{"name": "test", "epochs": 12, "networks": 2, **PROTOCOLS[kind]},
        architectures=("ConvNetW8D2",),
        precision="fp32",
    )
    where = torch.device("cuda")
    plain, none = judged(rules, Compiler("off"), where)
    ours, launched = judged(rules, Compiler("auto"), where)
    assert none == 0 < launched
    assert [each.accuracy for each in plain] == pytest.approx(
        [each.accuracy for each in ours], abs=0.02
    )


@pytest.mark.gpu
def test_a_gpu_survives_what_cannot_be_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = cuda_graphs.CudaRecorder(torch.device("cuda"))
    wrong = GraphedFunction(lambda x: (x * x.max().item(),), own, lambda: None)
    later = GraphedFunction(lambda x: (x + 1,), own, lambda: None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2 * CALLS):
            x = torch.rand(5, device="cuda")
            assert torch.equal(wrong(x)[0], x * x.max())
            assert torch.equal(later(x)[0], x + 1)
    assert caplog.text.count("cannot be recorded") == 2
    assert "an earlier recording failed" in caplog.text
