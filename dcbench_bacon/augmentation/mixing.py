"""Mixup and CutMix for many batches at once; labels are mixed as the images are.

Mixup (Zhang et al., arXiv:1710.09412) adds two images by shares, CutMix (Yun et al.,
arXiv:1905.04899) pastes a box of one into the other. Both have one share, one box and
one permutation a batch, as in the authors' code and in that of SRe2L, RDED and EDC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from scipy.special import betaincinv
from torch import Tensor

from dcbench_bacon.field_types import MixingKind
from dcbench_bacon.runtime.memory import send


@dataclass(frozen=True)
class Mix:
    """What was drawn for each batch, on the CPU.

    Attributes:
        kept: the share of each pixel that stays the image's own.
        partners: the index in the batch of the image that gives the rest.
    """

    kept: Float32[Tensor, "g h w"]
    partners: Int64[Tensor, "g n"]

    @staticmethod
    def cat(mixes: "Sequence[Mix]") -> "Mix":
        """The draws one after another."""
        kept = torch.cat([mix.kept for mix in mixes])
        return Mix(kept, torch.cat([mix.partners for mix in mixes]))

    def images(self, images: Float[Tensor, "g n c h w"]) -> Tensor:
        """Mixes each image with its partner."""
        kept = send(self.kept[:, None, None], images.device)
        return torch.lerp(self._others(images), images, kept)

    def labels(self, labels: Float[Tensor, "g n k"]) -> Float[Tensor, "g n k"]:
        """Mixes the labels by the share of pixels that each image kept."""
        share = send(self.kept.mean((1, 2))[:, None, None], labels.device)
        return torch.lerp(self._others(labels), labels, share)

    def _others(self, rows: Tensor) -> Tensor:
        """The partner's entry of each row."""
        partners = send(self.partners, rows.device)
        batches = torch.arange(len(rows), device=rows.device)[:, None]
        return rows[batches, partners]


class Mixer:
    """Draws how a batch is mixed.

    Args:
        kind: ``mixup`` or ``cutmix``.
        alpha: the share kept follows Beta(alpha, alpha).
        size: height and width of the images.
    """

    def __init__(self, kind: MixingKind, alpha: float, size: int) -> None:
        """Keeps the law."""
        self.kind = kind
        self.alpha = alpha
        self.size = size

    def draw(self, count: int, generator: torch.Generator) -> Mix:
        """Draws for one batch.

        Args:
            count: images of the batch.
            generator: on the CPU, so that no device is waited for.
        """
        uniforms = torch.rand(3, generator=generator, device="cpu").tolist()
        share = float(betaincinv(self.alpha, self.alpha, uniforms[0]))
        if self.kind == "cutmix":
            kept = _outside_box(self.size, share, uniforms[1], uniforms[2])
        else:
            kept = torch.full((self.size, self.size), share)
        partners = torch.randperm(count, generator=generator, device="cpu")
        return Mix(kept[None], partners[None])


def _outside_box(
    size: int, share: float, row: float, column: float
) -> Float32[Tensor, "size size"]:
    """1 outside a box of the area ``1 - share``, which is cut off at the border.

    Args:
        size: height and width.
        share: of the area, outside the box.
        row: of the centre, in [0, 1).
        column: of the centre, in [0, 1).
    """
    half = int(size * (1 - share) ** 0.5) // 2
    kept = torch.ones(size, size)
    top, left = int(row * size), int(column * size)
    rows = slice(max(0, top - half), top + half)
    kept[rows, max(0, left - half) : left + half] = 0
    return kept
