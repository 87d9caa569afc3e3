"""MTT: the gradient through the student, the learner, and runs that are stopped."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import commandline
import msgspec
import pytest
import torch
from commandline import (
    assert_same,
    found,
    invoke,
    only_record,
    only_set,
    run_killed,
    settable,
)
from support import cell_run, dataset
from torch import Tensor

from dcbench_bacon import contract
from dcbench_bacon.augmentation.siamese import Augmentation
from dcbench_bacon.contract import Method
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.trajectories import (
    TrajectoryMatching,
    TrajectorySettings,
)
from dcbench_bacon.distillation.unrolled import Student, StudentBatch, StudentMatch
from dcbench_bacon.errors import DataError, InterruptedRunError, UsageError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.evaluation.judged import protocol_for_set
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import protocols
from dcbench_bacon.running.plans import planning, step_timing
from dcbench_bacon.running.plans.planning_of_grids import Grid
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell

SETTINGS: dict[str, Any] = {
    "steps": 4,
    "image_lr": 5.0,
    "student_lr": 0.1,
    "lr_lr": 1e-3,
    "student_steps": 3,
    "student_batch": 4,
    "expert_epochs": 1,
    "max_start_epoch": 3,
    "architecture": "ConvNetD1W8",
    "experts": 2,
    "expert_passes": 3,
    "expert_lr": 0.1,
    "expert_momentum": 0.5,
    "expert_batch": 10,
}
STEPS = 2 * 3 + 4  # of both stages


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of each test's own."""
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path / "experts"))
    return tmp_path / "experts"


class Case:
    """A student of a smooth tiny network in float64, and what it is given."""

    def __init__(self, seed: int) -> None:
        draws = torch.Generator().manual_seed(seed)
        network = builder.build(
            "ConvNetD1W8AS", channels=1, size=8, classes=3, generator=draws
        )
        self.flat = FlatNetwork(network.double())
        self.labels = torch.arange(3).repeat_interleave(2)
        self.augmentation = Augmentation("color_crop_cutout_flip_scale_rotate", (8, 8))
        start = self.flat.vector()
        away = torch.randn(start.shape, generator=draws, dtype=torch.float64)
        self.pair = start, start + 0.1 * away
        self.images = torch.randn(6, 1, 8, 8, generator=draws, dtype=torch.float64)
        self.direction = torch.randn(6, 1, 8, 8, generator=draws, dtype=torch.float64)
        self.rate = torch.tensor(0.3, dtype=torch.float64)
        self.batches = [
            StudentBatch(
                torch.randperm(6, generator=draws)[:4],
                self.augmentation.draw(1, draws, samples=4),
            )
            for _ in range(5)
        ]

    def matched(self, images: Tensor, rate: Tensor, **options: Any) -> StudentMatch:
        student = Student(self.flat, self.labels, self.augmentation, **options)
        return student(self.pair, images, rate, self.batches)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_finite_differences(seed: int, recompute: bool) -> None:
    case = Case(seed)
    matched = case.matched(case.images, case.rate, recompute=recompute)
    step = 1e-5

    def loss(images: Tensor, rate: Tensor) -> Tensor:
        return case.matched(images, rate, recompute=recompute).loss

    move = step * case.direction
    ahead, behind = (loss(case.images + sign * move, case.rate) for sign in (1, -1))
    along = (matched.images * case.direction).sum()
    assert torch.allclose((ahead - behind) / (2 * step), along, rtol=1e-6)
    ahead, behind = (loss(case.images, case.rate + sign * step) for sign in (1, -1))
    assert torch.allclose((ahead - behind) / (2 * step), matched.rate, rtol=1e-6)
    assert matched.images.abs().max() > 1e-4
    assert matched.rate.abs() > 1e-3


@pytest.mark.parametrize("most", [2**31, 4, 3, 1])
@pytest.mark.parametrize("seed", range(3))
def test_recomputation_changes_nothing(seed: int, most: int) -> None:
    case = Case(seed)
    graph = case.matched(case.images, case.rate, recompute=False)
    back = case.matched(case.images, case.rate, recompute=True, most=most)
    for own, other in zip(back, graph, strict=True):
        assert torch.allclose(own, other, rtol=1e-10, atol=1e-14)


def test_the_loss_is_relative_to_the_way_of_the_expert() -> None:
    case = Case(0)
    still = case.matched(case.images, torch.zeros_like(case.rate))
    assert still.loss == pytest.approx(1.0)
    assert not still.images.any()


def settings(**changes: Any) -> dict[str, Any]:
    defaults = contract.method_class("mtt").Settings
    return {
        **{f: getattr(defaults(), f) for f in defaults.__struct_fields__},
        **SETTINGS,
        **changes,
    }


