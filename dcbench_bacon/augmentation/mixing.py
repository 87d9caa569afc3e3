"""Mixup and CutMix for many batches at once; labels are mixed like the images.

Mixup (Zhang et al., arXiv:1710.09412) is a weighted mean of two images. CutMix (Yun et
al., arXiv:1905.04899) pastes a box of one image into the other. Both draw one share,
one box and one permutation per batch, as in the authors' code and in that of SRe2L,
RDED and EDC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from dcbench_bacon.field_types import MixingKind
from dcbench_bacon.runtime.compute.memory import send


@dataclass(frozen=True)
class Mix:
    """The numbers drawn for each batch, on the CPU.

    Attributes:
        kept: the share, in [0, 1], of each pixel that comes from the image itself.
        partners: the index in the batch of the image that the rest comes from.
    """

    kept: Float32[Tensor, "g h w"]
    partners: Int64[Tensor, "g n"]

    @staticmethod
    def cat(mixes: "Sequence[Mix]") -> "Mix":
        """Return the draws joined along the batches."""
        kept = torch.cat([mix.kept for mix in mixes])
        return Mix(kept, torch.cat([mix.partners for mix in mixes]))

    def images(self, images: Float[Tensor, "g n c h w"]) -> Tensor:
        """Return the images, each mixed with its partner."""
        kept = send(self.kept[:, None, None], images.device)
        return torch.lerp(self._others(images), images, kept)

    def labels(self, labels: Float[Tensor, "g n k"]) -> Float[Tensor, "g n k"]:
        """Return the labels mixed by the share of pixels that each image keeps."""
        share = send(self.kept.mean((1, 2))[:, None, None], labels.device)
        return torch.lerp(self._others(labels), labels, share)

    def _others(self, rows: Tensor) -> Tensor:
        """Return the partner of each row."""
        partners = send(self.partners, rows.device)
        batches = torch.arange(len(rows), device=rows.device)[:, None]
        return rows[batches, partners]


class Mixer:
    """A source of draws for Mixup or CutMix.

    Args:
        kind: ``mixup`` or ``cutmix``.
        alpha: the share that is kept follows Beta(alpha, alpha).
        size: the height and width of the images in pixels.
    """

    def __init__(self, kind: MixingKind, alpha: float, size: int) -> None:
        """Keep the parameters."""
        self.kind = kind
        self.alpha = alpha
        self.size = size

    def draw(self, count: int, generator: torch.Generator) -> Mix:
        """Return a draw for one batch.

        Args:
            count: the number of images in the batch.
            generator: a generator on the CPU, so that no device has to be waited for.
        """
        uniforms = torch.rand(3, generator=generator, device="cpu").tolist()
        share = _share(self.alpha, uniforms[0])
        if self.kind == "cutmix":
            kept = _outside_box(self.size, share, uniforms[1], uniforms[2])
        else:
            kept = torch.full((self.size, self.size), share)
        partners = torch.randperm(count, generator=generator, device="cpu")
        return Mix(kept[None], partners[None])


def _share(alpha: float, uniform: float) -> float:
    """Return the number below which Beta(alpha, alpha) is with a probability."""
    if alpha == 1:
        return uniform
    from scipy.special import betaincinv  # only here, where the law is not uniform

    return float(betaincinv(alpha, alpha, uniform))


def _outside_box(
    size: int, share: float, row: float, column: float
) -> Float32[Tensor, "size size"]:
    """Return a map of 1 outside a box and 0 inside; the border cuts the box off.

    Args:
        size: the height and width of the map in pixels.
        share: the share of the area outside the whole box, in [0, 1].
        row: the row of the box's centre as a share of the height, in [0, 1).
        column: the column of the box's centre as a share of the width, in [0, 1).
    """
    half = int(size * (1 - share) ** 0.5) // 2
    kept = torch.ones(size, size)
    top, left = int(row * size), int(column * size)
    rows = slice(max(0, top - half), top + half)
    kept[rows, max(0, left - half) : left + half] = 0
    return kept
