"""Nothing in a step, or in a pass of an evaluation, waits for the device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from meta_device import Crossings, elsewhere, empty, indices
from support import cell_run, dataset
from torch import Tensor

from dcbench_bacon.contract import Run
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.gradients import (
    GradientMatching,
    GradientMatchingSettings,
)
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.objectives import Bacon, SquaredMeanDistance, Sum
from dcbench_bacon.distillation.pipeline import MatchingSettings
from dcbench_bacon.distillation.trajectories import (
    TrajectoryMatching,
    TrajectorySettings,
)
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.training import on_synthetic, on_synthetic_stack
from dcbench_bacon.training.expert_store import ExpertStore, Pair
from dcbench_bacon.training.task import Task

DSA = "color_crop_cutout_flip_scale_rotate"
NETWORK = "ConvNetW32D2"
SMALL: dict[str, Any] = {"architecture": NETWORK, "batch_real": 6}
OBJECTIVE = Sum(SquaredMeanDistance(), Bacon("paper", "range"))


@pytest.mark.parametrize("sending", [False, True])
def test_what_waits_is_refused(sending: bool) -> None:
    here = torch.zeros(3)
    ways: list[Callable[[], Tensor]] = [
        lambda: empty(3)[torch.tensor([0])],
        lambda: here.to("meta"),
        lambda: empty(3).to("cpu"),
    ]
    for wrong in ways:
        with Crossings(sending=sending), pytest.raises((AssertionError, RuntimeError)):
            wrong()
    if sending:
        with Crossings(sending=True):
            here.to("meta", non_blocking=True)


def indexed(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """What ``class_index`` says of ``dataset()``, elsewhere."""
    return indices(classes, 12), indices(classes)


def dm(run: Run) -> DistributionMatching:
    return DistributionMatching(run, MatchingSettings(**SMALL), OBJECTIVE)


def idm(run: Run, **changes: Any) -> ImprovedMatching:
    more = {"queue_batch": 8, "queue_interval": 2, **changes}
    settings = ImprovedMatchingSettings(**{**SMALL, **more})
    learner = ImprovedMatching(run, settings, OBJECTIVE)
    learner.queue.together = True
    return learner


def in_turn(run: Run) -> ImprovedMatching:
    return idm(run, update="sequential", meter_reset_interval=2)


def dsa(run: Run) -> GradientMatching:
    loops = {"steps": 9, "outer_loop": 2, "inner_loop": 1, "network_batch": 4}
    return GradientMatching(run, GradientMatchingSettings(**{**SMALL, **loops}))


class Experts(ExpertStore):
    """Vectors on the host, as they come from the disk."""

    def __init__(self) -> None:
        network = builder.build(NETWORK, channels=1, size=8, classes=3)
        self.size = len(FlatNetwork(network))

    def pair(self, expert: int, start: int, end: int) -> Pair:
        return Pair(*torch.zeros(2, self.size))


def mtt(run: Run, *, recompute: bool = True) -> TrajectoryMatching:
    settings = TrajectorySettings(
        architecture=NETWORK, student_steps=2, experts=2, recompute=recompute
    )
    return TrajectoryMatching(run, settings, Experts())


def mtt_at_once(run: Run) -> TrajectoryMatching:
    return mtt(run, recompute=False)


@pytest.mark.parametrize("make", [dm, idm, in_turn, dsa, mtt, mtt_at_once])
@pytest.mark.slow
def test_no_step_waits_for_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Run], Any]
) -> None:
    """Draws, queue and update included, but for drawing a network's parameters.

    These come from a generator on the device, and no generator stands for that.
    """
    run, _ = elsewhere(tmp_path, monkeypatch)
    monkeypatch.setattr("dcbench_bacon.distillation.class_batches.class_index", indexed)
    run.train = run.train.to(run.device)
    learner = make(run)
    monkeypatch.setattr(builder, "reinitialize", lambda *_: None)
    with Crossings(sending=True):
        for step in range(3):
            learner.step(step)


@pytest.mark.gpu
@pytest.mark.parametrize("make", [dm, idm, in_turn, dsa, mtt, mtt_at_once])
def test_no_step_waits_for_a_gpu(tmp_path: Path, make: Callable[[Run], Any]) -> None:
    """As far as CUDA says so itself."""
    learner = make(cell_run(dataset(), tmp_path, device="cuda"))
    for step in range(3):
        learner.step(step)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3, 6):
            learner.step(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


KINDS: dict[str, dict[str, Any]] = {
    "dc": {},
    "adamw": {"optimiser": "adamw", "learning_rate": 0.001, "ema": 0.9},
    "mixed": {"mixing": "cutmix"},
}


@pytest.mark.parametrize("augmentation", ["none", DSA, "autoaugment", "randaugment"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_no_pass_waits_for_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, augmentation: str
) -> None:
    """Shuffling, augmentation and mixing included; tests of the networks left out."""
    run, _ = elsewhere(tmp_path, monkeypatch)
    rules = Protocol(**{"name": "test", **KINDS[kind], "augmentation": augmentation})
    synthetic = SyntheticSet(empty(6, 1, 8, 8), empty(6, 3))
    task = Task(synthetic, dataset().test, run.info, rules, measure=lambda *_: 0.0)
    learners = [
        on_synthetic.SetTrainer(run, task, "ConvNetW8D2", f"x/{trial}")
        for trial in range(2)
    ]
    stack = on_synthetic_stack.SetTrainerStack(learners)
    stack.epoch(0)  # constants of the data set travel once
    with Crossings(sending=True):
        stack.epoch(1)
