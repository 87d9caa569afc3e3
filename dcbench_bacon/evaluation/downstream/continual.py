"""Class-incremental learning with a synthetic memory.

The task of DM (arXiv:2110.04181, section on continual learning; ``CL_DM.py`` of
VICO-UoE/DatasetCondensation): classes arrive in groups, the memory keeps the distilled
images of each class that has arrived, and at every stage a fresh network is trained on
the memory alone, as in GDumb, and tested on all classes that have arrived. Networks
have an output for every class from the start, as published.

What differs: where the groups cannot be equal they differ by one class, none is left
out; and the memory is cut from a set that was distilled with all classes at hand, where
the authors distil each group when it arrives. That is the same for methods that treat
classes one by one on random networks (DM, selection by class), not for methods whose
networks are trained on all classes (IDM, BACON, MTT).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from dcbench_bacon.data.synthetic import Split, SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.runtime.seeds import stream

Classes = tuple[int, ...]


def class_orders(dataset: str, classes: int, count: int) -> list[Classes]:
    """The orders in which classes arrive, the same for every method.

    Args:
        dataset: its name seeds the stream; the first orders do not depend on ``count``.
        classes: how many there are.
        count: how many orders.
    """
    draws = stream(f"{dataset} continual", "class order")
    return [
        tuple(torch.randperm(classes, generator=draws).tolist()) for _ in range(count)
    ]


def stages(order: Sequence[int], tasks: int) -> Iterator[Classes]:
    """The classes that have arrived after each task.

    Args:
        order: of all classes.
        tasks: groups that arrive one after another; sizes differ by one at most, the
            larger ones first.

    Raises:
        UsageError: there are fewer classes than tasks.
    """
    if not 1 <= tasks <= len(order):
        raise UsageError(f"--tasks {tasks}: {len(order)} classes make 1 to as many")
    size, larger = divmod(len(order), tasks)
    for task in range(1, tasks + 1):
        yield tuple(order[: task * size + min(task, larger)])


def memory(synthetic: SyntheticSet, seen: Sequence[int]) -> SyntheticSet:
    """The images of the classes that have arrived.

    An image belongs to the class of its largest label. What a soft label says of later
    classes is taken away, and the rest is scaled to sum to 1.
    """
    allowed = _members(torch.arange(synthetic.labels.shape[1]), seen)
    allowed = allowed.to(synthetic.labels.device)
    kept = allowed[synthetic.labels.argmax(1)]
    labels = synthetic.labels[kept] * allowed
    return replace(
        synthetic,
        images=synthetic.images[kept],
        labels=labels / labels.sum(1, keepdim=True),
    )


def test_images(test: Split, seen: Sequence[int]) -> Split:
    """The test images of the classes that have arrived."""
    kept = _members(test.labels, seen)
    return Split(test.images[kept], test.labels[kept])


def check_classes(path: Path, synthetic: SyntheticSet, names: Sequence[str]) -> None:
    """Makes sure that the set has an image of every class.

    Raises:
        DataError: a class has none; names it and the file.
    """
    counts = torch.bincount(synthetic.labels.argmax(1), minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=True):
        if not count:
            raise DataError(
                f"{path}: no image of class {name!r}; a memory for continual learning "
                "needs images of every class, so give another set"
            )


def _members(labels: Int64[Tensor, "n"], seen: Sequence[int]) -> Bool[Tensor, "n"]:
    return torch.isin(labels, torch.tensor(seen, device=labels.device))
