"""Distances in feature space against their definitions, and what judges images."""

import math
from dataclasses import replace
from pathlib import Path

import commandline
import msgspec
import numpy as np
import pytest
import scipy.linalg
import torch
from clip_models import score
from commandline import invoke
from support import dataset
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data.dataset import normalize
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation import quality
from dcbench_bacon.evaluation.distances import bandwidth, frechet, mmd
from dcbench_bacon.evaluation.quality import Judge, Labelled, QualityRequest
from dcbench_bacon.running.grids import quality_of_files
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.training import features

CPU = torch.device("cpu")
HERE = RunConfig(CPU).here()
measured = features._seconds_per_image
QUICK = QualityRequest(architecture="ConvNetD1W8", epochs=2)


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


def sample(n: int, d: int = 6, *, seed: int = 0, shift: float = 0.0) -> Tensor:
    """Correlated Gaussian vectors."""
    stream = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, d, generator=stream) @ mixing + shift


def slow_mmd(first: Tensor, second: Tensor, width: float) -> float:
    """The definition, pair by pair."""

    def kernel(x: Tensor, y: Tensor) -> float:
        return math.exp(-float((x - y).double().square().sum()) / (2 * width**2))

    m, n = len(first), len(second)
    ours = sum(kernel(first[i], first[j]) for i in range(m) for j in range(m) if i != j)
    theirs = sum(
        kernel(second[i], second[j]) for i in range(n) for j in range(n) if i != j
    )
    across = sum(kernel(x, y) for x in first for y in second)
    return ours / (m * (m - 1)) + theirs / (n * (n - 1)) - 2 * across / (m * n)


@pytest.mark.parametrize(("m", "n"), [(9, 14), (14, 9), (2, 2)])
@pytest.mark.parametrize("width", [0.7, 3.0])
def test_mmd_is_the_loop(m: int, n: int, width: float) -> None:
    first, second = sample(m), sample(n, seed=1, shift=0.5)
    expected = slow_mmd(first, second, width)
    assert mmd(first, second, width) == pytest.approx(expected, abs=1e-6)
    assert mmd(first, second, width, rows=4) == pytest.approx(expected, abs=1e-6)


def test_mmd_has_no_bias() -> None:
    """Over draws of one distribution it averages 0 and is negative at times."""
    found = torch.tensor(
        [mmd(sample(8, seed=i), sample(11, seed=1000 + i), 3.0) for i in range(300)]
    )
    error = float(found.std() / len(found) ** 0.5)
    assert abs(float(found.mean())) < 3 * error
    assert bool((found < 0).any())
    apart = [mmd(sample(8, seed=i), sample(11, shift=3.0), 3.0) for i in range(5)]
    assert min(apart) > 0.05


def test_mmd_of_a_sample_with_itself() -> None:
    """Pairs of a vector with itself count across, not within: at most 0."""
    first = sample(20)
    found = mmd(first, first, 3.0)
    assert found == pytest.approx(slow_mmd(first, first, 3.0), abs=1e-6)
    assert -0.2 < found < 0
    same = torch.ones(5, 3)
    assert mmd(same, same, 1.0) == pytest.approx(0, abs=1e-12)


def test_mmd_of_one_vector_is_unknown() -> None:
    assert math.isnan(mmd(sample(1), sample(5), 1.0))


