"""Distances between two samples of feature vectors, in double precision."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

ROWS = 1024  # rows of a kernel matrix that are computed at a time
_PAIRED = 1000  # number of vectors whose distances give the bandwidth


def bandwidth(features: Float[Tensor, "n d"]) -> float:
    """Return the median distance between vectors, from 1,000 spread over all.

    The bandwidth is computed from real images alone, so it is the same for every set
    that is compared with them (the median heuristic: Gretton et al., JMLR 2012,
    section 8).
    """
    # Every k-th vector, because the classes of a folder follow one another.
    every = -(-len(features) // _PAIRED)
    distances = torch.pdist(features[::every].double())
    return float(distances.median()) or 1.0


def mmd(
    first: Float[Tensor, "m d"],
    second: Float[Tensor, "n d"],
    width: float,
    rows: int = ROWS,
) -> float:
    """Return the squared maximum mean discrepancy, estimated without bias.

    The kernel is Gaussian, ``exp(-|x - y|^2 / (2 width^2))``. Pairs of a vector with
    itself do not count, so that two samples of one distribution give 0 on average, and
    slightly less than 0 as often as slightly more (Gretton et al., JMLR 2012, eq. 3).

    Args:
        first: a vector per image.
        second: a vector per image.
        width: of the kernel.
        rows: vectors of a sample that are compared with the other at once.

    Returns:
        A number of at most 2; NaN if a sample has fewer than two vectors.
    """
    m, n = len(first), len(second)
    if m < 2 or n < 2:
        return math.nan
    first, second = first.double(), second.double()
    within = (_kernels(first, first, width, rows) - m) / (m * (m - 1))
    within += (_kernels(second, second, width, rows) - n) / (n * (n - 1))
    return float(within - 2 * _kernels(first, second, width, rows) / (m * n))


def frechet(first: Float[Tensor, "m d"], second: Float[Tensor, "n d"]) -> float:
    """Return the Frechet distance of Gaussians fitted to two samples.

    It is ``|mu - nu|^2 + tr(S + T - 2 (S^(1/2) T S^(1/2))^(1/2))`` (Heusel et al.,
    2017) with sample covariances (n - 1). The trace of the root is the sum of the roots
    of the eigenvalues of the symmetric ``A' T A``, where ``S = A A'``; no matrix has to
    be invertible. With fewer vectors than features, a covariance has rank ``m - 1`` and
    the distance is too large, so compare it only among samples of one size.

    Returns:
        A number of 0 or more; a single vector counts as a Gaussian without spread.
    """
    first, second = first.double(), second.double()
    gap = (first.mean(0) - second.mean(0)).square().sum()
    one, two = _centred(first), _centred(second)
    spread = one.square().sum() + two.square().sum()
    return max(0.0, float(gap + spread - 2 * _root_trace(one, two)))


def _kernels(
    first: Float[Tensor, "m d"], second: Float[Tensor, "n d"], width: float, rows: int
) -> Tensor:
    """Return the sum of the kernel over all pairs."""
    norms = second.square().sum(1)
    total = torch.zeros((), dtype=first.dtype, device=first.device)
    for part in torch.split(first, rows):
        squares = part.square().sum(1)[:, None] + norms - 2 * part @ second.T
        total += torch.exp(squares.clamp(min=0) / (-2 * width**2)).sum()
    return total


def _centred(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return rows ``X`` for which ``X' X`` is the sample covariance."""
    return (features - features.mean(0)) / math.sqrt(max(1, len(features) - 1))


def _root_trace(one: Float[Tensor, "m d"], two: Float[Tensor, "n d"]) -> Tensor:
    """Return the trace of the root of the product of two covariances."""
    one, two = _factor(one), _factor(two)
    if len(one) > len(two):
        one, two = two, one
    cross = one @ two.T
    values: Tensor = torch.linalg.eigvalsh(cross @ cross.T)
    return values.clamp(min=0).sqrt().sum()


def _factor(rows: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """Return rows with the same ``X' X``, at most as many as there are features."""
    if len(rows) <= rows.shape[1]:
        return rows
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    factor: Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return factor
