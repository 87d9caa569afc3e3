"""Class-incremental learning with a synthetic memory.

The task is DM's (arXiv:2110.04181, section on continual learning; ``CL_DM.py`` of
VICO-UoE/DatasetCondensation). Classes arrive in groups, and the memory keeps the
distilled images of each class that has arrived. At every stage a fresh network is
trained on the memory alone, as in GDumb, and tested on all classes that have arrived.
As published, networks have an output for every class from the start.

Two things differ. Where the groups cannot be equal, their sizes differ by one class, so
that no class is left out. And the memory is cut from a set that was distilled from all
classes, whereas the authors distil each group when it arrives. The result is the same
for methods that treat classes one by one on random networks (DM, selection by class),
but not for methods whose networks are trained on all classes (IDM, BACON, MTT).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.runtime.seeds import stream

Classes = tuple[int, ...]


def class_orders(dataset: str, classes: int, count: int) -> list[Classes]:
    """Return the orders in which classes arrive, the same for every method.

    Args:
        dataset: the name of the data set, which seeds the random stream.
        classes: number of classes.
        count: number of orders; the first orders do not depend on it.
    """
    draws = stream(f"{dataset} continual", "class order")
    return [
        tuple(torch.randperm(classes, generator=draws).tolist()) for _ in range(count)
    ]


def stages(order: Sequence[int], tasks: int) -> Iterator[Classes]:
    """Yield the classes that have arrived after each task.

    Args:
        order: all classes, in the order in which they arrive.
        tasks: number of groups that arrive one after another; their sizes differ by at
            most one class, and the larger groups come first.

    Raises:
        UsageError: there are fewer classes than tasks, or no task.
    """
    if not 1 <= tasks <= len(order):
        raise UsageError(
            f"--tasks {tasks}: give a number from 1 to {len(order)}, the number of "
            "classes"
        )
    size, larger = divmod(len(order), tasks)
    for task in range(1, tasks + 1):
        yield tuple(order[: task * size + min(task, larger)])


def memory(synthetic: SyntheticSet, seen: Sequence[int]) -> SyntheticSet:
    """Return the images of the classes that have arrived.

    An image belongs to the class of its largest label. The part of a soft label that
    belongs to later classes is removed, and the rest is scaled to sum to 1.
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
    """Return the test images of the classes that have arrived."""
    kept = _members(test.labels, seen)
    return test.subset(kept)


def check_classes(path: Path, synthetic: SyntheticSet, names: Sequence[str]) -> None:
    """Make sure that the set has an image of every class.

    Raises:
        DataError: a class has no image; the message names the class and the file.
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
