"""What the numbers of images tell: their scale, whitening, and smaller images in them.

Measured on images of CIFAR-10 and MNIST and on sets of DC and DATM: normalised images
have a standard deviation of 0.8 to 1.5 in each channel; whitened ones (eps 0.1) 0.2 to
0.6. Where four images lie in one, neighbouring pixels differ 4 to 5 times as much
across the middle as beside it (colour photographs), or at most 0.25 times (digits with
dark margins); in single images 0.85 to 1.4 times.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Scale = Literal["pixels 0..1", "pixels 0..255", "normalised"]
OVERSHOOT = 0.1  # beyond [0, 1]: resizing leaves as much
_LEAST_BYTES = 2.0  # a largest value above it is none of pixels in [0, 1]
_LOW = 0.7  # standard deviation below which images look whitened
_NEAR_ZERO = 0.2  # of the means of whitened images
_ROUGH = 0.75  # correlation of neighbours below it; averaged images are smoother
_SEAM, _VALLEY = 2.0, 0.4  # difference across the middle, beside it 1
_PLAIN = (0.7, 1.6)
_FLAT = 0.1  # of the mean difference: margins beside the middle have less
_SMOOTH = 0.4  # correlation of neighbours; that of noise is 0


class Evidence(NamedTuple):
    """What was measured of images.

    Attributes:
        low: the smallest value.
        high: the largest.
        means: of each channel.
        deviations: of each channel.
        middles: how much neighbours differ across the middle column and the middle
            row, where beside them it is 1; nothing for images too small to tell.
        smoothness: correlation of neighbouring pixels within an image.
    """

    low: float
    high: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    middles: tuple[float, float] | None
    smoothness: float

    @property
    def span(self) -> str:
        """The range, to be read."""
        return f"{self.low:.3g} to {self.high:.3g}"

    @property
    def moments(self) -> str:
        """Mean and deviation over the channels, to be read."""
        count = len(self.means)
        mean, deviation = sum(self.means) / count, sum(self.deviations) / count
        return f"mean {mean:.2f}, deviation {deviation:.2f}"

    @property
    def scale(self) -> Scale:
        """What the range says the values are."""
        if self.low < -OVERSHOOT:
            return "normalised"
        if self.high <= 1 + OVERSHOOT:
            return "pixels 0..1"
        return "pixels 0..255" if self.high > _LEAST_BYTES else "normalised"

    @property
    def whitened(self) -> bool:
        """Whether the values look whitened by ZCA."""
        return (
            self.scale == "normalised"
            and max(self.deviations) < _LOW
            and max(map(abs, self.means)) < _NEAR_ZERO
            and self.smoothness < _ROUGH
        )

    @property
    def seams(self) -> str:
        """What was seen across the middle of the images, to be read."""
        middles = self.middles or (1.0, 1.0)
        if self.partition == 1:
            return "no seam in the middle of its images"
        return f"neighbours differ {middles[0]:.1f}x as much across the middle"

    @property
    def partition(self) -> int | None:
        """Parts along a side by the seams between them: 2, 1, or nothing to tell."""
        if self.middles is None:
            return None
        least, most = min(self.middles), max(self.middles)
        if least > _SEAM or most < _VALLEY:
            return 2
        plain = _PLAIN[0] < least and most < _PLAIN[1]
        return 1 if plain and self.smoothness > _SMOOTH else None


def measure(images: Tensor) -> Evidence:
    """Return what the values of images tell.

    Args:
        images: (n, c, h, w) as stored, float32, finite.
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
    """The differences across the middle column and row, relative to those beside."""
    if images.shape[-1] < 8 or images.shape[-1] % 2:
        return None
    found = []
    for axis in (3, 2):
        steps = images.diff(dim=axis).abs().mean((0, 1, 5 - axis))
        middle = len(steps) // 2
        beside = torch.cat([steps[middle - 2 : middle], steps[middle + 1 :][:2]]).mean()
        scale = torch.maximum(beside, _FLAT * steps.mean())
        found.append(float(steps[middle] / scale) if scale > 0 else 1.0)
    return found[0], found[1]


def _smoothness(images: Tensor) -> float:
    """The correlation of horizontal neighbours within an image; 0 where all is flat."""
    centred = images - images.mean((2, 3), keepdim=True)
    power = centred.square().mean()
    product = (centred[..., 1:] * centred[..., :-1]).mean()
    return float(product / power) if power > 0 else 0.0
