"""Architecture search on a synthetic set, compared with a search on real images.

The experiment follows DC, DSA and DM on 720 ConvNets. Every network of a grid is
trained on the set and on the whole train split, and the two rankings are compared. The
network that is best on the set is the one that a search on the set would find.

No network is chosen on the images that measure it: one half of the test images of each
class ranks the networks, and the other half measures the networks that were trained on
the whole split. Published searches rank on the test images (FTD) or on a tenth of the
train split (DM); a set that was distilled from the whole train split has seen the
latter.
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
"""The choices in a ConvNet's name beside depth and width; the first is the default."""


class NetworkGrid(NamedTuple):
    """A grid of ConvNets: all combinations of its choices.

    Attributes:
        depths: numbers of blocks.
        widths: numbers of channels per block.
        norms: normalisation layers as in names of networks, such as ``IN``.
        activations: activations as in names of networks, such as ``AR``.
        poolings: poolings as in names of networks, such as ``AP``.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    norms: tuple[str, ...]
    activations: tuple[str, ...]
    poolings: tuple[str, ...]

    def names(self) -> list[str]:
        """Return the networks' names, such as ``ConvNetD2W32LN``, without defaults.

        Raises:
            UsageError: an axis has no choice, or one that does not exist.
        """
        for axis, known in AXES.items():
            chosen = getattr(self, axis)
            if not chosen or set(chosen) - set(known):
                raise UsageError(
                    f"--{axis} {','.join(chosen)}: write some of {', '.join(known)}"
                )
        defaults = {choices[0] for choices in AXES.values()}
        networks = []
        for depth, width, *rest in product(*self):
            tokens = "".join(token for token in rest if token not in defaults)
            networks.append(f"ConvNetD{depth}W{width}{tokens}")
        return networks


class Correlation(NamedTuple):
    """Rank correlations in [-1, 1]; NaN where all networks of a ranking are equal."""

    spearman: float
    kendall: float


def correlation(first: Sequence[float], second: Sequence[float]) -> Correlation:
    """Return Spearman's rho, with average ranks for ties, and Kendall's tau-b."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return Correlation(math.nan, math.nan)
    from scipy.stats import kendalltau, spearmanr  # half a second to import

    spearman, kendall = spearmanr(first, second), kendalltau(first, second)
    return Correlation(float(spearman.statistic), float(kendall.statistic))


class Found(NamedTuple):
    """The outcome of a search on a set.

    Attributes:
        overall: rank correlations over all networks.
        among_top: rank correlations over the ``top`` networks that are best on the set.
        best: index of the network that is best on the set.
    """

    overall: Correlation
    among_top: Correlation
    best: int


def search(proxy: Sequence[float], whole: Sequence[float], top: int) -> Found:
    """Compare two rankings of the same networks.

    Args:
        proxy: accuracies of the networks trained on the set, on the images that rank.
        whole: accuracies of the networks trained on the whole train split, on the
            other images.
        top: number of networks, the best on the set, that are also compared on their
            own. Of equally good networks the earlier ones come first.
    """
    order = sorted(range(len(proxy)), key=lambda index: -proxy[index])
    leading = order[:top]
    return Found(
        correlation(proxy, whole),
        correlation([proxy[i] for i in leading], [whole[i] for i in leading]),
        order[0],
    )
