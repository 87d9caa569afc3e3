"""Training on real images, and the row of the tables that it makes."""

from pathlib import Path

import msgspec
import pytest
import torch
from commandline import NETWORK, found, invoke, judged, only_record, settable
from records import record
from support import cell_run, dataset
from torch.nn import functional as F

from dcbench_bacon import contract
from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import as_set, normalize
from dcbench_bacon.errors import InterruptedRunError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.field_types import Preset
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.recipes import protocols
from dcbench_bacon.recipes.digests import digest
from dcbench_bacon.reporting.numbers import longform, tables
from dcbench_bacon.reporting.numbers.contents import captioned
from dcbench_bacon.reporting.printing import rendering
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.plans import planning
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell
from dcbench_bacon.training import teachers
from dcbench_bacon.training.on_real import RealImageTrainer, train
from dcbench_bacon.training.on_synthetic import SetTrainer as Pupil
from dcbench_bacon.training.settings import Training
from dcbench_bacon.training.task import Task

PLAIN = Training(
    architecture="ConvNetD1W8",
    epochs=5,  # the last at a tenth of the rate
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    batch_size=16,
    augmentation="",
)
AUGMENTED = msgspec.structs.replace(PLAIN, augmentation="color_crop_cutout_scale")
RUN = (
    *("run", "--datasets", "digits", "--preset", "demo", "--no-download"),
    *("--architectures", NETWORK, "--device", "cpu"),
    *(*settable("protocol.epochs", 2), *settable("protocol.networks", 2)),
)


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


