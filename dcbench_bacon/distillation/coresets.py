"""Selection of real images: herding, k-center and k-means, many classes at once.

A choice works on the features of several classes, padded to the largest of them.
Distances are Euclidean and computed from differences, since expanded squares lose
digits. They go from one point per class to all images of the class, so that never more
than one row of the distance matrix is in memory. A class with fewer distinct images
than it must give also gives the copies. Of equally distant images, the first in the
order of the train split is taken.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages, in_class_order
from dcbench_bacon.runtime.compute.memory import images_per_call
from dcbench_bacon.training.features import FeatureSettings as FeatureSettings
from dcbench_bacon.training.features import build

Choice = Callable[
    [Float32[Tensor, "c n d"], Int64[Tensor, "c"], int], Int64[Tensor, "c k"]
]
"""Takes padded features, the number of images in each class, and k; returns k positions
in each class."""

ROUNDING = 1e-5  # relative difference below which two distances count as equal
MOST_BYTES = 2**30
"""Largest size of the features of a group of classes; a single class may exceed it."""


def herding(
    features: Float32[Tensor, "c n d"], counts: Int64[Tensor, "c"], count: int
) -> Int64[Tensor, "c k"]:
    """Choose images greedily so that their mean is nearest to that of the class.

    The method is herding (Welling, ICML 2009; iCaRL, CVPR 2017, algorithm 4). With m
    the mean of the class and S the sum of the images chosen so far, the i-th choice is
    the remaining image x that minimises ||i m - (S + x)||. This is how the author
    describes the published rows (VICO-UoE/DatasetCondensation, issue 15); DeepCore's
    code takes the farthest image instead.

    Args:
        features: one row per image; rows from ``counts`` on are padding.
        counts: number of images of each class, ``count`` or more.
        count: number of images to choose per class.

    Returns:
        Positions in the order chosen: a smaller choice is a prefix of a larger one.
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
    """Choose images greedily so that every image is near to one of them.

    The method is greedy k-center (Gonzalez, 1985; for core-sets Sener and Savarese,
    ICLR 2018). The first centre is the image nearest to the mean of its class, as the
    author describes the published rows (VICO-UoE/DatasetCondensation, issue 21); each
    further centre is the image farthest from its nearest centre. The radius is then at
    most twice the smallest possible. The method prefers outliers, so a few images
    represent a class badly.

    Args:
        features: one row per image; rows from ``counts`` on are padding.
        counts: number of images of each class, ``count`` or more.
        count: number of images to choose per class.

    Returns:
        Positions in the order chosen: a smaller choice is a prefix of a larger one.
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
    """Choose the real image nearest to each centroid of k-means, none twice.

    The centroids are scikit-learn's (Lloyd's algorithm from k-means++, one start). One
    after another, each takes the nearest image that is left. A centroid whose nearest
    image is taken, as in a class with fewer distinct images than clusters, therefore
    takes the next one.

    Args:
        features: one row per image; rows from ``counts`` on are padding.
        counts: number of images of each class, ``count`` or more.
        count: number of images to choose per class.
        generator: a random stream on the CPU; it seeds the clustering of each class.

    Returns:
        Positions in the order of the centroids.
    """
    seeds = torch.randint(2**31, (len(features),), generator=generator).tolist()
    rows = torch.arange(len(features), device=features.device)
    centroids = torch.stack(
        [
            _centroids(members[:size], count, seed)
            for members, size, seed in zip(
                features, counts.tolist(), seeds, strict=True
            )
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
    """Return the centroids of one class; all images if ``count`` asks for all."""
    if count == len(features):
        return features
    # Imported here, because the other choices need no scikit-learn.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    clustering = KMeans(count, n_init=1, random_state=seed)
    # One thread, because several add up in an order that changes from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        # A class may have fewer distinct images than clusters; that is no mistake.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clustering.fit(features.cpu().numpy())
    centroids = clustering.cluster_centers_.astype(np.float32)
    return torch.from_numpy(centroids).to(features.device)


def _mean(
    features: Float32[Tensor, "c n d"], counts: Int64[Tensor, "c"]
) -> Float32[Tensor, "c d"]:
    """Return the mean of each class; the padding is zero."""
    return features.sum(1) / counts[:, None]


def _padding(
    features: Float32[Tensor, "c n d"], counts: Int64[Tensor, "c"]
) -> Bool[Tensor, "c n"]:
    """Return a mask of the rows that hold no image."""
    return torch.arange(features.shape[1], device=counts.device) >= counts[:, None]


def _nearest(
    distances: Float32[Tensor, "c n"], taken: Bool[Tensor, "c n"]
) -> Int64[Tensor, "c"]:
    """Return the first of the nearest images that are left.

    Distances that differ by rounding alone count as equal: the two images of a cluster
    of two are equally far from its centroid.
    """
    left = distances.masked_fill(taken, torch.inf)
    least = left.amin(1, keepdim=True)
    return (left <= least * (1 + ROUNDING)).int().argmax(1)


def _distances(
    points: Float32[Tensor, "c d"], features: Float32[Tensor, "c n d"]
) -> Float32[Tensor, "c n"]:
    """Return the distances from one point per class to each row of the class."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points.unsqueeze(1), features, compute_mode=exact).squeeze(1)


