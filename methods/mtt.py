"""MTT: matching training trajectories (Cazenavette et al., CVPR 2022).

Experts are networks trained on the real images, with a snapshot of their parameters
after each pass. Each step draws an expert and a pass t, starts a student there, trains
it for N steps on the synthetic images, with DSA drawn anew for each, at a learning rate
that is learned with the images, and descends on

    || student_N - expert_(t+M) ||^2 / || expert_t - expert_(t+M) ||^2.

Departures (what | published code | here):
    - experts | shuffled, each used once before any comes again (by default) | drawn
      with replacement
    - snapshots of experts trained on a CPU | all of them are the last one | copies
    - learned rate | may become negative, and is not saved | held above a hundredth of
      its start, saved with the set
    - CIFAR-100 without ZCA | normalised by CIFAR-10's statistics | by CIFAR-100's
    - Tiny-ImageNet | depth 4 in the paper, 3 in the commands of IPC 1 and 10 | depth 4
"""

from typing import ClassVar

from dcbench_bacon.api import Method, Run, SyntheticSet
from dcbench_bacon.distillation.trajectories import (
    TrajectoryMatching,
    TrajectorySettings,
    train_experts,
)


class MTT(Method):
    """Matches the path of networks in training on real images."""

    Settings = TrajectorySettings
    timed_with: ClassVar = {
        "experts": 1,
        "expert_passes": 1,
        "expert_epochs": 1,
        "max_start_epoch": 1,
        "zca": False,
    }

    def distill(self, run: Run) -> SyntheticSet:
        """Train or find the experts, then update the images ``steps`` times."""
        settings = self.settings
        settings.check()
        store = train_experts(run, settings.training, settings.experts)
        learner = TrajectoryMatching(run, settings, store)
        for step in run.steps("match", settings.steps, state=learner):
            learner.step(step)
        return learner.synthetic()