def distil(
    folder: Path, policy: RunPolicy | None = None, **changes: Any
) -> SyntheticSet:
    run = cell_run(dataset(), folder, method="mtt")
    if policy:
        run.policy = replace(policy, folder=folder)
    method = contract.method_class("mtt").create(settings(**changes))
    assert isinstance(method, Method)
    return method.distill(run)


def test_recomputation_is_an_option_of_the_method(tmp_path: Path) -> None:
    back = distil(tmp_path / "a")
    graph = distil(tmp_path / "b", recompute=False)
    assert torch.allclose(back.images, graph.images, rtol=1e-4, atol=1e-5)
    assert back.provenance["learning_rate"] == pytest.approx(
        graph.provenance["learning_rate"], rel=1e-4
    )


def test_images_and_learning_rate_are_learned_and_kept(tmp_path: Path) -> None:
    made = distil(tmp_path / "a")
    started = distil(tmp_path / "b", image_lr=1e-12, lr_lr=0.0)
    assert (made.images - started.images).abs().max() > 1e-3
    assert started.provenance["learning_rate"] == pytest.approx(0.1)
    learned = made.provenance["learning_rate"]
    assert learned != pytest.approx(0.1, rel=1e-6)
    path = tmp_path / "set.safetensors"
    synthetic_file.write(path, made)
    assert synthetic_file.read(path).provenance["learning_rate"] == learned
    assert made.provenance["experts"]["count"] == 2


@pytest.mark.parametrize("size", [1e6, -1e6])
def test_the_learning_rate_stays_positive(size: float, tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path, method="mtt")
    chosen = TrajectorySettings(**SETTINGS)
    store = work_store(run, chosen)
    learner = TrajectoryMatching(run, chosen, store)
    student = learner.student

    def steep(*arguments: Any) -> StudentMatch:
        return student(*arguments)._replace(rate=torch.tensor(size))

    learner.student = steep  # type: ignore[assignment]
    for step in range(3):
        learner.step(step)
        assert learner.rate >= 0.01 * chosen.student_lr


def work_store(run: Any, chosen: TrajectorySettings) -> Any:
    from dcbench_bacon.training.experts import train_experts

    return train_experts(run, chosen.training, chosen.experts)


def test_batches_use_every_image_before_any_twice(tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path, method="mtt")
    chosen = TrajectorySettings(**{**SETTINGS, "student_steps": 4, "student_batch": 3})
    learner = TrajectoryMatching(run, chosen, work_store(run, chosen))
    first, second, third, fourth = (batch.index for batch in learner._batches())
    for pair in ((first, second), (third, fourth)):
        assert torch.cat(pair).sort().values.tolist() == list(range(6))


def test_short_students_do_not_miss_the_short_batch(tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path, method="mtt")
    chosen = TrajectorySettings(**{**SETTINGS, "student_steps": 1, "student_batch": 4})
    learner = TrajectoryMatching(run, chosen, work_store(run, chosen))
    (only,) = learner._batches()
    assert (
        len(only.index) == 2
    )  # of 6 images, as distill.py, which takes the last piece


# Inside each stage and one step before the end; then all others.
QUICK = (1, 4, STEPS - 1)
OTHERS = [n for n in range(1, STEPS) if n not in QUICK]


@pytest.mark.parametrize(
    "after", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)]
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = distil(tmp_path / "quiet")
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path / "other"))
    asked: Iterator[int] = iter(range(1, 100))
    stopped = RunPolicy(interval=0.0, stop=lambda: next(asked) >= after)
    disturbed = tmp_path / "disturbed"
    if after != 2 * 3:  # a stage's last step ends it before it can be stopped
        with pytest.raises(InterruptedRunError):
            distil(disturbed, stopped)
    again = distil(disturbed)
    assert torch.equal(again.images, quiet.images)
    own, other = again.provenance, quiet.provenance
    assert own["learning_rate"] == other["learning_rate"]
    for name in ("key", "count", "bytes"):
        assert own["experts"][name] == other["experts"][name]


def command(output: Path, *extra: str) -> list[str]:
    """A run of a moment."""
    small = {**SETTINGS, "protocol.epochs": 4, "protocol.networks": 2}
    pairs = [text for key, value in small.items() for text in settable(key, value)]
    fixed = ["run", "--methods", "mtt", "--datasets", "digits", "--ipc", "1"]
    fixed += ["--preset", "demo", "--architectures", "ConvNetD1W8", "--device", "cpu"]
    return [*fixed, *pairs, "--output", str(output), "--checkpoint-every", "0", *extra]


