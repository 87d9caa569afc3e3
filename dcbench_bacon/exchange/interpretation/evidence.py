"""Measurements of images: their scale, whitening, and smaller images in them.

The bounds come from images of CIFAR-10 and MNIST and from sets of DC and DATM.
Normalised images have a standard deviation of 0.8 to 1.5 in each channel, whitened ones
(eps 0.1) one of 0.2 to 0.6. Where an image contains four, neighbouring pixels differ 4
to 5 times as much across the middle as beside it (colour photographs), or at most 0.25
times as much (digits with dark margins); in single images 0.85 to 1.4 times.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Scale = Literal["pixels 0..1", "pixels 0..255", "normalised"]
OVERSHOOT = 0.1  # how far resizing may move pixels outside [0, 1]
_LEAST_BYTES = 2.0  # pixels in [0, 1] have no larger value
_LOW = 0.7  # standard deviation below which images look whitened
_NEAR_ZERO = 0.2  # bound on the means of whitened images
_ROUGH = 0.75  # correlation of neighbours below which images look whitened
_SEAM, _VALLEY = 2.0, 0.4  # differences across the middle, relative to those beside it
_PLAIN = (0.7, 1.6)  # range of these differences in single images
_FLAT = 0.1  # least difference beside the middle, relative to the mean difference
_SMOOTH = 0.4  # correlation of neighbours above which images are no noise


class Evidence(NamedTuple):
    """Measurements of images.

    Attributes:
        low: the smallest value.
        high: the largest value.
        means: mean of each channel.
        deviations: standard deviation of each channel.
        middles: differences of neighbours across the middle column and the middle row,
            relative to those beside them; None for images that are too small.
        smoothness: correlation of neighbouring pixels within an image, in [-1, 1].
    """

    low: float
    high: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    middles: tuple[float, float] | None
    smoothness: float

    @property
    def span(self) -> str:
        """Return the range as text."""
        return f"{self.low:.3g} to {self.high:.3g}"

    @property
    def moments(self) -> str:
        """Return mean and deviation over the channels as text."""
        count = len(self.means)
        mean, deviation = sum(self.means) / count, sum(self.deviations) / count
        return f"mean {mean:.2f}, deviation {deviation:.2f}"

    @property
    def scale(self) -> Scale:
        """Return the scale that the range of the values indicates."""
        if self.low < -OVERSHOOT:
            return "normalised"
        if self.high <= 1 + OVERSHOOT:
            return "pixels 0..1"
        return "pixels 0..255" if self.high > _LEAST_BYTES else "normalised"

    @property
    def whitened(self) -> bool:
        """Return whether the values look whitened by ZCA."""
        return (
            self.scale == "normalised"
            and max(self.deviations) < _LOW
            and max(map(abs, self.means)) < _NEAR_ZERO
            and self.smoothness < _ROUGH
        )

    @property
    def seams(self) -> str:
        """Return what is visible across the middle of the images, as text."""
        middles = self.middles or (1.0, 1.0)
        if self.partition == 1:
            return "no seam in the middle of its images"
        return f"neighbours differ {middles[0]:.1f}x as much across the middle"

    @property
    def partition(self) -> int | None:
        """Return the parts along a side by their seams: 2, 1, or None if unclear."""
        if self.middles is None:
            return None
        least, most = min(self.middles), max(self.middles)
        if least > _SEAM or most < _VALLEY:
            return 2
        in_range = _PLAIN[0] < least and most < _PLAIN[1]
        return 1 if in_range and self.smoothness > _SMOOTH else None


def measure(images: Tensor) -> Evidence:
    """Return the measurements of images.

    Args:
        images: the images as stored, (n, c, h, w), float32 and finite.
    """
    deviations, means = torch.std_mean(images.double(), (0, 2, 3), correction=0)
    return Evidence(
        low=float(images.min()),
        high=float(images.max()),
        means=tuple(means.tolist()),
        deviations=tuple(deviations.tolist()),
        middles=_middles(images),
        smoothness=_smoothness(images),
    )


def _middles(images: Tensor) -> tuple[float, float] | None:
    """Return differences across the middle, relative to those beside it."""
    if images.shape[-1] < 8 or images.shape[-1] % 2:
        return None
    middles = []
    for axis in (3, 2):
        steps = images.diff(dim=axis).abs().mean((0, 1, 5 - axis))
        middle = len(steps) // 2
        beside = torch.cat([steps[middle - 2 : middle], steps[middle + 1 :][:2]]).mean()
        scale = torch.maximum(beside, _FLAT * steps.mean())
        middles.append(float(steps[middle] / scale) if scale > 0 else 1.0)
    return middles[0], middles[1]


def _smoothness(images: Tensor) -> float:
    """Return the correlation of horizontal neighbours; 0 for flat images."""
    centred = images - images.mean((2, 3), keepdim=True)
    power = centred.square().mean()
    product = (centred[..., 1:] * centred[..., :-1]).mean()
    return float(product / power) if power > 0 else 0.0
