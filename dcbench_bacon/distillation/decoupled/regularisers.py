"""The terms of the recovery's loss besides labels and statistics."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "n c h w"]
Scalar = Float[Tensor, ""]
POOLED = 32  # most pixels along a side of the images whose spectrum is flattened


def total_variation(images: Images) -> Scalar:
    """Return the norms of neighbours' differences along four directions, summed.

    The directions are the horizontal, the vertical and both diagonals. Each norm is of
    all differences of the batch and is not averaged (SRe2L).
    """
    across = images[..., :, 1:] - images[..., :, :-1]
    down = images[..., 1:, :] - images[..., :-1, :]
    falling = images[..., 1:, 1:] - images[..., :-1, :-1]
    rising = images[..., 1:, :-1] - images[..., :-1, 1:]
    norms = [
        torch.linalg.vector_norm(differences)
        for differences in (across, down, falling, rising)
    ]
    return torch.stack(norms).sum()


def mean_norm(images: Images) -> Scalar:
    """Return the mean norm of the images of a batch (SRe2L)."""
    norms: Tensor = torch.linalg.vector_norm(images.flatten(1), dim=1)
    return norms.mean()


def density(images: Images, counts: tuple[int, ...], temperature: float) -> Scalar:
    """Return the divergence of each class's spectrum from a flatter one (G-VBSM).

    The spectrum of a class is the eigenvalues of the Gram matrix of its images, which
    are averaged to at most 32 pixels a side. The term is the sum over classes of
    KL(softmax(e / T) || softmax(e)), of which the first is constant. It is 0 for a
    class of one image.

    Args:
        images: the images of a batch, class by class.
        counts: the number of images of each class, in the same order.
        temperature: T.
    """
    side = min(POOLED, images.shape[-1])
    rows = F.adaptive_avg_pool2d(images, side).flatten(1)
    total = rows.new_zeros(())
    starts = torch.tensor((0, *counts)).cumsum(0).tolist()
    for count in sorted(set(counts)):  # few, because blocks divide classes evenly
        if count == 1:
            continue
        same = [
            rows[start : start + count]
            for start, size in zip(starts, counts, strict=False)
            if size == count
        ]
        stacked = torch.stack(same)
        values = torch.linalg.eigvalsh(stacked @ stacked.transpose(1, 2))
        flatter = (values.detach() / temperature).softmax(1)
        logs = values.log_softmax(1)
        total = total + F.kl_div(logs, flatter, reduction="sum")
    return total


def flatness(
    logits: Float[Tensor, "n k"],
    average: Float[Tensor, "n k"],
    temperature: float,
    reversed_: bool = False,
) -> Scalar:
    """Return the divergence of predictions from those for averaged images (EDC).

    Args:
        logits: the observer's logits for the images.
        average: the observer's logits for the moving average of the images.
        temperature: the number that divides both.
        reversed_: whether the divergence is KL(average || images) instead of
            KL(images || average).
    """
    ours, averaged = (
        (values / temperature).log_softmax(1) for values in (logits, average.detach())
    )
    first, second = (averaged, ours) if reversed_ else (ours, averaged)
    return F.kl_div(second, first, reduction="batchmean", log_target=True)
