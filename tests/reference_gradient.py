"""Gradient matching as published, written plainly: one class and one layer at a time.

Draws come from outside, so that both sides see the same.
"""

from collections.abc import Callable, Sequence

import torch
from reference import ClassBatch
from torch import Tensor, nn
from torch.nn import functional as F

TrainingBatches = Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]]
"""Indices of the images of each mini-batch, and how they are augmented."""
Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def layer_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """Of one parameter: one minus the cosine of every row, biases and norms none."""
    total = torch.zeros((), dtype=real.dtype)
    if real.ndim == 1:
        return total
    for row in range(real.shape[0]):
        left, right = real[row].reshape(-1), synthetic[row].reshape(-1)
        cosine = (left * right).sum() / (left.norm() * right.norm() + 0.000001)
        total = total + (1 - cosine)
    return total


def distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Of the gradients of all parameters."""
    return torch.stack(
        [layer_distance(*pair) for pair in zip(real, synthetic, strict=True)]
    ).sum()


def distance_by_rows(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """The same as ``distance``, all rows of a layer at once, as published."""
    total = torch.zeros((), dtype=real[0].dtype)
    for pair in zip(real, synthetic, strict=True):
        if pair[0].ndim > 1:
            left, right = (each.flatten(1) for each in pair)
            norms = left.norm(dim=1) * right.norm(dim=1) + 0.000001
            total = total + (1 - (left * right).sum(1) / norms).sum()
    return total


def class_gradient(
    network: nn.Module, images: Tensor, label: int, *, create_graph: bool
) -> tuple[Tensor, ...]:
    """Of the cross-entropy of one class, for all parameters."""
    labels = torch.full((len(images),), label)
    loss = F.cross_entropy(network(images), labels)
    return torch.autograd.grad(
        loss, list(network.parameters()), create_graph=create_graph
    )


def class_loss(
    network: nn.Module,
    batch: ClassBatch,
    images: Tensor,
    measure: Distance = distance,
) -> Tensor:
    """The distance of one class, differentiable in the synthetic images."""
    real = class_gradient(
        network, batch.augment(batch.real), batch.label, create_graph=False
    )
    synthetic = class_gradient(
        network, batch.augment(images), batch.label, create_graph=True
    )
    return measure([each.detach() for each in real], synthetic)


def update_images(
    network: nn.Module,
    batches: Sequence[ClassBatch],
    images: Tensor,
    optimiser: torch.optim.Optimizer,
    measure: Distance = distance,
) -> list[float]:
    """The losses of all classes summed, then one step."""
    ipc = len(images) // len(batches)
    losses = [
        class_loss(network, batch, images[place * ipc : (place + 1) * ipc], measure)
        for place, batch in enumerate(batches)
    ]
    optimiser.zero_grad()
    torch.autograd.backward(torch.stack(losses).sum())
    optimiser.step()
    return [loss.item() for loss in losses]


def train_network(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    batches: TrainingBatches,
) -> None:
    """Trains on the synthetic images as they stand."""
    for index, augment in batches:
        loss = F.cross_entropy(network(augment(images[index])), labels[index])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()


def freeze_statistics(network: nn.Module, real: Tensor) -> None:
    """Batch norm sees the real images once and is then in evaluation mode."""
    network.train()
    network(real)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
