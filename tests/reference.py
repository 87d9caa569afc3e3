"""The published step, written plainly from the specification: one class at a time.

It is the oracle of the parity tests and the baseline of the benchmarks, so it does what
the published code does, in its order, and nothing slower: a graph for the real forward,
two synthetic forwards where there is a cross-entropy, augmentation matrices for every
image, an optimiser step a class. Draws come from outside, so that both sides see the
same.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcbench_bacon.networks.base import Network

Augment = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def augment(images: Tensor, operation: str, values: list[float]) -> Tensor:
    """One siamese operation on a batch, with a row of parameters for every image."""
    rows = torch.tensor(values, dtype=images.dtype).repeat(len(images), 1).unbind(1)
    return operate(images, operation, list(rows))


def operate(images: Tensor, operation: str, rows: list[Tensor]) -> Tensor:
    """One operation with parameters of its own for every image."""
    return _OPERATIONS[operation](images, *rows[: _PARAMETERS[operation]])


def _flip(images: Tensor, flag: Tensor) -> Tensor:
    return torch.where(flag.bool()[:, None, None, None], images.flip(3), images)


def _affine(images: Tensor, theta: list[list[Tensor]]) -> Tensor:
    matrices = torch.stack([torch.stack(row) for row in theta]).permute(2, 0, 1)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _scale(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    none = torch.zeros_like(x)
    return _affine(images, [[x, none, none], [none, y, none]])


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    angle = degrees * math.pi / 180
    none = torch.zeros_like(angle)
    cosine, sine = angle.cos(), angle.sin()
    return _affine(images, [[cosine, -sine, none], [sine, cosine, none]])


def _crop(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    count, _, height, width = images.shape
    batch, rows, columns = torch.meshgrid(
        torch.arange(count), torch.arange(height), torch.arange(width), indexing="ij"
    )
    rows = (rows + down.long()[:, None, None] + 1).clamp(0, height + 1)
    columns = (columns + right.long()[:, None, None] + 1).clamp(0, width + 1)
    padded = F.pad(images, [1, 1, 1, 1]).permute(0, 2, 3, 1)
    return padded[batch, rows, columns].permute(0, 3, 1, 2)


def _cutout(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    count, _, height, width = images.shape
    side_y, side_x = int(0.5 * height + 0.5), int(0.5 * width + 0.5)
    batch, rows, columns = torch.meshgrid(
        torch.arange(count), torch.arange(side_y), torch.arange(side_x), indexing="ij"
    )
    rows = (rows + row.long()[:, None, None] - side_y // 2).clamp(0, height - 1)
    columns = columns + column.long()[:, None, None] - side_x // 2
    mask = torch.ones(count, height, width, dtype=images.dtype)
    mask[batch, rows, columns.clamp(0, width - 1)] = 0
    return images * mask[:, None]


def _color(
    images: Tensor, bright: Tensor, saturate: Tensor, contrast: Tensor
) -> Tensor:
    def column(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    images = images + (column(bright) - 0.5)
    mean = images.mean(1, keepdim=True)
    images = (images - mean) * (column(saturate) * 2) + mean
    mean = images.mean([1, 2, 3], keepdim=True)
    return (images - mean) * (column(contrast) + 0.5) + mean


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
    "crop": _crop,
    "cutout": _cutout,
    "color": _color,
}
_PARAMETERS = {"flip": 1, "scale": 2, "rotate": 1, "crop": 2, "cutout": 2, "color": 3}


def decode(images: Tensor) -> Tensor:
    """The four quadrants, enlarged: TL, BL, TR, BR of all images."""
    half = images.shape[2] // 2
    quadrants = [
        images[:, :, :half, :half],
        images[:, :, half:, :half],
        images[:, :, :half, half:],
        images[:, :, half:, half:],
    ]
    return F.interpolate(torch.cat(quadrants), scale_factor=2, mode="bilinear")


def squared_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """DM's and IDM's loss of one class."""
    return ((real.mean(0) - synthetic.mean(0)) ** 2).sum()


def negative_log_likelihood(real: Tensor, synthetic: Tensor) -> Tensor:
    """BACON's first term as torch.distributions gives it."""
    gaussian = torch.distributions.Normal(real.mean(0), torch.exp(real.std(0)))
    likelihood: Tensor = gaussian.log_prob(synthetic.mean(0))  # type: ignore[no-untyped-call]
    return -likelihood.sum()


def total_variation(real: Tensor, synthetic: Tensor) -> Tensor:
    """BACON's second term."""
    return 0.5 * (synthetic.mean(0) - real.mean(0)).abs().sum()


def clip(real: Tensor, synthetic: Tensor) -> Tensor:
    """BACON's third term as released, on means of softmax vectors."""
    ours, theirs = synthetic.mean(0).softmax(0), real.mean(0).softmax(0)
    ratio = (ours.mean() - theirs.mean()) / theirs.std()
    return (ratio - ratio.clamp(0, 1)) ** 2


def bacon(real: Tensor, synthetic: Tensor) -> Tensor:
    """BACON's matching loss as released."""
    return (
        negative_log_likelihood(real, synthetic)
        + 0.8 * total_variation(real, synthetic)
        + 0.2 * clip(real, synthetic)
    )


@dataclass
class ClassBatch:
    """What one class sees in one iteration."""

    real: Tensor
    augment: Augment
    label: int


def class_loss(
    network: Network,
    batch: ClassBatch,
    images: Tensor,
    loss: Loss,
    weight: float | None,
    *,
    partition: bool,
) -> Tensor:
    """The loss of one class in IDM's code: features, then logits in a second pass."""
    decoded = decode(images) if partition else images
    real, synthetic = batch.augment(batch.real), batch.augment(decoded)
    real_features = network.embed(real).detach()  # the graph is built all the same
    value = loss(real_features, network.embed(synthetic))
    if weight is None:
        return value
    labels = torch.full((len(synthetic),), batch.label)
    return value + weight * F.cross_entropy(network(synthetic), labels)


def idm_iteration(
    network: Network,
    batches: list[ClassBatch],
    images: Tensor,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    weight: float,
) -> list[float]:
    """One iteration of IDM's or BACON's loop: a step of the whole tensor a class."""
    ipc = len(images) // len(batches)
    values = []
    for position, batch in enumerate(batches):
        own = images[position * ipc : (position + 1) * ipc]
        value = class_loss(network, batch, own, loss, weight, partition=True)
        optimiser.zero_grad()
        torch.autograd.backward(value)
        optimiser.step()
        values.append(value.item())
    return values


def dm_iteration(
    network: Network,
    batches: list[ClassBatch],
    images: Tensor,
    optimiser: torch.optim.Optimizer,
    loss: Loss = squared_distance,
) -> float:
    """One iteration of DM's loop: the losses summed, then one step."""
    ipc = len(images) // len(batches)
    total = torch.zeros(())
    for position, batch in enumerate(batches):
        own = images[position * ipc : (position + 1) * ipc]
        total = total + class_loss(network, batch, own, loss, None, partition=False)
    optimiser.zero_grad()
    torch.autograd.backward(total)
    optimiser.step()
    return total.item()


def train_network(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: list[tuple[Tensor, Tensor]],
) -> float:
    """Trains a queue's network on real mini-batches; returns its accuracy."""
    correct = seen = 0
    for images, labels in batches:
        logits = network(images)
        value = F.cross_entropy(logits, labels)
        optimiser.zero_grad()
        torch.autograd.backward(value)
        optimiser.step()
        correct += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return correct / seen
