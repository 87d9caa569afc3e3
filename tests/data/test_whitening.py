"""ZCA whitening: against the formula, from the cache, and from recipe to accuracy."""

import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import invoke, only_record, settable
from PIL import Image
from support import dataset
from torch import Tensor

from dcbench_bacon.cli.cells.opening import SetReader
from dcbench_bacon.data import loading, whitening
from dcbench_bacon.data.dataset import Dataset, denormalize, normalize
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.splits import ResidentSplit
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import protocols
from dcbench_bacon.running import run
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell
from dcbench_bacon.store import Store
from dcbench_bacon.training.task import Task

SOURCE = dataset(classes=4, per_class=60, channels=2, size=4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("DCBENCH_WHITENING", str(tmp_path / "kept"))
    return tmp_path / "kept"


def by_hand(train: Tensor, images: Tensor) -> np.ndarray:
    """The same in NumPy and float64, from the eigenvectors of the covariance."""
    pixels = train.flatten(1).double().numpy() / 255
    centred = pixels - pixels.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(pixels) - 1))
    matrix = (vectors / np.sqrt(values + 0.1)) @ vectors.T
    flat = images.flatten(1).double().numpy() / 255
    whitened: np.ndarray = (flat - pixels.mean(0)) @ matrix
    return whitened.reshape(images.shape)


def test_whitening_is_as_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    test = SOURCE.test.images.flip(0)[:70]
    expected = by_hand(SOURCE.train.images, test)
    fitted = whitening.fit(SOURCE.train.images)
    assert np.allclose(fitted.apply(test).numpy(), expected, atol=1e-5)
    monkeypatch.setattr(whitening, "PIECE", 32)
    assert np.allclose(fitted.apply(test).numpy(), expected, atol=1e-5)


def test_train_and_test_are_whitened_with_the_statistics_of_train() -> None:
    other = dataset(classes=4, per_class=5, channels=2, size=4).test.images.flip(2)
    uneven = Dataset(
        SOURCE.info,
        SOURCE.train,
        ResidentSplit(other, SOURCE.test.labels[:20], SOURCE.info),
        SOURCE.fingerprint,
    )
    made = whitening.whiten(uneven)
    for found, raw in ((made.train, uneven.train), (made.test, uneven.test)):
        wanted = by_hand(uneven.train.images, raw.images)
        assert np.allclose(found.images.numpy(), wanted, atol=1e-5)
        assert torch.equal(found.labels, raw.labels)
        # What every consumer of real images calls.
        assert torch.equal(normalize(found.images, made.info), found.images)
    assert made.fingerprint != uneven.fingerprint
    assert made.zca is not None
    assert made.zca["eps"] == 0.1
    assert uneven.zca is None


def test_whitening_can_be_undone() -> None:
    fitted = whitening.fit(SOURCE.train.images)
    pixels = fitted.undo(fitted.apply(SOURCE.test.images))
    assert torch.allclose(pixels, SOURCE.test.images / 255, atol=1e-5)


def test_statistics_are_fitted_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = whitening.whiten(SOURCE)
    monkeypatch.setattr(whitening, "fit", None)
    again = whitening.whiten(SOURCE)
    assert torch.equal(first.train.images, again.train.images)
    assert first.zca == again.zca
    assert len(list(folder.glob("*.safetensors"))) == 1


def test_processes_that_ask_at_once_fit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, calls = whitening.fit, []

    def count(images: Tensor) -> whitening.Whitening:
        calls.append(1)
        return fit(images)

    monkeypatch.setattr(whitening, "fit", count)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(whitening.whiten, [SOURCE] * 4))
    assert len(calls) == 1
    assert len({str(each.zca) for each in made}) == 1


def test_an_unwritable_cache_costs_time_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.touch()
    assert whitening.whiten(SOURCE).zca is not None
    assert "is not kept" in caplog.text


def test_another_matrix_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = synthetic_file.read(mtt(tmp_path, zca=True))
    told = {**made.provenance, "zca": {"eps": 0.1, "sha256": "0" * 64}}
    synthetic_file.write(tmp_path / "other.safetensors", replace(made, provenance=told))
    accuracies(tmp_path / "other.safetensors")
    assert "another fit of the same images" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"\xff" * 40])
