"""Benchmarks: ``pytest --benchmark-only``; not part of an ordinary test run.

Every pair compares our code with the plain reference on the same shapes, threads and
machine. The reference runs in a process of its own, because our allocator setting
(``memory.keep_freed_memory``) would speed it up as well.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import reference
import torch
from support import cell_run, dataset
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.contract import Method, method_class
from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.data.synthetic import SyntheticSet, decode
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.objectives import Bacon, Objective, SquaredMeanDistance
from dcbench_bacon.distillation.pipeline import MatchingSettings
from dcbench_bacon.field_types import CompileMode, Precision
from dcbench_bacon.networks import base, builder
from dcbench_bacon.networks.compilation import compile_network
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes.protocols import Request
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.plans.planning import resolve
from dcbench_bacon.running.plans.step_timing import takes_steps
from dcbench_bacon.running.run import CellRun
from dcbench_bacon.runtime.compute.compilation import Compiler
from dcbench_bacon.runtime.compute.memory import keep_freed_memory
from dcbench_bacon.runtime.monitoring.stopwatch import peak_bytes
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.task import Task

IPC, REAL, CLASSES, SIZE = 10, 256, 10, 32  # CIFAR-10, IPC 10, as published
CPU = torch.device("cpu")
MODES: list[CompileMode] = ["off", "on"]
STRATEGY = "color_crop_cutout_flip_scale_rotate"
Benchmark = Any  # pytest-benchmark has no types
pytestmark = [
    pytest.mark.slow,
    # torch's own: its compiler looks at every attribute of the images.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]


class Losses(NamedTuple):
    ours: Objective
    reference: reference.Loss


LOSSES = {
    "idm": Losses(SquaredMeanDistance(), reference.squared_distance),
    "bacon": Losses(Bacon(), reference.bacon),
}


@pytest.fixture(scope="module")
def other_process() -> Iterator[Callable[..., Any]]:
    """Runs a function of this module in a process with torch's own settings."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def pixels(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, SIZE, SIZE, generator=generator)


@cache
def network(seed: int = 0) -> base.Network:
    generator = torch.Generator().manual_seed(seed)
    return builder.build(
        "ConvNet", channels=3, size=SIZE, classes=CLASSES, generator=generator
    )


@cache
def real_images() -> Tensor:
    return torch.unflatten(pixels(CLASSES * 500), 0, (CLASSES, 500))


def class_batches() -> list[reference.ClassBatch]:
    """Each class draws its images and an operation, as the published loop does."""
    augmentation = Augmentation(STRATEGY, (SIZE, SIZE))
    draw = augmentation.draw(CLASSES, torch.Generator().manual_seed(0))

    def one(label: int) -> reference.ClassBatch:
        chosen = torch.randperm(500)[:REAL]
        name, values = draw.operations[label], draw.values[label].tolist()
        return reference.ClassBatch(
            real_images()[label, chosen],
            lambda images: reference.augment(images, name, values),
            label,
        )

    return [one(label) for label in range(CLASSES)]


@cache
def reference_images(rate: float) -> tuple[Tensor, torch.optim.Optimizer]:
    images = pixels(CLASSES * IPC).requires_grad_()
    return images, torch.optim.SGD([images], lr=rate, momentum=0.5)


def reference_dm() -> None:
    """One iteration of DM's loop."""
    images, optimiser = reference_images(1.0)
    model = network().requires_grad_(False)
    reference.dm_iteration(model, class_batches(), images, optimiser)


