"""What ``dcbench evaluate`` records of other tools' sets, and when it trains anew."""

import csv
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign_files as files
import numpy as np
import pytest
import torch
from commandline import NETWORK, found, invoke, only_record, settable
from dataset_files import write_cifar10
from foreign_files import SOFT, images, labels
from PIL import Image

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.interpretation import accuracies
from dcbench_bacon.reporting.numbers.accuracies import accuracy, moments
from dcbench_bacon.schema import Evaluation, Record
from dcbench_bacon.training.task import Task

FEW = (*settable("protocol.epochs", 2), *settable("protocol.networks", 2))
FIXED = ("--preset", "demo", "--architectures", NETWORK, "--device", "cpu", *FEW)


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


@pytest.fixture
def counted(evaluate_by: Callable[[Any], None]) -> None:
    """Training takes no time, and every one ends in another accuracy."""
    numbers: Iterator[int] = itertools.count(1)

    def evaluate(clock: Any, task: Task, *_: Any) -> list[Evaluation]:
        return [
            Evaluation(
                architecture=NETWORK,
                trial=0,
                accuracy=next(numbers) / 1000,
                epoch=2,
                seconds=0.0,
                learning_rate=task.protocol.learning_rate,
            )
        ]

    evaluate_by(evaluate)


def evaluate(path: Path, output: Path, *options: object) -> list[str]:
    """Runs the command; the lines that it printed."""
    done = invoke("evaluate", path, *FIXED, *options, "--output", output)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def pictures(root: Path, seed: int, count: int = 3) -> Path:
    """A folder data set of two classes and a set for it, of random images."""
    random = np.random.default_rng(seed)
    for split, name, number in itertools.product(
        ("train", "test", "set"), ("one", "two"), range(count)
    ):
        folder = root / "images" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return root / "images"


