"""What ``dcbench evaluate`` records."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import NETWORK, found, invoke, judged, only_record, settable, tiny

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.evaluation import evaluate as evaluation
from dcbench_bacon.training.on_synthetic import SetTrainer

FEW = (*settable("protocol.epochs", 3), *settable("protocol.networks", 2))
CPU = ("--device", "cpu")


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A set of DM with its record in ``run``."""
    fixed = ("--methods", "dm", "--ipc", 2, "--output", tmp_path / "run")
    assert invoke("run", *fixed, *tiny(epochs=3)).exit_code == 0
    (path,) = (tmp_path / "run" / "synthetic").glob("*.safetensors")
    return path


def evaluate(path: Path, output: Path, *options: object, network: str = NETWORK) -> str:
    """Runs the command; what it printed about the set."""
    fixed = ("--preset", "demo", "--architectures", network, *CPU, *FEW)
    done = invoke("evaluate", path, *fixed, *options, "--output", output)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_set_is_recorded_as_by_run(made: Path, tmp_path: Path) -> None:
    printed = evaluate(made, tmp_path / "again")
    ours, theirs = only_record(tmp_path / "again"), only_record(tmp_path / "run")
    assert judged(ours) == judged(theirs)
    assert ours.digest == theirs.digest
    assert ours.distillation == theirs.distillation
    assert ours.synthetic_sha256 == theirs.synthetic_sha256
    mean = sum(each.accuracy for each in ours.evaluations) / 2
    assert f"{100 * mean:.2f}" in printed