@pytest.mark.slow
def test_killed_at_every_kind_of_write(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    quiet, disturbed = tmp_path / "quiet", tmp_path / "disturbed"
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path / "a"))
    run_killed(*command(disturbed))
    monkeypatch.setenv("DCBENCH_EXPERTS", str(tmp_path / "b"))
    code, _, err = commandline.run(*command(quiet))
    assert code == 0, err
    assert_same(disturbed, quiet)
    stages = only_record(quiet).distillation
    assert {name: cost.steps for name, cost in stages.items()} == {
        "experts": 6,
        "match": 4,
    }
    shards = [sorted((tmp_path / name).glob("*/*.safetensors")) for name in "ab"]
    for own, other in zip(*shards, strict=True):
        assert own.read_bytes() == other.read_bytes()
    assert len(shards[0]) == 2


@pytest.mark.slow
def test_two_processes_train_the_experts_once(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    outputs = [tmp_path / "a", tmp_path / "b"]
    ends = [
        commandline.finish(process)
        for process in [commandline.start(*command(output)) for output in outputs]
    ]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert torch.equal(only_set(outputs[0]), only_set(outputs[1]))
    trained = [found(each)[0].distillation["experts"].steps for each in outputs]
    assert sorted(trained) == [0, 6]


@pytest.mark.slow
def test_the_set_is_judged_at_its_own_learning_rate(
    tmp_path: Path,
    digits_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluate_by: Callable[[Any], None],
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    seen = []

    def judged(clock: Any, task: Any, *more: Any) -> Any:
        seen.append(task.protocol.learning_rate)
        return evaluate(clock, task, *more)

    evaluate_by(judged)
    own, fixed = tmp_path / "own", tmp_path / "fixed"
    assert invoke(*command(own)).exit_code == 0
    off = settable("protocol.use_learned_rate", "false")
    assert invoke(*command(fixed, *off)).exit_code == 0
    (path,) = (own / "synthetic").glob("*")
    assert seen == [synthetic_file.read(path).provenance["learning_rate"], 0.05]
    assert torch.equal(only_set(own), only_set(fixed))
    assert only_record(own).digest != only_record(fixed).digest


@pytest.mark.slow
def test_a_step_is_timed_without_the_experts_of_the_recipe(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    grid = Grid(
        methods=("mtt",),
        datasets=("digits",),
        ipc=(2,),
        seeds=(0,),
        request=protocols.Request(
            overrides={"architecture": "ConvNetW8D2", "student_steps": "3"}
        ),
    )
    (record,) = step_timing.time_steps(grid, RunConfig(torch.device("cpu")).here(), 2)
    experts, match = (record.distillation[name] for name in ("experts", "match"))
    assert experts.steps == 1  # one pass of one expert, not 50 of 100
    assert experts.step_flops is None
    assert match.steps == 2
    assert match.images == 2 * 3 * 20
    # By hand: 3x3 convolutions of 8 and 4 pixels a side and the classifier. A forward
    # and a backward pass on the way out; on the way back both again, and the backward
    # of each: at least three times the forward pass each time.
    forward = 2 * (9 * 8 * 8**2 + 9 * 8 * 8 * 4**2 + 8 * 2**2 * 10)
    assert match.step_flops is not None
    assert 6 * 60 * forward < match.step_flops < 12 * 60 * forward


@pytest.mark.parametrize("learned", [None, -0.1, 0.0, float("nan"), "0.1"])
def test_a_set_without_a_learning_rate_is_not_judged_at_it(learned: object) -> None:
    images, labels = torch.zeros(1, 1, 8, 8), torch.ones(1, 1)
    made = SyntheticSet(images, labels, provenance={"learning_rate": learned})
    protocol = Protocol(name="dc", use_learned_rate=True)
    with pytest.raises(DataError, match="use_learned_rate=false"):
        protocol_for_set(protocol, made)
    assert protocol_for_set(Protocol(name="dc"), made).learning_rate == 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_start_epoch": 4}, "expert_passes"),
        ({"architecture": "ConvNetBN"}, "instance norm"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        distil(tmp_path, **changes)
    assert not list(Path(os.environ["DCBENCH_EXPERTS"]).glob("*/*.safetensors"))


def test_published_settings_fit_each_other() -> None:
    for name in ("cifar10", "cifar100", "tiny_imagenet"):
        for ipc in (1, 10, 50):
            for preset in ("paper", "quick", "demo"):
                resolved = planning.resolve(
                    Cell("mtt", name, ipc), protocols.Request(preset=preset)
                )
                settings = resolved.recipe.settings
                msgspec.convert(settings, TrajectorySettings).check()
                assert resolved.recipe.protocol.use_learned_rate
