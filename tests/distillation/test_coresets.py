"""Selection against brute force, on degenerate classes, and inside a run."""

import itertools
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from support import cell_run, dataset
from torch import Tensor

from dcbench_bacon.data.dataset import Dataset, class_index, normalize
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.distillation.coresets import (
    Choice,
    herding,
    k_center,
    k_means,
    select,
)
from dcbench_bacon.errors import InterruptedRunError
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.training.features import FeatureSettings

PIXELS = FeatureSettings(features="pixels")
METHODS = ("herding", "k_center", "k_means")
Points = list[list[float]]


def seeded(seed: int = 0) -> Choice:
    return partial(k_means, generator=torch.Generator().manual_seed(seed))


CHOICES: dict[str, Callable[[], Choice]] = {
    "herding": lambda: herding,
    "k_center": lambda: k_center,
    "k_means": seeded,
}
all_choices = pytest.mark.parametrize("name", METHODS)


def random_features(seed: int, counts: list[int], width: int = 5) -> Tensor:
    """Features of classes of these sizes; what pads them is zero."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(counts), max(counts), width, generator=generator)
    features += 3 * torch.randn(len(counts), 1, width, generator=generator)
    for row, count in zip(features, counts, strict=True):
        row[count:] = 0
    return features


def mean(points: Points) -> list[float]:
    return [sum(column) / len(points) for column in zip(*points, strict=True)]


def first_nearest(gaps: list[float]) -> int:
    return next(i for i, gap in enumerate(gaps) if gap <= min(gaps) * (1 + 1e-5))


def herding_by_hand(points: Points, count: int) -> list[int]:
    """The definition: the mean of those chosen, with the candidate, nearest to m."""
    target, chosen = mean(points), list[int]()
    for _ in range(count):
        left = [i for i in range(len(points)) if i not in chosen]
        gaps = [
            math.dist(mean([points[j] for j in (*chosen, i)]), target) for i in left
        ]
        chosen.append(left[first_nearest(gaps)])
    return chosen


def k_center_by_hand(points: Points, count: int) -> list[int]:
    from_mean = [math.dist(point, mean(points)) for point in points]
    chosen = [first_nearest(from_mean)]
    while len(chosen) < count:
        left = [i for i in range(len(points)) if i not in chosen]
        gaps = [min(math.dist(points[i], points[j]) for j in chosen) for i in left]
        chosen.append(left[gaps.index(max(gaps))])
    return chosen


def k_means_by_hand(points: Points, count: int, seed: int) -> list[int]:
    centroids = (
        KMeans(count, n_init=1, random_state=seed)
        .fit(np.array(points, dtype=np.float32))
        .cluster_centers_.tolist()
    )
    chosen: list[int] = []
    for centroid in centroids:
        left = [i for i in range(len(points)) if i not in chosen]
        gaps = [math.dist(points[i], centroid) for i in left]
        chosen.append(left[first_nearest(gaps)])
    return chosen


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("counts", [[9, 9], [12, 6, 30]])
def test_choices_are_those_of_the_definitions(seed: int, counts: list[int]) -> None:
    features, sizes = random_features(seed, counts), torch.tensor(counts)
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**31, (len(counts),), generator=generator).tolist()
    found = {
        name: make()(features, sizes, 5).tolist() for name, make in CHOICES.items()
    }
    found["k_means"] = seeded(seed)(features, sizes, 5).tolist()
    for row, count in enumerate(counts):
        points: Points = features[row, :count].double().tolist()
        assert found["herding"][row] == herding_by_hand(points, 5)
        assert found["k_center"][row] == k_center_by_hand(points, 5)
        assert found["k_means"][row] == k_means_by_hand(points, 5, seeds[row])


def test_herding_never_takes_the_farthest() -> None:
    """As an argmax would: on a line the first choice is the middle."""
    line = torch.tensor([[[-4.0], [0.1], [3.0], [5.0], [-4.1]]])
    assert herding(line, torch.tensor([5]), 3).tolist() == [[1, 2, 0]]


def test_the_mean_of_herding_is_near_that_of_the_class() -> None:
    features, counts = random_features(3, [200, 200], 20), torch.tensor([200, 200])
    chosen = herding(features, counts, 10)
    target = features.mean(1)
    gap = (features[torch.arange(2)[:, None], chosen].mean(1) - target).norm(dim=1)
    other = (features[:, :10].mean(1) - target).norm(dim=1)
    assert (gap < other / 3).all()


@pytest.mark.parametrize("seed", range(5))
def test_k_center_is_at_most_twice_the_best_radius(seed: int) -> None:
    points: Points = random_features(seed, [9], 2)[0].tolist()

    def radius(centres: tuple[int, ...]) -> float:
        return max(min(math.dist(x, points[i]) for i in centres) for x in points)

    best = min(radius(some) for some in itertools.combinations(range(9), 3))
    (found,) = k_center(torch.tensor([points]), torch.tensor([9]), 3).tolist()
    assert best <= radius(tuple(found)) <= 2 * best + 1e-6


def test_k_means_takes_one_image_of_each_blob() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 50 * torch.randn(4, 6, generator=generator)
    points = centres.repeat(10, 1) + torch.randn(40, 6, generator=generator)
    (found,) = seeded()(points[None], torch.tensor([40]), 4)
    assert sorted((found % 4).tolist()) == [0, 1, 2, 3]
    for index in found.tolist():
        blob = points[index % 4 :: 4]
        nearest = (blob - blob.mean(0)).norm(dim=1).argmin()
        assert index == index % 4 + 4 * int(nearest)


@all_choices
def test_fewer_are_a_prefix_of_more_unless_clustered(name: str) -> None:
    features, counts = random_features(1, [20, 15]), torch.tensor([20, 15])
    few, many = (CHOICES[name]()(features, counts, count) for count in (3, 8))
    assert torch.equal(few, many[:, :3]) == (name != "k_means")


@all_choices
@pytest.mark.parametrize(
    "points",
    [
        torch.zeros(2, 6, 3),
        torch.tensor([0.0, 0, 1, 1, 1, 1]).repeat(2, 1)[..., None],
        torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(2)),
        1e6 + torch.arange(12.0).view(2, 6, 1) % 2,
    ],
    ids=["all-equal", "two-distinct", "distinct", "far-from-zero"],
)
@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_degenerate_classes_give_distinct_images(
    name: str, points: Tensor, count: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = CHOICES[name]()(points, torch.tensor([6, 4]), min(count, 4))
    assert found.shape == (2, min(count, 4))
    for row, size in zip(found.tolist(), (6, 4), strict=True):
        assert len(set(row)) == len(row)
        assert all(0 <= index < size for index in row)


@all_choices
def test_all_images_may_be_wanted(name: str) -> None:
    features = random_features(4, [7, 7])
    found = CHOICES[name]()(features, torch.tensor([7, 7]), 7)
    assert found.sort(1).values.tolist() == [list(range(7))] * 2


@all_choices
def test_copies_come_last(name: str) -> None:
    """Three distinct images among nine: the first three chosen are they."""
    points = torch.tensor([[0.0], [5.0], [11.0]]).repeat(3, 1)[None]
    found = CHOICES[name]()(points, torch.tensor([9]), 3)
    if name != "herding":  # which follows the mean, by copies if need be
        assert sorted((found % 3).flatten().tolist()) == [0, 1, 2]
    assert len(set(found.flatten().tolist())) == 3


@all_choices
def test_the_first_of_equals_counts(name: str) -> None:
    found = CHOICES[name]()(torch.ones(1, 5, 2), torch.tensor([5]), 3)
    assert found.tolist() == [[0, 1, 2]]


def test_clustering_has_one_result() -> None:
    features, counts = random_features(5, [300, 300], 40), torch.tensor([300, 300])
    first = seeded()(features, counts, 20)
    assert all(torch.equal(seeded()(features, counts, 20), first) for _ in range(3))
    assert not torch.equal(seeded(1)(features, counts, 20), first)


def uneven() -> Dataset:
    """Classes of 12, 5 and 8 images, mixed."""
    source = dataset()
    kept = (
        torch.cat(
            [
                (source.train.labels == label).nonzero()[:count]
                for label, count in enumerate((12, 5, 8))
            ]
        )
        .flatten()
        .sort()
        .values
    )
    split = source.train.subset(kept)
    return Dataset(source.info, split, split, source.fingerprint)


@all_choices
@pytest.mark.parametrize("most", [1, 2 * 12 * 64 * 4, 2**30])
def test_a_set_holds_the_images_chosen(name: str, most: int, tmp_path: Path) -> None:
    source = uneven()
    run = cell_run(source, tmp_path, ipc=4)
    made = select(run, PIXELS, CHOICES[name](), most)
    groups = {1: 3, 2 * 12 * 64 * 4: 2, 2**30: 1}[most]
    assert run.timings["select"].steps == groups
    synthetic_file.check(made)
    assert made.labels.argmax(1).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    chosen = torch.tensor(made.provenance["train_images"])
    assert torch.equal(made.images, normalize(source.train.images[chosen], source.info))
    assert torch.equal(source.train.labels[chosen], made.labels.argmax(1))
    index, counts = class_index(source.train.labels, 3)
    pixels = normalize(source.train.images, source.info).flatten(1)
    padded = torch.where((index >= 0)[..., None], pixels[index], torch.zeros(()))
    direct = index.gather(1, CHOICES[name]()(padded, counts, 4))
    assert chosen.tolist() == direct.flatten().tolist()


@all_choices
def test_a_selection_resumes_between_groups(name: str, tmp_path: Path) -> None:
    def made(folder: Path, policy: RunPolicy) -> Tensor:
        run = cell_run(uneven(), folder, ipc=3, method=name)
        run.policy = policy
        choose = CHOICES[name]()
        if name == "k_means":  # whose random stream is the run's
            choose = partial(k_means, generator=run.generator(name, device="cpu"))
        return select(run, PIXELS, choose, most_bytes=1).images

    quiet = made(tmp_path / "a", RunPolicy(folder=tmp_path / "a"))
    asked = iter(range(1, 9))
    stopping = RunPolicy(folder=tmp_path / "b", stop=lambda: next(asked) == 2)
    with pytest.raises(InterruptedRunError, match="after step 2"):
        made(tmp_path / "b", stopping)
    assert torch.equal(made(tmp_path / "b", RunPolicy(folder=tmp_path / "b")), quiet)


def test_memory_stays_within_its_bound(tmp_path: Path) -> None:
    """Never an n x n matrix: what a choice of 5,000 images asks for at once."""
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            if isinstance(made, Tensor):
                largest = max(largest, made.numel())
            return made

    features = torch.randn(1, 5000, 4, generator=torch.Generator().manual_seed(0))
    with Watch():
        for name in METHODS:
            CHOICES[name]()(features, torch.tensor([5000]), 20)
    assert largest == features.numel()
