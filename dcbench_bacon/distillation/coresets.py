"""Selection of real images: herding, k-center and k-means, many classes at once.

A choice works on the features of several classes, padded to the largest. Distances are
Euclidean, computed from differences (no expanded squares, which lose digits), and from
one point a class to all its images: never more than one row of the matrix of all
distances. A class that has fewer distinct images than it must give gives the copies.
Of images equally far the first counts, in the order of the train split.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages, in_class_order
from dcbench_bacon.runtime.memory import images_per_call
from dcbench_bacon.training.features import FeatureSettings as FeatureSettings
from dcbench_bacon.training.features import build

Choice = Callable[
    [Float32[Tensor, "c n d"], Int64[Tensor, "c"], int], Int64[Tensor, "c k"]
]
"""From features, padded, how many of them count, and k: k positions in each class."""

ROUNDING = 1e-5  # relative; distances closer than this are equal
MOST_BYTES = 2**30
"""Of the features of the classes chosen from at once; one class may take more."""


def herding(
    features: Float32[Tensor, "c n d"], counts: Int64[Tensor, "c"], count: int
) -> Int64[Tensor, "c k"]:
    """Greedy matching of the mean (Welling, ICML 2009; iCaRL, CVPR 2017, algorithm 4).

    With m the mean of the class and S the sum of those chosen so far, the i-th choice
    is the image x left that minimises ||i m - (S + x)||: it keeps the mean of the
    choices nearest to the mean of the class. (The author's reading for the published
    rows: VICO-UoE/DatasetCondensation, issue 15. DeepCore's code takes the farthest.)

    Args:
        features: a row an image; rows from ``counts`` on are padding.
        counts: images of each class, ``count`` or more.
        count: how many to choose of each class.

    Returns:
        Positions in the order chosen: fewer are a prefix of more.
    """
    mean = _mean(features, counts)
    total = torch.zeros_like(mean)
    taken = _padding(features, counts)
    rows = torch.arange(len(features), device=features.device)
    chosen = []
    for number in range(1, count + 1):
        distances = _distances(number * mean - total, features)
        chosen.append(_nearest(distances, taken))
        total += features[rows, chosen[-1]]
        taken[rows, chosen[-1]] = True
    return torch.stack(chosen, 1)


def k_center(
    features: Float32[Tensor, "c n d"], counts: Int64[Tensor, "c"], count: int
) -> Int64[Tensor, "c k"]:
    """Greedy k-center (Gonzalez, 1985; for core-sets Sener and Savarese, ICLR 2018).

    The first centre is the image nearest to the mean of its class (the author's reading
    for the published rows: VICO-UoE/DatasetCondensation, issue 21); each further one is
    the image farthest from its nearest centre. The radius is then at most twice the
    smallest possible. It seeks outliers: a few images say little of a class.

    Args:
        features: a row an image; rows from ``counts`` on are padding.
        counts: images of each class, ``count`` or more.
        count: how many to choose of each class.

    Returns:
        Positions in the order chosen: fewer are a prefix of more.
    """
    taken = _padding(features, counts)
    rows = torch.arange(len(features), device=features.device)
    nearest = _distances(_mean(features, counts), features)
    chosen = [_nearest(nearest, taken)]
    nearest.fill_(torch.inf)
    for _ in range(count - 1):
        taken[rows, chosen[-1]] = True
        to_last = _distances(features[rows, chosen[-1]], features)
        nearest = torch.minimum(nearest, to_last)
        chosen.append(nearest.masked_fill(taken, -torch.inf).argmax(1))
    return torch.stack(chosen, 1)


def k_means(
    features: Float32[Tensor, "c n d"],
    counts: Int64[Tensor, "c"],
    count: int,
    generator: torch.Generator,
) -> Int64[Tensor, "c k"]:
    """The real image nearest to each centroid of k-means, none twice.

    The centroids are scikit-learn's (Lloyd's algorithm from k-means++, one start). In
    their order each takes the nearest image that is left, so that a centroid whose
    image is gone, as of a class with fewer distinct images than clusters, takes the
    next.

    Args:
        features: a row an image; rows from ``counts`` on are padding.
        counts: images of each class, ``count`` or more.
        count: how many to choose of each class.
        generator: on the CPU; seeds the clustering of each class.
    """
    seeds = torch.randint(2**31, (len(features),), generator=generator).tolist()
    rows = torch.arange(len(features), device=features.device)
    centroids = torch.stack(
        [
            _centroids(each[:size], count, seed)
            for each, size, seed in zip(features, counts.tolist(), seeds, strict=True)
        ]
    )
    taken = _padding(features, counts)
    chosen = []
    for centroid in centroids.unbind(1):
        distances = _distances(centroid, features)
        chosen.append(_nearest(distances, taken))
        taken[rows, chosen[-1]] = True
    return torch.stack(chosen, 1)


def _centroids(
    features: Float32[Tensor, "n d"], count: int, seed: int
) -> Float32[Tensor, "k d"]:
    """The centroids of one class; the images themselves where all are wanted."""
    if count == len(features):
        return features
    clustering = KMeans(count, n_init=1, random_state=seed)
    # One thread: several add up in an order that changes from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        # Fewer distinct images than clusters are no mistake here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clustering.fit(features.cpu().numpy())
    found = clustering.cluster_centers_.astype(np.float32)
    return torch.from_numpy(found).to(features.device)


def _mean(
    features: Float32[Tensor, "c n d"], counts: Int64[Tensor, "c"]
) -> Float32[Tensor, "c d"]:
    """The mean of each class; padding is zero."""
    return features.sum(1) / counts[:, None]


def _padding(
    features: Float32[Tensor, "c n d"], counts: Int64[Tensor, "c"]
) -> Bool[Tensor, "c n"]:
    """Which rows hold no image."""
    return torch.arange(features.shape[1], device=counts.device) >= counts[:, None]


def _nearest(
    distances: Float32[Tensor, "c n"], taken: Bool[Tensor, "c n"]
) -> Int64[Tensor, "c"]:
    """The first image left of those nearest; rounding tells no two of them apart.

    The two images of a cluster of two are as far from its centroid as each other.
    """
    left = distances.masked_fill(taken, torch.inf)
    least = left.amin(1, keepdim=True)
    return (left <= least * (1 + ROUNDING)).int().argmax(1)


def _distances(
    points: Float32[Tensor, "c d"], features: Float32[Tensor, "c n d"]
) -> Float32[Tensor, "c n"]:
    """From one point a class to each row of the class."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points.unsqueeze(1), features, compute_mode=exact).squeeze(1)


