"""Checks of compiled code against eager code, to be run as a script.

In a process of its own: the checks of shapes that tests put into every function of the
package cannot be compiled.
"""

import tempfile
from pathlib import Path

import torch
from support import cell_run, dataset
from torch import Tensor

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.network_queue import (
    Minibatches,
    NetworkQueue,
)
from dcbench_bacon.distillation.objectives import SquaredMeanDistance
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.field_types import CompileMode
from dcbench_bacon.networks import base, builder, compilation
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.runtime.compute.compilation import Compiler, broken
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Evaluation
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.task import Task

CPU = torch.device("cpu")
SMALL = "ConvNetD1W8"
REAL = dataset()


def clock(mode: CompileMode) -> Clock:
    return Clock("cell", CPU, RunPolicy(compiler=Compiler(mode)))


def network(seed: int = 0, size: int = 8) -> base.Network:
    generator = torch.Generator().manual_seed(seed)
    return builder.build(SMALL, channels=1, size=size, classes=3, generator=generator)


def outcome(model: base.Network, images: Tensor) -> tuple[Tensor, ...]:
    """Features, logits, and the gradients of both kinds."""
    images = images.clone().requires_grad_()
    features, logits = model.features_and_logits(images)
    inputs = [images, *model.parameters()]
    return (
        *(features, logits, model.embed(images)),
        *torch.autograd.grad(features.sum() + logits.square().sum(), inputs),
    )


def a_network_computes_the_same_and_its_kind_is_compiled_once() -> None:
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = [outcome(network(seed), images) for seed in range(2)]
    stats = torch._dynamo.utils.counters["stats"]
    graphs = []
    for seed in range(2):
        model = network(seed)
        compilation.compile_network(clock("on"), model, REAL.info, 1)
        found = outcome(model, images)
        for one, other in zip(found, expected[seed], strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        graphs.append(stats["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[1] == graphs[0]


def a_step_is_the_step() -> None:
    settings = ImprovedMatchingSettings(
        architecture=SMALL, batch_real=4, queue_batch=8, queue_train_steps=2, steps=3
    )
    images = []
    for mode in ("off", "on", "on"):
        run = cell_run(REAL, Path(tempfile.mkdtemp()))
        run.policy = RunPolicy(compiler=Compiler(mode))
        learner = ImprovedMatching(run, settings, SquaredMeanDistance())
        for step in run.steps("match", 3, state=learner):
            learner.step(step)
        assert run.timings["match"].compilation.startswith(
            "yes" if mode == "on" else "no: not asked for"
        )
        images.append(learner.images)
    assert torch.allclose(images[0], images[1], rtol=1e-3, atol=1e-4)
    assert torch.equal(images[1], images[2])


def a_queue_trains_to_the_same() -> None:
    """Two networks in one pass, as on a GPU."""
    rows = []
    for mode in ("off", "on"):
        run = cell_run(REAL, Path(tempfile.mkdtemp()))
        run.policy = RunPolicy(compiler=Compiler(mode))
        queue = NetworkQueue(run, Training(architecture=SMALL))
        queue.together = True
        queue.compile(run, 1)
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):
            images = torch.randn(2, 6, 1, 8, 8, generator=generator)
            labels = torch.arange(12).view(2, 6) % 3
            queue.train([0, 2], [Minibatches(images, labels)])
        rows.append(queue.parameters)
    assert torch.allclose(rows[0], rows[1], rtol=1e-3, atol=1e-4)


def judged(mode: CompileMode, *, together: bool) -> list[Evaluation]:
    protocol = Protocol(
        name="test", architectures=(SMALL,), networks=2, epochs=3, batch_size=5
    )
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(7, 1, 8, 8, generator=generator)
    labels = torch.eye(3)[torch.arange(7) % 3]
    task = Task(SyntheticSet(images, labels), REAL.test, REAL.info, protocol)
    return evaluate(clock(mode), task, together=together)


def training_comes_to_the_same(*, together: bool) -> None:
    vectors: list[Tensor] = []
    keep = SetTrainer.measure

    def measure(self: SetTrainer, index: int) -> None:
        vectors.append(self.vector.clone())
        keep(self, index)

    SetTrainer.measure = measure  # type: ignore[method-assign]
    judged("off", together=together)
    judged("on", together=together)
    SetTrainer.measure = keep  # type: ignore[method-assign]
    half = len(vectors) // 2
    for one, other in zip(vectors[:half], vectors[half:], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(vectors[0], vectors[half - 1], rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    if reason := broken(CPU):
        print("nothing to compile with:", reason)
        raise SystemExit
    a_network_computes_the_same_and_its_kind_is_compiled_once()
    a_step_is_the_step()
    a_queue_trains_to_the_same()
    training_comes_to_the_same(together=False)
    training_comes_to_the_same(together=True)
    print("all the same")