def test_training_is_the_plain_loop(tmp_path: Path) -> None:
    """With PyTorch's own optimiser, on images that were normalised beforehand."""
    source = dataset()
    found = train(cell_run(source, tmp_path / "a"), PLAIN, "stage")
    run = cell_run(source, tmp_path / "b")
    network = builder.build(
        "ConvNetD1W8",
        channels=1,
        size=8,
        classes=3,
        generator=run.generator("stage/init", device="cpu"),
    )
    images = normalize(source.train.images, source.info)
    for epoch in range(5):
        if epoch in (0, 4):
            optimiser = torch.optim.SGD(
                network.parameters(),
                lr=0.05 if epoch < 4 else 0.005,
                momentum=0.9,
                weight_decay=5e-4,
            )
        order = torch.randperm(36, generator=run.generator("stage/shuffle"))
        for index in torch.split(order, 16):
            optimiser.zero_grad()
            loss = F.cross_entropy(network(images[index]), source.train.labels[index])
            torch.autograd.backward(loss)
            optimiser.step()
    for mine, theirs in zip(found.parameters(), network.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    untrained = RealImageTrainer(
        cell_run(source, tmp_path / "c"), PLAIN, "stage"
    ).vector
    assert not torch.allclose(untrained, FlatNetwork(found).vector(), atol=1e-2)


@pytest.mark.parametrize("after", [1, 3, 7, 12])
def test_training_resumes_in_the_middle_of_a_pass(after: int, tmp_path: Path) -> None:
    def vector(folder: Path, policy: RunPolicy) -> torch.Tensor:
        run = cell_run(dataset(), folder)
        run.policy = policy
        return FlatNetwork(train(run, AUGMENTED, "stage")).vector()

    quiet = vector(tmp_path / "a", RunPolicy())
    asked = iter(range(1, 99))
    stopping = RunPolicy(folder=tmp_path / "b", stop=lambda: next(asked) == after)
    with pytest.raises(InterruptedRunError, match=f"after step {after}$"):
        vector(tmp_path / "b", stopping)
    assert torch.equal(vector(tmp_path / "b", RunPolicy(folder=tmp_path / "b")), quiet)
    # Finished, and killed before the accuracy was taken: no step is left.
    assert torch.equal(vector(tmp_path / "b", RunPolicy(folder=tmp_path / "b")), quiet)


@pytest.mark.slow
def test_one_record_serves_all_ipc(tmp_path: Path) -> None:
    run = (*RUN, "--methods", "random,whole", "--output", tmp_path)
    result = invoke(*run, "--ipc", "1,2")
    assert result.exit_code == 0, result.output
    assert "3 cells" in result.stderr
    assert "Whole data set" in result.stdout
    (whole,) = [each for each in found(tmp_path) if each.cell.method == "whole"]
    assert whole.cell == Cell("whole", "digits", 0, 0)
    assert whole.synthetic_sha256 is None
    assert [each.trial for each in whole.evaluations] == [0, 1]
    assert whole.evaluations[0].accuracy != whole.evaluations[1].accuracy
    assert all(each.accuracy > 0.2 for each in whole.evaluations)
    assert whole.recipe.protocol.augmentation
    names = [path.name for path in (tmp_path / "synthetic").iterdir()]
    assert not any("whole" in name for name in names)
    again = invoke(*run, "--ipc", "5")
    assert "digits-ipc0-whole-s0" in again.stderr
    assert again.stderr.count("already done") == 1
    assert "digits" in invoke("show", "whole", "digits", 10).output


@pytest.mark.slow
def test_a_killed_reference_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(output: Path) -> tuple[object, ...]:
        fixed = ("--methods", "whole", "--ipc", 1, "--output", output)
        return (*RUN, *fixed, "--checkpoint-every", 0)

    assert invoke(*words(tmp_path / "quiet")).exit_code == 0
    disturbed, epoch, left = tmp_path / "disturbed", Pupil.epoch, 4

    def killed(self: Pupil, index: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        epoch(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Pupil, "epoch", killed)
        assert invoke(*words(disturbed)).exit_code == 130
    assert not found(disturbed)
    assert invoke(*words(disturbed)).exit_code == 0
    mine, theirs = only_record(disturbed), only_record(tmp_path / "quiet")
    assert judged(mine) == judged(theirs)
    stages = {name: cost.steps for name, cost in mine.evaluation.items()}
    assert stages == {f"evaluate/{NETWORK}/{trial}": 2 for trial in (0, 1)}


def test_a_pass_may_be_chosen_on_a_validation_split(tmp_path: Path) -> None:
    fixed = ("--methods", "whole", "--ipc", 1, "--output", tmp_path)
    assert invoke(*RUN, *fixed, "--selection", "best_val").exit_code == 0
    evaluations = only_record(tmp_path).evaluations
    assert all(each.validation is not None for each in evaluations)


@pytest.mark.slow
def test_the_whole_protocol_is_in_force(tmp_path: Path) -> None:
    """Optimiser, schedule, mixing and labels of ``common``, not those of ``dc``."""
    output = tmp_path / "whole"
    fixed = ("--methods", "whole", "--ipc", 1, "--output", output, "--protocol", "rded")
    few = (*settable("protocol.teachers", f'["{NETWORK}"]'), "--datasets", "digits")
    shorter = settable("protocol.teacher_epochs", 1)
    result = invoke(*RUN, *fixed, *few, *shorter)
    assert result.exit_code == 0, result.output
    made = only_record(output)
    digits = loading.load("digits")
    run = cell_run(digits, tmp_path / "by hand", method="whole", ipc=0)
    run.cell = made.cell
    protocol = made.recipe.protocol
    assert (protocol.optimiser, protocol.mixing) == ("adamw", "cutmix")
    teacher = teachers.find(run, protocol)
    clock = Clock(str(made.cell), torch.device("cpu"))
    task = Task(
        as_set(digits.train, digits.info),
        digits.test,
        digits.info,
        protocol,
        teachers=teacher.networks,
    )
    found = [each.accuracy for each in evaluate(clock, task)]
    assert found == [each.accuracy for each in made.evaluations]
    assert made.teachers == teacher.origins
    assert f"teacher/{NETWORK}" in made.evaluation


def test_what_real_images_cost_is_bytes(tmp_path: Path) -> None:
    """Pixels are normalised a batch at a time."""
    run = cell_run(dataset(), tmp_path)
    trainer = RealImageTrainer(run, PLAIN, "stage")
    sizes = [
        value.numel()
        for value in vars(trainer).values()
        if isinstance(value, torch.Tensor) and value is not trainer.order
    ]
    assert trainer.steps == 15
    assert set(sizes) == {trainer.vector.numel()}


def test_the_row_stands_last_beside_its_published_number() -> None:
    records = [
        record(Cell("whole", "cifar10", 0), (0.84, 0.85)),
        record(Cell("herding", "cifar10", 10), (0.3, 0.32)),
        record(Cell("random", "cifar10", 10), (0.25, 0.27)),
        record(Cell("k_means", "cifar10", 10), (0.4, 0.41)),
    ]
    table = tables.summary(longform.frame(records))
    assert table["method"].tolist() == ["random", "herding", "k_means", "whole"]
    assert table["ipc"].tolist() == [10, 10, 10, 0]
    assert table["published_mean"].tolist()[1:] == [31.6, 41.49, 84.8]
    shown = rendering.render(captioned("accuracy", table), "md").splitlines()
    last = [line for line in shown if line.startswith("|")][-1]
    assert "Whole data set" in last
    assert "| all |" in " ".join(last.split())
    rows = rendering.render(captioned("accuracy", table), "csv").splitlines()
    assert rows[-1].split(",")[1] == "0"


@pytest.mark.parametrize("preset", ["paper", "quick", "demo"])
def test_a_reference_has_one_recipe(preset: str) -> None:
    request = protocols.Request(preset=msgspec.convert(preset, Preset))
    digests = {
        digest(planning.resolve(cell, request).recipe)
        for cell in (contract.cell_of("whole", "cifar10", ipc) for ipc in (1, 10, 50))
    }
    assert len(digests) == 1