def reference_queue(name: str) -> None:
    """One iteration of IDM's or BACON's loop, with the training of two networks."""
    images, optimiser = reference_images(0.2)
    model = network().requires_grad_(False)
    loss = LOSSES[name].reference
    reference.idm_iteration(model, class_batches(), images, optimiser, loss, 10.0)
    flat = real_images().flatten(0, 1)
    for seed in (1, 2):
        trained = network(seed).train().requires_grad_(True)
        sgd = torch.optim.SGD(trained.parameters(), 0.01, 0.9, weight_decay=5e-4)
        chosen = [torch.randint(len(flat), (256,)) for _ in range(10)]
        minibatches = [(flat[index], index // 500) for index in chosen]
        reference.train_network(trained, sgd, minibatches)


def reference_epoch() -> None:
    """One pass of the published evaluation over 400 decoded images, batch 256."""
    images, labels = pixels(400), torch.arange(400) % CLASSES
    model = network().train().requires_grad_(True)
    sgd = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=5e-4)
    augmentation = Augmentation(STRATEGY, (SIZE, SIZE))
    generator = torch.Generator().manual_seed(0)
    for index in torch.split(torch.randperm(400), 256):
        draw = augmentation.draw(1, generator, samples=len(index))
        rows = draw.values[0].unbind(1)
        batch = reference.operate(images[index], draw.operations[0], list(rows))
        loss = F.cross_entropy(model(batch), labels[index])
        sgd.zero_grad()
        torch.autograd.backward(loss)
        sgd.step()


@cache
def source() -> Dataset:
    return dataset(classes=CLASSES, per_class=500, channels=3, size=SIZE)


def our_run(name: str, mode: CompileMode, ipc: int = IPC) -> CellRun:
    """A run without files."""
    keep_freed_memory()
    run = cell_run(source(), Path(), method=name, ipc=ipc)
    run.policy = RunPolicy(compiler=Compiler(mode))
    return run


def our_dm(mode: CompileMode) -> Callable[[], None]:
    run, settings = our_run("dm", mode), MatchingSettings()
    learner = DistributionMatching(run, settings, SquaredMeanDistance())
    return lambda: learner.step(0)


def our_queue(
    name: str, mode: CompileMode, precision: Precision = "fp32"
) -> Callable[[], None]:
    settings = ImprovedMatchingSettings(precision=precision)
    learner = ImprovedMatching(our_run(name, mode), settings, LOSSES[name].ours)
    return lambda: learner.step(1)


def our_epoch(mode: CompileMode) -> Callable[[], None]:
    keep_freed_memory()
    labels = F.one_hot(torch.arange(400) % CLASSES, CLASSES).float()
    protocol = Protocol(name="dc")
    info = source().info
    task = Task(SyntheticSet(pixels(400), labels), source().test, info, protocol)
    clock = Clock("benchmark", CPU, RunPolicy(compiler=Compiler(mode)))
    trainer = SetTrainer(clock, task, "ConvNet", "one/0")
    compile_network(clock, trainer.network, info, 1)
    return lambda: trainer.epoch(0)


def measure(benchmark: Benchmark, step: Callable[[], object], rounds: int = 3) -> None:
    benchmark.pedantic(step, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info["torch"] = str(torch.__version__)


@pytest.mark.benchmark(group="step: DM, IPC 10")
def test_dm_reference(benchmark: Benchmark, other_process: Callable[..., Any]) -> None:
    measure(benchmark, lambda: other_process(reference_dm))


@pytest.mark.benchmark(group="step: DM, IPC 10")
@pytest.mark.parametrize("mode", MODES)
def test_dm(benchmark: Benchmark, mode: CompileMode) -> None:
    measure(benchmark, our_dm(mode))


@pytest.mark.benchmark(group="step: IDM, IPC 10")
def test_idm_reference(benchmark: Benchmark, other_process: Callable[..., Any]) -> None:
    measure(benchmark, lambda: other_process(reference_queue, "idm"))


@pytest.mark.benchmark(group="step: IDM, IPC 10")
@pytest.mark.parametrize("mode", MODES)
def test_idm(benchmark: Benchmark, mode: CompileMode) -> None:
    measure(benchmark, our_queue("idm", mode))


@pytest.mark.benchmark(group="step: BACON, IPC 10")
def test_bacon_reference(
    benchmark: Benchmark, other_process: Callable[..., Any]
) -> None:
    measure(benchmark, lambda: other_process(reference_queue, "bacon"))


@pytest.mark.benchmark(group="step: BACON, IPC 10")
@pytest.mark.parametrize("mode", MODES)
def test_bacon(benchmark: Benchmark, mode: CompileMode) -> None:
    measure(benchmark, our_queue("bacon", mode))


@pytest.mark.benchmark(group="step: BACON, IPC 10")
def test_bacon_in_bf16(benchmark: Benchmark) -> None:
    measure(benchmark, our_queue("bacon", "on", "bf16"))


@pytest.mark.benchmark(group="step: BACON, IPC 10")
def test_bacon_floor(benchmark: Benchmark) -> None:
    """The step's operations at the rate of a large matrix product."""
    step = our_queue("bacon", "off")
    with FlopCounterMode(display=False) as counter:
        step()
    side = 2048
    left, right = torch.randn(2, side, side)
    products = round(counter.get_total_flops() / (2 * side**3))
    benchmark.extra_info["flops"] = counter.get_total_flops()

    def multiply() -> None:
        for _ in range(products):
            torch.mm(left, right)

    measure(benchmark, multiply)


METHODS_WITH_STEPS = [name for name in METHODS.names() if takes_steps(name)]


@pytest.mark.benchmark(group="CIFAR-10, IPC 1: seconds a step in extra_info")
@pytest.mark.parametrize("name", METHODS_WITH_STEPS)
def test_every_method(
    benchmark: Benchmark,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The published recipe, cut to three steps, of which the first does not count."""
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path))
    recipe = resolve(Cell(name, "cifar10", 1), Request()).recipe
    method = method_class(name)
    assert issubclass(method, Method)
    settings = {**recipe.settings, **method.timed_with, "steps": 3}
    run = our_run(name, "off", ipc=1)
    run.policy = RunPolicy(warm_up=1)
    made = method.create(settings)
    benchmark.pedantic(lambda: made.distill(run), rounds=1)
    benchmark.extra_info["seconds_a_step"] = run.timings["match"].median


@pytest.mark.benchmark(group="evaluation epoch, 400 images")
def test_epoch_reference(
    benchmark: Benchmark, other_process: Callable[..., Any]
) -> None:
    measure(benchmark, lambda: other_process(reference_epoch), rounds=5)


@pytest.mark.benchmark(group="evaluation epoch, 400 images")
@pytest.mark.parametrize("mode", MODES)
def test_epoch(benchmark: Benchmark, mode: CompileMode) -> None:
    measure(benchmark, our_epoch(mode), rounds=5)


PEAKS: dict[str, Callable[[], object]] = {
    "DM, ours": lambda: our_dm("off")(),
    "DM, reference": reference_dm,
    "BACON, ours": lambda: our_queue("bacon", "off")(),
    "BACON, ours compiled": lambda: our_queue("bacon", "on")(),
    "BACON, reference": lambda: reference_queue("bacon"),
    "evaluation, ours": lambda: our_epoch("off")(),
    "evaluation, reference": reference_epoch,
}


def peak_of(name: str) -> int:
    """Peak resident bytes of a process that does it twice and nothing else."""
    for _ in range(2):
        PEAKS[name]()
    return peak_bytes(CPU)


@pytest.mark.benchmark(group="peak memory, in extra_info")
@pytest.mark.parametrize("name", PEAKS)
def test_peak_memory(benchmark: Benchmark, name: str) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        run = pool.submit(peak_of, name).result
        benchmark.extra_info["peak_bytes"] = benchmark.pedantic(run, rounds=1)


@pytest.mark.benchmark(group="augmentation of a step, 10 x 256 images")
@pytest.mark.parametrize("way", ["ours", "reference"])
def test_augmentation(benchmark: Benchmark, way: str) -> None:
    augmentation = Augmentation(STRATEGY, (SIZE, SIZE))
    draw = augmentation.draw(CLASSES, torch.Generator().manual_seed(0))
    images = real_images()[:, :REAL].contiguous()

    def loop() -> list[Tensor]:
        return [
            reference.augment(images[c], draw.operations[c], draw.values[c].tolist())
            for c in range(CLASSES)
        ]

    work = loop if way == "reference" else lambda: augmentation.apply(images, draw)
    measure(benchmark, work, rounds=10)


@pytest.mark.benchmark(group="decode 500 images")
@pytest.mark.parametrize("way", ["ours", "reference"])
def test_decode(benchmark: Benchmark, way: str) -> None:
    images = pixels(500)
    ours = way == "ours"
    work = (lambda: decode(images, 2)) if ours else lambda: reference.decode(images)
    measure(benchmark, work, rounds=20)


@pytest.mark.benchmark(group="start of digits from the cache")
def test_data_start(benchmark: Benchmark, tmp_path: Path) -> None:
    loading.load("digits", cache=tmp_path)
    measure(benchmark, lambda: loading.load("digits", cache=tmp_path), rounds=20)
