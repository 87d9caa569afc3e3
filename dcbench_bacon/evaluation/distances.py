"""Distances between two samples of feature vectors, in double precision."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

_ROWS = 1024  # of a kernel matrix at a time
_PAIRED = 1000  # vectors whose distances give the bandwidth


def bandwidth(features: Float[Tensor, "n d"]) -> float:
    """The median distance between two vectors, among 1,000 spread over all.

    Taken from real images alone, it is the same for every set that is held against
    them (the median heuristic: Gretton et al., JMLR 2012, section 8).
    """
    every = -(-len(features) // _PAIRED)  # in a folder classes follow one another
    distances = torch.pdist(features[::every].double())
    return float(distances.median()) or 1.0


def mmd(
    first: Float[Tensor, "m d"], second: Float[Tensor, "n d"], width: float
) -> float:
    """The squared maximum mean discrepancy, estimated without bias.

    The kernel is Gaussian, ``exp(-|x - y|^2 / (2 width^2))``. Pairs of a vector with
    itself do not count, so that two samples of one distribution give 0 on average, and
    a little less than 0 as often as a little more (Gretton et al., JMLR 2012, eq. 3).

    Returns:
        At most 2; nan if a sample has a single vector.
    """
    m, n = len(first), len(second)
    if m < 2 or n < 2:
        return math.nan
    first, second = first.double(), second.double()
    within = (_kernels(first, first, width) - m) / (m * (m - 1))
    within += (_kernels(second, second, width) - n) / (n * (n - 1))
    return float(within - 2 * _kernels(first, second, width) / (m * n))


def frechet(first: Float[Tensor, "m d"], second: Float[Tensor, "n d"]) -> float:
    """The Frechet distance of Gaussians fitted to two samples (Heusel et al., 2017).

    ``|mu - nu|^2 + tr(S + T - 2 (S^(1/2) T S^(1/2))^(1/2))`` with sample covariances
    (n - 1). The trace of the root is the sum of the roots of the eigenvalues of the
    symmetric ``A' T A``, where ``S = A A'``: no matrix need be invertible, and none is
    changed to be. Fewer vectors than features leave a covariance of rank ``m - 1``,
    which makes the distance too large: compare it among samples of one size.

    Returns:
        0 or more; a single vector counts as a Gaussian without spread.
    """
    first, second = first.double(), second.double()
    gap = (first.mean(0) - second.mean(0)).square().sum()
    one, two = _centred(first), _centred(second)
    spread = one.square().sum() + two.square().sum()
    return max(0.0, float(gap + spread - 2 * _root_trace(one, two)))


def _kernels(
    first: Float[Tensor, "m d"], second: Float[Tensor, "n d"], width: float
) -> Tensor:
    """The sum of the kernel over all pairs."""
    norms = second.square().sum(1)
    total = torch.zeros((), dtype=first.dtype, device=first.device)
    for rows in torch.split(first, _ROWS):
        squares = rows.square().sum(1)[:, None] + norms - 2 * rows @ second.T
        total += torch.exp(squares.clamp(min=0) / (-2 * width**2)).sum()
    return total


def _centred(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows ``X`` for which ``X' X`` is the sample covariance."""
    return (features - features.mean(0)) / math.sqrt(max(1, len(features) - 1))


def _root_trace(one: Float[Tensor, "m d"], two: Float[Tensor, "n d"]) -> Tensor:
    """The trace of the root of the product of two covariances, from their factors."""
    one, two = _factor(one), _factor(two)
    if len(one) > len(two):
        one, two = two, one
    cross = one @ two.T
    values: Tensor = torch.linalg.eigvalsh(cross @ cross.T)
    return values.clamp(min=0).sqrt().sum()


def _factor(rows: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """Rows of the same ``X' X``, at most as many as there are features."""
    if len(rows) <= rows.shape[1]:
        return rows
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    factor: Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return factor