def select(run: Run, settings: FeatureSettings, choose: Choice) -> SyntheticSet:
    """Chooses ``ipc`` images of every class, a group of classes a step.

    Args:
        run: what the harness lends.
        settings: what distances are measured in.
        choose: which images to take.

    Returns:
        The images in class order, each class in the order chosen. The provenance says
        which of the train split they are, and what the features are.
    """
    selection = Selection(run, settings, choose)
    for step in run.steps("select", selection.steps, state=selection):
        selection.step(step)
    return selection.result()


class Selection:
    """The images chosen so far, by class.

    Args:
        run: what the harness lends.
        settings: what distances are measured in.
        choose: which images to take.
    """

    def __init__(self, run: Run, settings: FeatureSettings, choose: Choice) -> None:
        """Makes the features ready, and forms the groups."""
        self.run = run
        self.choose = choose
        self.real = RealImages(run)
        self.features = build(run, settings)
        self.chosen = self.real.index.new_zeros(run.info.classes, run.cell.ipc)
        self.width = self._encode(self.real.index[:1, :1].flatten()).shape[1]
        size = 4 * self.real.largest * self.width
        self.group = max(1, min(run.info.classes, MOST_BYTES // size))

    @property
    def steps(self) -> int:
        """The number of groups."""
        return -(-self.run.info.classes // self.group)

    def step(self, index: int) -> None:
        """Chooses from one group of classes."""
        some = slice(index * self.group, (index + 1) * self.group)
        members, counts = self.real.index[some], self.real.counts[some]
        with self.run.phase("real forward"):
            encoded = self._encode_group(members)
        positions = self.choose(encoded, counts, self.run.cell.ipc)
        self.chosen[some] = members.gather(1, positions)

    def _encode_group(self, members: Int64[Tensor, "c n"]) -> Float32[Tensor, "c n d"]:
        """The features of the images of a group; zeros where there is none."""
        encoded = torch.zeros(*members.shape, self.width, device=members.device)
        flat, index = encoded.flatten(0, 1), members.flatten()
        places = (index >= 0).nonzero().flatten()
        most = images_per_call(places.device, self.run.info.size)
        for piece in torch.split(places, most):
            flat[piece] = self._encode(index[piece])
        self.run.count(len(places))
        return encoded

    @torch.no_grad()
    def _encode(self, index: Int64[Tensor, "n"]) -> Float32[Tensor, "n d"]:
        """The features of images of the train split."""
        return self.features.encode(self.run.train.images[index])

    def result(self) -> SyntheticSet:
        """The images chosen, with one-hot labels."""
        return in_class_order(
            self.real.take(self.chosen).flatten(0, 1),
            self.run.info,
            provenance={
                "features": self.features.origin,
                "train_images": self.chosen.flatten().tolist(),
            },
        )

    def state_dict(self) -> State:
        """The images chosen."""
        return {"chosen": self.chosen}

    def load_state_dict(self, state: State) -> None:
        """Goes on from ``state_dict``."""
        self.chosen.copy_(state["chosen"])
