"""What the tasks of ``gpu_tasks`` time: steps and passes on the device of a machine."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reference
import torch
from steps import Shape, augmenting, network_of
from support import cell_run, dataset
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.objectives import Bacon
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.field_types import CompileMode, Precision
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.runtime.compute.compilation import Compiler
from dcbench_bacon.runtime.compute.precision import tensor_cores
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.on_synthetic_stack import SetTrainerStack
from dcbench_bacon.training.task import Task

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DSA = "color_crop_cutout_flip_scale_rotate"
FASHION = Shape(channels=1, size=28, ipc=10)  # Fashion-MNIST, IPC 10
TOY = Shape(
    classes=3,
    real=12,
    channels=1,
    size=8,
    ipc=2,
    batch_real=6,
    architecture="ConvNetD2W8",
)
QUEUE = {True: (2, 12), False: (10, 256)}  # batches and images of the queue's training
Work = Callable[[], Any]


def _shape(toy: bool) -> Shape:
    return TOY if toy else FASHION


def wait() -> None:
    """Wait until the device has done what it was told."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def take(work: Work, count: int) -> None:
    """Do something several times, without a wait in between."""
    for _ in range(count):
        work()
    wait()


def time_of(work: Work, rounds: int, warm_up: int = 2) -> float:
    """Return the median seconds of a call, after some that do not count."""
    take(work, warm_up)
    seconds = []
    for _ in range(rounds):
        before = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - before)
    return statistics.median(seconds)


def our_bacon(toy: bool, mode: CompileMode, precision: Precision) -> Work:
    """Return our step: matching, and the training of two networks of the queue."""
    shape, (batches, images) = _shape(toy), QUEUE[toy]
    source = dataset(
        classes=shape.classes,
        per_class=shape.real,
        channels=shape.channels,
        size=shape.size,
    )
    run = cell_run(source, Path(), method="bacon", ipc=shape.ipc, device=DEVICE.type)
    run.policy = RunPolicy(compiler=Compiler(mode))
    settings = ImprovedMatchingSettings(
        architecture=shape.architecture,
        batch_real=shape.batch_real,
        queue_train_steps=batches,
        queue_batch=images,
        precision=precision,
    )
    learner = ImprovedMatching(run, settings, Bacon())
    return lambda: learner.step(1)


def plain_bacon(toy: bool, precision: Precision) -> Work:
    """Return the published loop's step on the same shapes, class by class."""
    shape, (batches, count) = _shape(toy), QUEUE[toy]
    draws = torch.Generator().manual_seed(0)
    sizes = (shape.channels, shape.size, shape.size)
    real = torch.randn(shape.classes, shape.real, *sizes, generator=draws).to(DEVICE)
    images = torch.randn(shape.classes * shape.ipc, *sizes, generator=draws)
    images = images.to(DEVICE).requires_grad_()
    sgd = torch.optim.SGD([images], 0.2, 0.5)
    augmentation = Augmentation(DSA, (shape.size, shape.size))
    network = network_of(shape, shape.architecture).to(DEVICE)
    queue = [network_of(shape, shape.architecture, seed).to(DEVICE) for seed in (1, 2)]
    flat, labels = real.flatten(0, 1), torch.arange(shape.classes, device=DEVICE)
    labels = labels.repeat_interleave(shape.real)

    def batch(label: int, draw: Any) -> reference.ClassBatch:
        chosen = torch.randperm(shape.real)[: shape.batch_real]
        return reference.ClassBatch(real[label, chosen], augmenting(draw, label), label)

    def step() -> None:
        draw = augmentation.draw(shape.classes, draws)
        with DEVICE, tensor_cores(precision):  # new tensors of the loop are there, too
            matched = [batch(label, draw) for label in range(shape.classes)]
            reference.idm_iteration(
                network, matched, images, sgd, reference.bacon, weight=10.0
            )
            for member in queue:
                member.train().requires_grad_()
                optimiser = torch.optim.SGD(
                    member.parameters(), 0.01, 0.9, weight_decay=5e-4
                )
                chosen = [torch.randint(len(flat), (count,)) for _ in range(batches)]
                reference.train_network(
                    member,
                    optimiser,
                    [(flat[index], labels[index]) for index in chosen],
                )

    return step


def _task(toy: bool, passes: int) -> Task:
    """Return the evaluation of a decoded set of BACON by five networks."""
    shape = _shape(toy)
    source = dataset(
        classes=shape.classes,
        per_class=12 if toy else 100,
        channels=shape.channels,
        size=shape.size,
    )
    count = 4 * shape.ipc * shape.classes
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(count, shape.channels, shape.size, shape.size, generator=draws)
    labels = F.one_hot(torch.arange(count) % shape.classes, shape.classes).float()
    protocol = Protocol(
        name="dc",
        architectures=(shape.architecture,),
        networks=5,
        epochs=passes,
        augmentation=DSA,
    )
    test = source.test.to(DEVICE)
    return Task(SyntheticSet(images, labels), test, source.info, protocol)


def _clock(mode: CompileMode) -> Clock:
    return Clock("gpu", DEVICE, RunPolicy(compiler=Compiler(mode)))


def evaluation_seconds(toy: bool, together: bool, passes: int) -> float:
    """Return the seconds of training and testing five networks.

    A few passes before fill the caches of the compiler.
    """
    mode: CompileMode = "off" if toy else "on"
    evaluate(_clock(mode), _task(toy, 2 if toy else 8), together=together)
    wait()
    before = time.perf_counter()
    evaluate(_clock(mode), _task(toy, passes), together=together)
    wait()
    return time.perf_counter() - before


def graph_seconds(toy: bool) -> dict[str, Any]:
    """Return the seconds of a pass of five networks by who launches its kernels."""
    task = _task(toy, 100_000)
    task = task._replace(synthetic=task.synthetic.to(DEVICE))

    def pass_of(wrap: Callable[[Any], Any], mode: CompileMode) -> Work:
        clock = _clock(mode)
        architecture = task.protocol.architectures[0]
        trainers = [
            SetTrainer(clock, task, architecture, f"graphs/{trial}")
            for trial in range(task.protocol.networks)
        ]
        stack = SetTrainerStack(trainers)
        stack._advance = wrap(stack._advance)
        index = iter(range(100_000))
        return lambda: stack.epoch(next(index))

    def compiled(function: Any) -> Any:
        how: dict[str, str] = {"mode": "reduce-overhead"}
        made: Callable[..., tuple[Tensor, ...]] = torch.compile(
            function, **({"backend": "eager"} if toy else how)
        )

        def fresh(*tensors: Tensor) -> tuple[Tensor, ...]:
            torch.compiler.cudagraph_mark_step_begin()
            return tuple(tensor.clone() for tensor in made(*tensors))

        return fresh

    rounds, warm_up = (1, 2) if toy else (50, 8)
    seconds: dict[str, Any] = {}
    for name, wrap, mode in (
        ("plain", lambda function: function, "off"),
        ("CUDA graphs", lambda function: function, "on"),
        ("reduce-overhead", compiled, "off"),
    ):
        try:
            chosen: Any = mode
            seconds[name] = time_of(pass_of(wrap, chosen), rounds, warm_up)
        except Exception as error:  # noqa: BLE001 - a compiler can raise anything
            seconds[name] = f"{type(error).__name__}: {error}"[:300]
    return seconds