def select(
    run: Run, settings: FeatureSettings, choose: Choice, most_bytes: int = MOST_BYTES
) -> SyntheticSet:
    """Choose ``ipc`` images of every class, one group of classes per step.

    Args:
        run: the cell's data, random streams and clock.
        settings: the features that distances are measured in.
        choose: picks positions from the features of a group.
        most_bytes: the memory of the features of a group.

    Returns:
        The images in class order, each class in the order chosen. The provenance lists
        their indices in the train split and describes the features.
    """
    selection = Selection(run, settings, choose, most_bytes)
    for step in run.steps("select", selection.steps, state=selection):
        selection.step(step)
    return selection.result()


class Selection:
    """The images chosen so far, by class.

    Args:
        run: the cell's data, random streams and clock.
        settings: the features that distances are measured in.
        choose: picks positions from the features of a group.
        most_bytes: the memory of the features of a group.
    """

    def __init__(
        self,
        run: Run,
        settings: FeatureSettings,
        choose: Choice,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Build the features and set the size of the groups."""
        self.run = run
        self.choose = choose
        self.real = RealImages(run)
        self.features = build(run, settings)
        self.chosen = self.real.index.new_zeros(run.info.classes, run.cell.ipc)
        self.width = self._encode(self.real.index[:1, :1].flatten()).shape[1]
        size = 4 * self.real.largest * self.width
        self.group = max(1, min(run.info.classes, most_bytes // size))

    @property
    def steps(self) -> int:
        """Return the number of groups of classes."""
        return -(-self.run.info.classes // self.group)

    def step(self, index: int) -> None:
        """Choose the images of one group of classes."""
        group = slice(index * self.group, (index + 1) * self.group)
        members, counts = self.real.index[group], self.real.counts[group]
        with self.run.phase("real forward"):
            encoded = self._encode_group(members)
        positions = self.choose(encoded, counts, self.run.cell.ipc)
        self.chosen[group] = members.gather(1, positions)

    def _encode_group(self, members: Int64[Tensor, "c n"]) -> Float32[Tensor, "c n d"]:
        """Return the features of a group's images, with zeros as padding."""
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
        """Return the features of images of the train split."""
        return self.features.embed(self.run.train.take(index))

    def result(self) -> SyntheticSet:
        """Return the images chosen, with one-hot labels."""
        return in_class_order(
            self.real.take(self.chosen).flatten(0, 1),
            self.run.info,
            provenance={
                "features": self.features.origin,
                "train_images": self.chosen.flatten().tolist(),
            },
        )

    def state_dict(self) -> State:
        """Return the indices of the images chosen so far."""
        return {"chosen": self.chosen}

    def load_state_dict(self, state: State) -> None:
        """Restore a state that ``state_dict`` returned."""
        self.chosen.copy_(state["chosen"])