def test_a_damaged_file_is_made_anew(
    content: bytes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = whitening.whiten(SOURCE)
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(content)
    assert whitening.whiten(SOURCE).zca == first.zca
    assert "made anew" in caplog.text
    assert path.read_bytes() != content


def test_a_policy_on_pixels_is_refused() -> None:
    made = SyntheticSet(torch.zeros(3, 1, 8, 8), torch.eye(3), provenance={"zca": {}})
    info = dataset().info
    protocol = Protocol(name="dc", augmentation="randaugment", epochs=1)
    task = Task(made, dataset().test, info, protocol)
    clock = Clock("cell", torch.device("cpu"))
    assert evaluate(clock, task)
    marked = SyntheticSet(made.images, made.labels, provenance={"zca": {"eps": 0.1}})
    with pytest.raises(UsageError, match="works on pixels"):
        evaluate(clock, task._replace(synthetic=marked))


def test_a_policy_is_refused_before_anything_is_trained() -> None:
    cell = Cell("mtt", "cifar10", 10)  # whitened, as published
    assert planning.resolve(cell, protocols.Request()).recipe.settings["zca"]
    policy = protocols.Request(overrides={"protocol.augmentation": "randaugment"})
    with pytest.raises(UsageError, match="ZCA-whitened"):
        planning.resolve(cell, policy)
    plain = {**policy.overrides, "zca": "false"}
    planning.resolve(cell, protocols.Request(overrides=plain))


SMALL = {
    "steps": 3,
    "student_steps": 2,
    "experts": 1,
    "expert_passes": 2,
    "expert_epochs": 1,
    "max_start_epoch": 1,
    "architecture": "ConvNetD1W8",
    "image_lr": 1e-12,
}
PROTOCOL = {"protocol.epochs": 6, "protocol.networks": 2}


def mtt(output: Path, *options: object, zca: bool) -> Path:
    """Runs MTT on digits for a moment; the path of its first set."""
    chosen = {**SMALL, **PROTOCOL, "zca": str(zca).lower()}
    pairs = [text for key, value in chosen.items() for text in settable(key, value)]
    fixed = ("run", "--methods", "mtt", "--datasets", "digits", "--ipc", 2)
    small = ("--preset", "demo", "--architectures", "ConvNetD1W8", "--device", "cpu")
    done = invoke(*fixed, *small, *pairs, *options, "--output", output)
    assert done.exit_code == 0, done.output
    return min((output / "synthetic").glob("*.safetensors"))


def accuracies(path: Path, *options: object) -> list[str]:
    """What ``dcbench evaluate`` prints about a set, without its path."""
    pairs = [text for key, value in PROTOCOL.items() for text in settable(key, value)]
    network = ("--architectures", "ConvNetD1W8", "--device", "cpu")
    rate = settable("protocol.use_learned_rate", "true")
    done = invoke("evaluate", path, *network, *pairs, *rate, *options)
    assert done.exit_code == 0, done.output
    return done.stdout.replace(str(path), "").split()


@pytest.mark.slow
def test_from_recipe_to_accuracy(tmp_path: Path) -> None:
    path, plain = mtt(tmp_path / "white", zca=True), mtt(tmp_path / "plain", zca=False)
    made, start = synthetic_file.read(path), synthetic_file.read(plain)
    digits = whitening.whiten(loading.load("digits"))
    assert made.provenance["zca"] == digits.zca
    assert made.provenance["dataset_sha256"] == digits.fingerprint
    assert start.provenance["zca"] is None
    hashes = [only_record(tmp_path / of).whitening_sha256 for of in ("white", "plain")]
    assert hashes == [made.provenance["zca"]["sha256"], None]
    # The rate of the images is next to nothing: both are real images, the same ones.
    pixels = (denormalize(start.images, digits.info) * 255).round()
    fitted = whitening.fit(loading.load("digits").train.images)
    assert torch.allclose(made.images, fitted.apply(pixels.byte()), atol=1e-4)


@pytest.mark.slow
def test_a_grid_whitens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(source: Dataset) -> Dataset:
        made.append(whiten(source))
        return made[-1]

    whiten = whitening.whiten
    monkeypatch.setattr(whitening, "whiten", counted)
    mtt(tmp_path / "grid", "--seeds", "0,1,2", zca=True)
    assert len(made) == 1
    assert torch.equal(
        made[0].train.images, whiten(loading.load("digits")).train.images
    )
    last = mtt(tmp_path / "alone", "--seeds", "2", zca=True)
    among = tmp_path / "grid" / "synthetic" / last.name
    assert torch.equal(
        synthetic_file.read(among).images, synthetic_file.read(last).images
    )


def test_a_plain_cell_frees_what_was_whitened() -> None:
    cell = Cell("mtt", "digits", 2)

    def job(zca: str) -> planning.CellJob:
        request = protocols.Request(overrides={"zca": zca})
        return planning.CellJob(cell, "digits", planning.resolve(cell, request))

    datasets = Datasets(run.RunConfig(torch.device("cpu")))
    kept = weakref.ref(datasets.of(job("true")))
    assert datasets.of(job("true")) is kept()
    assert datasets.of(job("false")) is datasets["digits"]
    assert kept() is None


def test_a_whitened_set_is_tested_on_whitened_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = mtt(tmp_path, zca=True)
    (record,) = Store(tmp_path).records()
    found = [each.accuracy for each in record.evaluations]
    own = accuracies(path)
    assert f"{100 * sum(found) / len(found):.2f}" in " ".join(own)
    exported = tmp_path / "digits-pair"
    done = invoke("convert", path, "--to", "mtt", "--output", exported)
    assert done.exit_code == 0, done.output
    device = torch.device("cpu")
    for zca in (True, False):
        stated = ReadingOptions(dataset="digits", zca=zca, pixels=False)
        reader = SetReader(stated, Datasets(run.RunConfig(device)))
        (from_file,) = reader.read_all([exported])
        read, _, tested, _ = reader.open(from_file)
        assert torch.equal(read.images, synthetic_file.read(path).images)
        assert (tested.zca is not None) == zca
        assert (tested.test.images.dtype == torch.float32) == zca
    caplog.clear()
    accuracies(exported, "--dataset", "digits", "--normalized", "--zca")
    assert "in MTT's way" in caplog.text


@pytest.mark.slow
def test_people_see_pixels(tmp_path: Path) -> None:
    white, plain = mtt(tmp_path / "white", zca=True), mtt(tmp_path / "plain", zca=False)
    for path, name in ((white, "white.png"), (plain, "plain.png")):
        where = tmp_path / name
        done = invoke("convert", path, "--to", "picture", "--output", where)
        assert done.exit_code == 0, done.output
    found, wanted = (
        np.asarray(Image.open(tmp_path / name).convert("L"), dtype=float)
        for name in ("white.png", "plain.png")
    )
    assert np.abs(found - wanted).max() <= 2  # the same real images, but for rounding


def test_statistics_of_other_images_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = synthetic_file.read(mtt(tmp_path, zca=True))
    told = {**made.provenance, "dataset_sha256": "0" * 64}
    synthetic_file.write(tmp_path / "other.safetensors", replace(made, provenance=told))
    accuracies(tmp_path / "other.safetensors")
    assert "statistics of other images" in caplog.text