def test_other_networks_stand_in_the_transfer_table(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    evaluate(made, output, network="MLP")
    assert len(found(output)) == 2
    shown = invoke(
        "table", "--what", "transfer", "--preset", "demo", "--output", output
    )
    _, _, heading, _, row, *_ = shown.stdout.splitlines()
    assert NETWORK in heading
    assert "MLP" in heading
    assert row.count("(n=2)") == 2


def test_what_is_recorded_is_not_done_again(
    made: Path, tmp_path: Path, evaluate_by: Callable[[Any], None]
) -> None:
    output = tmp_path / "again"
    first = evaluate(made, output)
    calls = []
    own = evaluation.evaluate

    def counted(*arguments: object) -> object:
        calls.append(arguments)
        return own(*arguments)  # type: ignore[arg-type]

    evaluate_by(counted)
    assert evaluate(made, output) == first
    assert not calls
    assert evaluate(made, output, "--fresh") == first
    assert len(calls) == 1


@pytest.mark.slow
def test_two_sets_of_one_recipe_are_two_results(made: Path, tmp_path: Path) -> None:
    """As from two machines; neither takes the other's number or its place."""
    output = tmp_path / "again"
    first = evaluate(made, output)
    other = tmp_path / "other.safetensors"
    mine = synthetic_file.read(made)
    synthetic_file.write(other, replace(mine, images=torch.zeros_like(mine.images)))
    second = evaluate(other, output)
    kept = {each.synthetic_sha256: each for each in found(output)}
    assert set(kept) == {
        synthetic_file.digest(mine),
        synthetic_file.digest(synthetic_file.read(other)),
    }
    for again in ("--fresh", "--compile=auto"):
        assert evaluate(made, output, again) == first
        assert evaluate(other, output, again) == second
    assert len(found(output)) == 2


@pytest.mark.slow
def test_a_run_does_not_take_the_number_of_a_set_it_would_not_make(
    tmp_path: Path,
) -> None:
    """The set of a best-of-snapshots run, evaluated by the plain protocol."""
    fixed = ("--methods", "dm", "--ipc", 2, *tiny(epochs=3))
    held = ("--selection", "best_val", *settable("protocol.validation", 0.5))
    first = invoke("run", *fixed, *held, "--output", tmp_path / "held")
    assert first.exit_code == 0, first.output
    (path,) = (tmp_path / "held" / "synthetic").glob("*.safetensors")
    shared = tmp_path / "shared"
    evaluate(path, shared)
    done = invoke("run", *fixed, "--output", shared)
    assert done.exit_code == 0, done.output
    assert "already done" not in done.output
    assert len({each.synthetic_sha256 for each in found(shared)}) == 2


def test_a_set_of_other_images_is_recorded_apart(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = synthetic_file.read(made)
    foreign = tmp_path / "other.safetensors"
    told = {**mine.provenance, "dataset_sha256": "0" * 64}
    synthetic_file.write(foreign, replace(mine, provenance=told))
    evaluate(foreign, tmp_path / "again")
    assert only_record(tmp_path / "again").digest != only_record(made.parents[1]).digest
    assert "other images" in caplog.text


@pytest.mark.parametrize("own", [True, False])
def test_an_edited_learning_rate_is_another_result(
    made: Path, tmp_path: Path, own: bool
) -> None:
    mine = synthetic_file.read(made)
    told = {**mine.provenance}
    if not own:
        del told["recipe"]
    learned = settable("protocol.use_learned_rate", "true")
    for rate in (0.3, 0.001, 0.3):
        path = tmp_path / "edited.safetensors"
        facts = {**told, "learning_rate": rate}
        synthetic_file.write(path, replace(mine, provenance=facts))
        evaluate(path, tmp_path / "again", *learned)
    rates = {
        each.digest: {entry.learning_rate for entry in each.evaluations}
        for each in found(tmp_path / "again")
    }
    assert sorted(map(tuple, rates.values())) == [(0.001,), (0.3,)]


def test_sets_of_other_tools_are_rows_of_their_own(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    mine = synthetic_file.read(made)
    for name, factor in (("one", 1.0), ("two", 0.5)):
        scaled = replace(mine, images=mine.images * factor)
        synthetic_file.write(tmp_path / f"{name}.safetensors", scaled)
        pair = tmp_path / f"digits-{name}"
        to = ("--to", "mtt", "--output", pair)
        assert invoke("convert", tmp_path / f"{name}.safetensors", *to).exit_code == 0
        evaluate(pair, output, "--dataset", "digits", "--no-zca", "--normalized")
    records = [each for each in found(output) if each.cell.method == "mtt-file"]
    assert len(records) == 2
    assert len({each.digest for each in records}) == 2
    assert {each.name for each in records} == {"digits-one", "digits-two"}
    for each in records:
        assert each.recipe.settings["format"] == "mtt"
        assert (
            each.name == {False: "digits-one", True: "digits-two"}[each is records[1]]
        )
        assert each.recipe.preset == "demo"
    shown = invoke("table", "--preset", "demo", "--output", output).stdout
    assert "digits-one" in shown
    assert "digits-two" in shown


def test_an_interrupted_evaluation_goes_on(
    made: Path, tmp_path: Path, train_by: Callable[[Any], None]
) -> None:
    quiet = evaluate(made, tmp_path / "quiet")
    output, epoch, left = tmp_path / "disturbed", SetTrainer.epoch, 6
    done: list[int] = []

    def killed(self: SetTrainer, index: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        done.append(index)
        epoch(self, index)

    train_by(killed)
    fixed = ("--preset", "demo", "--architectures", NETWORK, *CPU, *FEW)
    stopped = invoke("evaluate", made, *fixed, "--output", output)
    assert stopped.exit_code == 130
    assert not found(output)
    left = 0
    assert evaluate(made, output) == quiet
    assert len(done) < 2 * 2 * 4  # the first network was not trained again
    assert not list((output / "checkpoints").glob("[!.]*"))


def test_a_paper_set_under_a_reduced_protocol_is_no_paper_record(
    made: Path, tmp_path: Path
) -> None:
    """And the other way round: the more reduced of both counts."""
    fixed = ("--architectures", NETWORK, *CPU, *FEW, "--output", tmp_path / "again")
    assert invoke("evaluate", made, *fixed).exit_code == 0  # preset paper
    assert only_record(tmp_path / "again").recipe.preset == "demo"