def test_the_bandwidth_is_the_median_distance() -> None:
    features = sample(40)
    distances = [
        float((features[i] - features[j]).norm()) for i in range(40) for j in range(i)
    ]
    ordered = sorted(distances)
    assert bandwidth(features) == pytest.approx(ordered[(len(ordered) - 1) // 2])
    assert bandwidth(torch.ones(3, 2)) == 1.0


def test_the_bandwidth_sees_all_classes() -> None:
    """In a folder they follow one another."""
    features = torch.cat([sample(1000), sample(1000, shift=9.0)])
    mixed = features[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    assert bandwidth(features) == pytest.approx(bandwidth(mixed), rel=0.1)


def scipy_frechet(first: Tensor, second: Tensor) -> float:
    """The definition, with the square root of the product of the covariances."""
    one, two = (each.double().numpy() for each in (first, second))
    covariances = [np.cov(each, rowvar=False) for each in (one, two)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    gap = np.square(one.mean(0) - two.mean(0)).sum()
    spread = np.trace(covariances[0]) + np.trace(covariances[1])
    return float(gap + spread - 2 * np.trace(np.real(root)))


@pytest.mark.parametrize(("m", "n"), [(50, 80), (80, 50), (7, 7)])
def test_frechet_is_scipys(m: int, n: int) -> None:
    first, second = sample(m), 1.5 * sample(n, seed=1, shift=0.5)
    expected = scipy_frechet(first, second)
    assert frechet(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet(second, first) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("m", "n"), [(3, 50), (50, 3), (3, 4)])
def test_frechet_of_few_vectors(m: int, n: int) -> None:
    """Singular covariances: the limit of slightly regular ones, none being changed."""
    first, second = sample(m).double(), sample(n, seed=1, shift=0.5).double()
    covariances = [torch.cov(each.T).numpy() for each in (first, second)]
    ridge = 1e-10 * np.eye(first.shape[1])
    root = scipy.linalg.sqrtm((covariances[0] + ridge) @ (covariances[1] + ridge))
    gap = float((first.mean(0) - second.mean(0)).square().sum())
    spread = float(np.trace(covariances[0]) + np.trace(covariances[1]))
    expected = gap + spread - 2 * float(np.trace(np.real(root)))
    assert frechet(first, second) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("count", [1, 4, 60])
def test_frechet_of_a_sample_with_itself_is_zero(count: int) -> None:
    first = sample(count)
    assert frechet(first, first) == pytest.approx(0, abs=1e-5)
    assert frechet(first, first + 2) == pytest.approx(4 * first.shape[1], rel=1e-5)


def decoded_set() -> SyntheticSet:
    """Two stored images a class, of four parts each."""
    stream = torch.Generator().manual_seed(4)
    images = torch.randn(6, 3, 8, 8, generator=stream)
    labels = F.one_hot(torch.arange(3).repeat_interleave(2), 3).float()
    return SyntheticSet(images, labels, 2)


def test_rows_are_as_defined() -> None:
    source = dataset(channels=3)
    judge = Judge("pixels", lambda images: images.flatten(1))
    made = decoded_set()
    order = torch.arange(len(source.train.labels)).flip(0)
    (row,) = quality.appraise(source, [("one", made)], judge, order)
    real = normalize(source.test.images, source.info).flatten(1)
    ours = made.decode().images.flatten(1)
    assert (row["set"], row["images"], row["features"]) == ("one", 24, "pixels")
    assert row["mmd"] == pytest.approx(mmd(ours, real, bandwidth(real)))
    assert row["frechet"] == pytest.approx(frechet(ours, real))
    first = normalize(source.train.images.flip(0)[:24], source.info).flatten(1)
    assert row["mmd_real"] == pytest.approx(mmd(first, real, bandwidth(real)))
    assert row["frechet_real"] == pytest.approx(frechet(first, real))
    assert "agreement" not in row


@pytest.mark.parametrize("channels", [1, 3])
def test_zero_shot_agreement_by_hand(channels: int) -> None:
    judge = score(channels)
    stream = torch.Generator().manual_seed(1)
    images = torch.randn(12, channels, 8, 8, generator=stream)
    cosines = torch.stack(
        [
            1 - judge(images[:, None], torch.full((12,), index)).detach()
            for index in range(3)
        ]
    )
    nearest = cosines.argmax(0)
    features = quality.encode(judge.encode, images)
    for classes in (nearest, (nearest + 1) % 3, torch.arange(12) % 3):
        found = quality.agreement(features, Labelled(images, classes), judge)
        assert found == pytest.approx(float((nearest == classes).float().mean()))


def test_the_network_is_trained_on_train_alone() -> None:
    source = dataset(channels=3, per_class=20)
    first = quality.trained_network(quality_of_files.run_on(source, HERE), QUICK)
    inverted = source.test.changed(lambda pixels: 255 - pixels)
    other_test = replace(source, test=inverted)
    images = normalize(source.train.images[:5], source.info)
    again = quality.trained_network(quality_of_files.run_on(other_test, HERE), QUICK)
    assert torch.equal(first.encode(images), again.encode(images))
    changed = source.train.changed(lambda pixels: 255 - pixels)
    third = quality.trained_network(
        quality_of_files.run_on(replace(source, train=changed), HERE),
        QUICK,
    )
    assert not torch.equal(first.encode(images), third.encode(images))
    assert "of train right" in first.title


@pytest.mark.parametrize("slow", [True, False])
def test_a_long_training_is_told_before_it_begins(
    slow: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = 60.0 if slow else 0.0
    monkeypatch.setattr(features, "_seconds_per_image", lambda *_: seconds)
    run = quality_of_files.run_on(dataset(), HERE)
    count = len(run.train.labels)
    quality.trained_network(run, QUICK)
    text = f"2 epochs of {count} images"
    assert (text in caplog.text) == slow
    if slow:
        hours, minutes = divmod(2 * count, 60)
        about = f"about {hours} h {minutes} min" if hours else f"about {minutes} min"
        assert about in caplog.text
        assert "--epochs" in caplog.text
    assert 0 < measured(run, "ConvNetD1W8") < 1


def test_fewer_test_images_are_drawn() -> None:
    source = dataset()
    few = quality.limited(source, 10, torch.Generator().manual_seed(0))
    assert len(few.test.images) == len(few.test.labels) == 10
    assert few.train is source.train
    assert quality.limited(source, 36, torch.Generator()) is source


def test_image_text_model(registered: str, weights: Path) -> None:
    source = dataset(channels=3)
    request = QUICK._replace(clip_model=registered, clip_weights=str(weights))
    named = [(Path("a.safetensors"), decoded_set()), (Path("b"), decoded_set())]
    table = quality_of_files.appraise_files(named, source, request, HERE)
    assert list(table["set"]) == ["a.safetensors"] * 2 + ["b"] * 2
    assert next(iter(table["features"])) == f"CLIP {registered}"
    clip = table[table["features"].str.startswith("CLIP")]
    assert clip["agreement"].between(0, 1).all()
    assert clip["agreement_real"].between(0, 1).all()
    assert table[~table["features"].str.startswith("CLIP")]["agreement"].isna().all()
    assert table[["mmd", "frechet"]].notna().all(axis=None)


def test_what_needs_weights_says_so(tmp_path: Path) -> None:
    run = quality_of_files.run_on(dataset(channels=3), HERE)
    missing = QUICK._replace(clip_weights=str(tmp_path / "none.pt"))
    with pytest.raises(UsageError, match=r"^--clip-weights .*none.pt: no such file"):
        next(quality.judges(run, missing))
    text = invoke("quality", "--help").output
    assert "needs --clip-weights" in " ".join(text.split())


def test_the_command(tmp_path: Path) -> None:
    fixed = ("run", "--methods", "dm,random", "--ipc", 1, "--output", tmp_path)
    assert invoke(*fixed, *commandline.tiny(networks=1)).exit_code == 0
    paths = sorted((tmp_path / "synthetic").glob("*.safetensors"))
    network = ("--architecture", "ConvNetD1W8", "--epochs", 2)
    small = (*network, "--images", 50, "--output", tmp_path)
    result = invoke("quality", *paths, *small, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "MMD² (real)" in result.stdout
    assert "Agreement" not in result.stdout
    text = invoke("quality", *paths, *small, "--format", "csv").stdout.strip()
    lines = text.splitlines()
    assert lines[0].split(",") == quality.COLUMNS
    assert [line.split(",")[0] for line in lines[1:]] == [each.name for each in paths]
    again = invoke("quality", paths[1], *small, "--format", "csv").stdout.strip()
    assert (
        again.splitlines()[1] == lines[2]
    )  # a set's numbers do not depend on the others
    wrong = invoke("quality", paths[0], "--architecture", "ConvNte")
    assert wrong.exit_code == 2
    assert "Did you mean 'ConvNet'" in wrong.stderr


def test_the_network_of_digits_is_not_trained_on_mirrored_ones() -> None:
    seen: list[str] = []
    real = dataset()
    for name in ("mnist", "svhn", "digits", "cifar10"):
        named = replace(real, info=msgspec.structs.replace(real.info, name=name))
        cell = quality_of_files.run_on(named, HERE).cell
        seen.append(quality.feature_settings(cell, QUICK).augmentation)
    assert ["flip" in each for each in seen] == [False, False, False, True]
