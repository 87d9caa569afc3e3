"""Class-incremental learning: who arrives when, what is remembered, what is scored."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import dataset
from torch.nn import functional as F

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.evaluation.downstream import continual


def synthetic(classes: int = 5, ipc: int = 3, partition: int = 1) -> SyntheticSet:
    """Images whose pixels are their class, in a mixed order."""
    labels = torch.arange(ipc * classes) * 7 % classes
    images = labels.float().view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return SyntheticSet(images, F.one_hot(labels, classes).float(), partition)


@pytest.mark.parametrize(
    ("classes", "tasks", "sizes"),
    [
        (10, 5, [2, 4, 6, 8, 10]),
        (10, 3, [4, 7, 10]),
        (7, 4, [2, 4, 6, 7]),
        (3, 3, [1, 2, 3]),
        (5, 1, [5]),
    ],
)
def test_classes_arrive_in_groups(classes: int, tasks: int, sizes: list[int]) -> None:
    order = torch.randperm(classes).tolist()
    found = list(continual.stages(order, tasks))
    assert [len(seen) for seen in found] == sizes
    for seen in found:  # none is forgotten, none is out of turn
        assert list(seen) == order[: len(seen)]


@pytest.mark.parametrize("tasks", [0, 6])
def test_as_many_tasks_as_classes_at_most(tasks: int) -> None:
    with pytest.raises(UsageError, match=f"--tasks {tasks}: give a number from 1 to 5"):
        list(continual.stages(range(5), tasks))


def test_orders_are_permutations_of_their_own() -> None:
    found = continual.class_orders("digits", 10, 4)
    assert all(sorted(order) == list(range(10)) for order in found)
    assert len(set(found)) == 4
    assert found == continual.class_orders("digits", 10, 4)
    assert found[:2] == continual.class_orders("digits", 10, 2)
    assert found != continual.class_orders("svhn", 10, 4)


def test_orders_leave_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    continual.class_orders("digits", 10, 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("partition", [1, 2])
def test_memory_holds_the_classes_seen_and_no_other(partition: int) -> None:
    images = synthetic(partition=partition)
    for seen in continual.stages((3, 0, 4, 1, 2), 3):
        found = continual.memory(images, seen)
        labels = found.labels.argmax(1)
        assert set(labels.tolist()) == set(seen)
        assert torch.equal(found.images[:, 0, 0, 0], labels.float())
        assert torch.bincount(labels).max() == 3
        assert len(labels) == 3 * len(seen)
        assert found.partition == partition
        assert torch.equal(found.labels, F.one_hot(labels, 5).float())
    assert torch.equal(found.images, images.images)  # at last, in the set's own order


def test_soft_labels_do_not_speak_of_later_classes() -> None:
    rows = [[0.5, 0.1, 0.4], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7]]
    images = SyntheticSet(torch.zeros(3, 1, 8, 8), torch.tensor(rows))
    found = continual.memory(images, (0, 1))
    expected = torch.tensor([[5 / 6, 1 / 6, 0], [1 / 9, 8 / 9, 0]])
    assert torch.allclose(found.labels, expected)


def test_images_of_classes_not_seen_are_not_scored() -> None:
    test = dataset(classes=4, per_class=5).test
    for seen in ((2,), (2, 0), (2, 0, 3), (2, 0, 3, 1)):
        found = continual.test_images(test, seen)
        kept = [index for index, label in enumerate(test.labels) if label in seen]
        assert torch.equal(found.images, test.images[kept])
        assert torch.equal(found.labels, test.labels[kept])
        assert len(found.labels) == 5 * len(seen)


def test_a_class_without_memory_is_named() -> None:
    images = synthetic()
    names = tuple("abcde")
    path = Path("some.safetensors")
    continual.check_classes(path, images, names)
    kept = images.labels.argmax(1) != 3
    lacking = replace(images, images=images.images[kept], labels=images.labels[kept])
    with pytest.raises(DataError, match=r"some.safetensors: no image of class 'd'"):
        continual.check_classes(path, lacking, names)
