"""Architecture search on a synthetic set: does it rank networks as real images do?

After the experiment of DC, DSA and DM on 720 ConvNets: every network of a grid is
trained on the set and on the whole train split, and the two rankings are compared. The
network that is best on the set is the one a search on the set would find.

Nothing is picked on the images that it is scored on: one half of the test images,
class by class, ranks the networks, the other half gives the accuracy of those trained
on the whole split. Published searches use the test images (FTD) or a tenth of train
(DM); a set that was distilled from all of train has seen the latter.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from dcbench_bacon.errors import UsageError

AXES = {
    "norms": ("IN", "BN", "LN", "GN", "NN"),
    "activations": ("AR", "AL", "AS", "ASwish"),
    "poolings": ("AP", "MP", "NP"),
}
"""What a ConvNet's name can choose beside depth and width; the first is the default."""


class NetworkGrid(NamedTuple):
    """ConvNets: all combinations of these.

    Attributes:
        depths: numbers of blocks.
        widths: channels of each block.
        norms: as in names of networks, such as ``IN``.
        activations: such as ``AR``.
        poolings: such as ``AP``.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    norms: tuple[str, ...]
    activations: tuple[str, ...]
    poolings: tuple[str, ...]

    def names(self) -> list[str]:
        """The networks' names, such as ``ConvNetD2W32LN``, without defaults.

        Raises:
            UsageError: an axis is empty or has a choice that is none of its own.
        """
        for axis, known in AXES.items():
            chosen = getattr(self, axis)
            if not chosen or set(chosen) - set(known):
                raise UsageError(
                    f"--{axis} {','.join(chosen)}: write some of {', '.join(known)}"
                )
        defaults = {choices[0] for choices in AXES.values()}
        found = []
        for depth, width, *rest in product(*self):
            tokens = "".join(token for token in rest if token not in defaults)
            found.append(f"ConvNetD{depth}W{width}{tokens}")
        return found


class Correlation(NamedTuple):
    """Rank correlations in [-1, 1]; nan where a ranking has one rank alone."""

    spearman: float
    kendall: float


def correlation(first: Sequence[float], second: Sequence[float]) -> Correlation:
    """Spearman's rho, with average ranks for ties, and Kendall's tau-b."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return Correlation(math.nan, math.nan)
    from scipy.stats import kendalltau, spearmanr  # half a second to import

    spearman, kendall = spearmanr(first, second), kendalltau(first, second)
    return Correlation(float(spearman.statistic), float(kendall.statistic))


class Found(NamedTuple):
    """What a search on a set comes to.

    Attributes:
        overall: over all networks.
        among_top: over the ``top`` networks that are best on the set.
        best: the index of the network that is best on the set.
    """

    overall: Correlation
    among_top: Correlation
    best: int


def search(proxy: Sequence[float], whole: Sequence[float], top: int) -> Found:
    """Compares two rankings of the same networks.

    Args:
        proxy: accuracies of networks trained on the set, on the images that rank.
        whole: accuracies of networks trained on the whole train split, on others.
        top: how many of the best on the set are compared on their own. Of equals the
            earlier ones come first.
    """
    order = sorted(range(len(proxy)), key=lambda index: -proxy[index])
    leading = order[:top]
    return Found(
        correlation(proxy, whole),
        correlation([proxy[i] for i in leading], [whole[i] for i in leading]),
        order[0],
    )
