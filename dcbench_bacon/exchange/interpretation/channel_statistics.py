"""The mean and deviation of each channel, compared with those of the data set.

Images that a data set's own statistics normalised have a mean near 0 and a deviation
near 1 in each channel. Pixels have the mean and the deviation of the data set; once
normalised, they have about 0 and 1 as well, so that one pair of bounds serves both.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dcbench_bacon.exchange.interpretation.content import Guess
from dcbench_bacon.exchange.interpretation.evidence import OVERSHOOT, Evidence
from dcbench_bacon.schema import DatasetInfo

NEAR = 0.5  # bound on the channel means of normalised images
SPREAD = (0.7, 2.0)  # range of the channel deviations of normalised images
# Beyond these, images are of another scale or data set, whatever was done to them.
_FAR_MEAN = 4.0
_FAR_SPREAD = (0.05, 10.0)
_BYTES = (50.0, 255 * (1 + OVERSHOOT))  # range of the largest value of pixels as bytes


class PixelFit(NamedTuple):
    """How well the statistics of pixels fit those of a data set.

    Attributes:
        near: whether they fit.
        impossible: whether no pixels of that data set have them.
        seen: both statistics as text.
    """

    near: bool
    impossible: bool
    seen: str


def pixel_fit(evidence: Evidence, scale: str, info: DatasetInfo) -> PixelFit:
    """Return how well pixels fit the mean and the deviation of a data set.

    Args:
        evidence: measurements of the images as stored.
        scale: ``pixels 0..1`` or ``pixels 0..255``.
        info: the facts of the data set.
    """
    most = 255 if scale == "pixels 0..255" else 1
    means = [mean / most for mean in evidence.means]
    deviations = [deviation / most for deviation in evidence.deviations]
    apart = [abs(m - i) / s for m, i, s in zip(means, info.mean, info.std, strict=True)]
    spread = [d / s for d, s in zip(deviations, info.std, strict=True)]
    return PixelFit(
        near=max(apart) < NEAR and SPREAD[0] < min(spread) and max(spread) < SPREAD[1],
        impossible=max(apart) > _FAR_MEAN
        or max(spread) < _FAR_SPREAD[0]
        or min(spread) > _FAR_SPREAD[1],
        seen=f"mean/deviation per channel {_shown(means, deviations)}, those of "
        f"{info.name} {_shown(info.mean, info.std)}",
    )


def normalised_with(evidence: Evidence, info: DatasetInfo) -> Guess:
    """Return as a guess that a data set's own statistics normalised the images.

    Statistics of another data set move both the means and the deviations.
    """
    seen = _shown(evidence.means, evidence.deviations)
    near = max(map(abs, evidence.means)) < NEAR and all(
        SPREAD[0] < deviation < SPREAD[1] for deviation in evidence.deviations
    )
    reason = f"mean/deviation per channel {seen}, where its own give about 0/1"
    return Guess(info.name, reason, "likely" if near else "doubtful")


def like_bytes(evidence: Evidence) -> bool:
    """Return whether values lie where resized pixels from 0 to 255 do."""
    return evidence.low >= -OVERSHOOT * 255 and _BYTES[0] < evidence.high <= _BYTES[1]


def not_normalised(evidence: Evidence) -> bool:
    """Return whether values are like bytes and deviate as no normalised images do.

    A single far value leaves the deviation near 1, and such images may be normalised.
    """
    return like_bytes(evidence) and min(evidence.deviations) > _FAR_SPREAD[1]


def _shown(means: Sequence[float], deviations: Sequence[float]) -> str:
    pairs = zip(means, deviations, strict=True)
    return ", ".join(f"{mean:.2f}/{deviation:.2f}" for mean, deviation in pairs)