READINGS: dict[str, tuple[tuple[object, ...], ...]] = {
    "whitening": (("--no-zca",), ("--zca",)),
    "learned rate": (
        ("--learned-rate", 0.3),
        ("--learned-rate", 0.001),
        ("--learned-rate", 0.3, *settable("protocol.use_learned_rate", "true")),
        ("--learned-rate", 0.001, *settable("protocol.use_learned_rate", "true")),
    ),
    "labels": (("--labels", "hard"), ("--labels", "softmax"), ("--labels", "stored")),
    "order": ((), ("--classes", "9,8,7,6,5,4,3,2,1,0")),
    "parts": (("--partition", 1), ("--partition", 2)),
    "statistics": ((), ("--statistics", "mnist")),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("name", READINGS)
def test_each_reading_of_a_file_is_a_result_of_its_own(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "digits.npz"
    np.savez(path, images=images().numpy(), labels=SOFT.numpy())
    output = tmp_path / "out"
    printed = [evaluate(path, output, *options) for options in READINGS[name]]
    assert len({tuple(lines) for lines in printed}) == len(printed)
    assert len(found(output)) == len(printed)
    for options, lines in reversed([*zip(READINGS[name], printed, strict=True)]):
        assert evaluate(path, output, *options) == lines  # found, each its own
    assert len(found(output)) == len(printed)


@pytest.mark.usefixtures("counted")
def test_a_guess_that_is_stated_is_the_same_reading(tmp_path: Path) -> None:
    path = files.res(tmp_path / "res_DC_digits_ConvNet_2ipc.pt")
    stated = ("--from", "vico", "--no-zca", "--partition", 1, "--normalized")
    both = [
        evaluate(path, tmp_path / "out", *options)
        for options in ((), (*stated, "--index", 0))
    ]
    assert both[0] == both[1]
    record = only_record(tmp_path / "out")
    assert list(record.recipe.settings) == sorted(record.recipe.settings)
    expected = {
        "classes": "in order",
        "format": "vico",
        "labels": "class indices",
        "learning_rate": None,
        "partition": 1,
        "scale": "normalised",
        "statistics": "digits",
        "zca": False,
    }
    assert record.recipe.settings.items() >= expected.items()
    assert (record.images, record.per_class) == (20, (2, 2))


@pytest.mark.usefixtures("counted")
def test_the_data_set_is_part_of_the_question(tmp_path: Path) -> None:
    """Another folder of the same name, or fewer test images, is another result."""
    one, two = pictures(tmp_path / "a", 1), pictures(tmp_path / "b", 2)
    given = tmp_path / "given.npz"
    np.savez(given, images=images()[:6].numpy(), labels=np.array([0, 0, 0, 1, 1, 1]))
    stated = ("--no-zca", "--partition", 1, "--normalized", "--dataset")
    printed = [evaluate(given, tmp_path, *stated, f"folder:{one}")]
    printed.append(evaluate(given, tmp_path, *stated, f"folder:{two}"))
    assert evaluate(given, tmp_path, *stated, f"folder:{one}") == printed[0]
    next((one / "test" / "one").iterdir()).unlink()
    printed.append(evaluate(given, tmp_path, *stated, f"folder:{one}"))
    assert len({tuple(lines) for lines in printed}) == 3
    assert len(found(tmp_path)) == 3


@pytest.mark.usefixtures("counted")
def test_the_rate_that_was_used_is_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = files.mtt(tmp_path / "digits", rate=0.03)
    used = settable("protocol.use_learned_rate", "true")
    for options, rate, warned in (((), 0.05, True), (used, 0.03, False)):
        caplog.clear()
        output = tmp_path / f"{rate}"
        evaluate(path, output, "--no-zca", *options)
        (evaluation,) = only_record(output).evaluations
        assert evaluation.learning_rate == pytest.approx(rate)
        assert ("use_learned_rate=true" in caplog.text) == warned


@pytest.mark.usefixtures("counted")
def test_a_name_for_tables(tmp_path: Path) -> None:
    path, output = files.mtt(tmp_path / "digits-mtt"), tmp_path / "out"
    before = evaluate(path, output, "--no-zca")
    assert only_record(output).name == "digits-mtt/images_best.pt"
    assert evaluate(path, output, "--no-zca", "--name", "Theirs, run 2") == before
    assert only_record(output).name == "Theirs, run 2"
    table = invoke("table", "--preset", "demo", "--output", output).stdout
    assert "Theirs, run 2" in table
    refused = invoke("evaluate", path, *FIXED, "--name", "random")
    assert refused.exit_code == 2
    assert "no method" in refused.stderr


@pytest.mark.usefixtures("counted")
def test_all_sets_of_a_file_are_sets_of_one_method(tmp_path: Path) -> None:
    path = files.res(tmp_path / "res_DC_digits_ConvNet_2ipc.pt", 3)
    lines = evaluate(path, tmp_path, "--index", "all")
    assert len(lines) == 4
    assert lines[-1].startswith(f"{path} [3 sets]  {NETWORK}  ")
    assert lines[-1].split("% ")[-1] == "(n=3)"
    assert sorted(each.cell.seed for each in found(tmp_path)) == [0, 1, 2]
    assert len({each.digest for each in found(tmp_path)}) == 1
    assert (
        evaluate(path, tmp_path, "--index", 1)[0].split("  ")[1:]
        == (lines[1].split("  ")[1:])
    )
    shown = invoke(
        *("table", "--what", "spread", "--preset", "demo", "--output", tmp_path),
        *("--format", "csv"),
    ).stdout.splitlines()
    (row,) = csv.DictReader(shown)
    assert (row["sets"], row["networks"]) == ("3", "3")
    assert row["std_sets"]
    refused = invoke("convert", path, "--index", "all", "--to", "npz", "--output", "a")
    assert refused.exit_code == 2
    assert "--index 0" in refused.stderr


@pytest.mark.usefixtures("counted")
def test_an_incomplete_set_is_told_and_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = torch.arange(20)[:-3]  # two of class 9 and one of class 8
    path = tmp_path / "digits.npz"
    np.savez(path, images=images()[kept].numpy(), labels=labels()[kept].numpy())
    evaluate(path, tmp_path, "--no-zca")
    assert "NO IMAGE of class 9" in caplog.text
    assert "0 to 2 images per class, 17 in all" in caplog.text
    record = only_record(tmp_path)
    assert (record.cell.ipc, record.images, record.per_class) == (2, 17, (0, 2))


def test_stored_accuracies_are_those_of_the_set() -> None:
    stored = {"ConvNet": [0.1, 0.2, 0.3, 0.4], "MLP": [0.1, 0.2, 0.3], "bad": [7.0]}
    assert accuracies.of_set(stored, 1, 2) == {"ConvNet": (0.3, 0.4)}
    bad: tuple[Any, ...] = (None, [], {1: [0.1]}, {"a" * 99: [0.1]}, {"A": [True]})
    for each in bad:
        assert accuracies.of_set(each, 0, 1) == {}


def test_stored_accuracies_stand_beside_the_measured(tmp_path: Path) -> None:
    path = files.res(tmp_path / "res_DC_digits_ConvNet_2ipc.pt", 2)
    value = torch.load(path, weights_only=False)
    value["accs_all_exps"] = {NETWORK: [0.25, 0.5, 0.75, 1.0]}
    torch.save(value, path)
    (line,) = evaluate(path, tmp_path, "--index", 1)
    assert line.endswith("stored in the file: 87.50 ± 17.68 % (n=2)")
    assert only_record(tmp_path).stored_accuracies == {NETWORK: (0.75, 1.0)}


def test_a_changed_copy_of_a_file_of_ours_is_another_set(tmp_path: Path) -> None:
    """Its header still says how the original was read."""
    path = files.res(tmp_path / "res_DC_digits_ConvNet_2ipc.pt", 1)
    made = adopt.read(path, ReadingOptions(dataset="digits"))
    synthetic_file.write(tmp_path / "a.safetensors", made)
    synthetic_file.write(
        tmp_path / "b.safetensors", replace(made, images=made.images * 0.1)
    )
    lines = [evaluate(tmp_path / f"{name}.safetensors", tmp_path) for name in "ab"]
    assert evaluate(tmp_path / "a.safetensors", tmp_path) == lines[0]
    assert len({each.synthetic_sha256 for each in found(tmp_path)}) == 2


def test_one_form_of_accuracies() -> None:
    """27.445 was printed as 27.44 by one command and as 27.45 by another."""
    values = [0.2744, 0.2745]
    assert accuracy(*moments(values), 2) == "27.45 ± 0.01 (n=2)"
    assert accuracy(*moments(values[::-1]), 2) == "27.45 ± 0.01 (n=2)"
    assert accuracy(*moments([0.5]), 1) == "50.00 (n=1)"


REAL = {
    "res_DC_MNIST_ConvNet_1ipc.pt": ("mnist", 5, "91.66 ± 0.53 % (n=20)"),
    "res_DC_CIFAR10_ConvNet_1ipc.pt": ("cifar10", 1, "26.46 ± 0.75 % (n=10)"),
}


@pytest.fixture
def real(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of sets made by others; MNIST, and images in CIFAR-10's format."""
    if not (shared / "foreign").is_dir():
        pytest.skip(f"sets of others not found: {shared.resolve() / 'foreign'}")
    if not (shared / "data" / "MNIST").is_dir():
        pytest.skip(f"MNIST not found in {shared.resolve() / 'data'}")
    root = tmp_path / "data"
    write_cifar10(root)
    (root / "MNIST").symlink_to((shared / "data" / "MNIST").resolve())
    monkeypatch.setenv("DCBENCH_DATA", str(root))
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))
    return shared / "foreign"


@pytest.mark.parametrize("name", REAL)
@pytest.mark.slow
def test_real_sets_of_dc(
    name: str, real: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, count, stored = REAL[name]
    output, path = tmp_path / "out", real / name
    one = ("--architectures", "ConvNet", *settable("protocol.networks", 1))
    cheap = (
        *one,
        *settable("protocol.epochs", 1),
        "--set",
        "protocol.augmentation=none",
    )
    (line,) = evaluate(path, output, *cheap, "--index", 0)
    assert line.endswith(f"stored in the file: {stored}")
    for told in (
        "format vico: likely",
        f"data set {dataset}: likely",
        "values normalised: ",
        "whitened no: doubtful",
        "partition 1: likely",
    ):
        assert told in caplog.text
    record = only_record(output)
    assert (record.cell.ipc, record.cell.seed, record.name) == (1, 0, name)
    assert record.recipe.settings["scale"] == "normalised"
    found_ = adopt.every_set(path, ReadingOptions(index="all"))
    assert [options.index for options in found_] == list(range(count))
    table = invoke("table", "--preset", "demo", "--output", output).stdout
    assert name in table


@pytest.mark.slow
def test_the_real_set_of_datm(
    real: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder whose name says ZCA, with logits and a learned rate."""
    folder = real / "DATM_CIFAR10_ZCA_IPC10"
    refused = invoke("evaluate", folder, *FIXED, "--output", tmp_path / "out")
    assert refused.exit_code == 2
    assert "--labels softmax" in refused.stderr
    made = adopt.read(folder, ReadingOptions(labels="softmax"))
    for told in (
        "format dd_ranking: likely",
        "data set cifar10: likely (from the name DATM_CIFAR10_ZCA_IPC10)",
        "whitened yes: likely (from the name DATM_CIFAR10_ZCA_IPC10; mean -0.01,",
        "learned rate 0.01835",
    ):
        assert told in caplog.text
    reading = made.provenance["source"]["reading"]
    assert (reading["scale"], reading["zca"]) == ("whitened", True)
    assert reading["learning_rate"] == pytest.approx(0.0184, abs=1e-4)
    output = tmp_path / "out"
    used = settable("protocol.use_learned_rate", "true")
    evaluate(folder, output, "--labels", "softmax", *used)
    record: Record = only_record(output)
    for each in record.evaluations:
        assert each.learning_rate == pytest.approx(0.0184, abs=1e-4)
    assert record.name == "DATM_CIFAR10_ZCA_IPC10"
    table = invoke("table", "--preset", "demo", "--output", output).stdout
    assert record.name in table
    shutil.rmtree(output)
