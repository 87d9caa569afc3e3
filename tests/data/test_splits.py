"""Splits of every kind answer alike."""

import re
from pathlib import Path

import pytest
import torch
from support import dataset

from dcbench_bacon.data.dataset import normalize
from dcbench_bacon.data.splits import Feed, MappedSplit, ResidentSplit, Split
from dcbench_bacon.training.task import enlarge

SOURCE = dataset(channels=3)
TRAIN = SOURCE.train
MAPPED = MappedSplit(TRAIN.images, TRAIN.labels, SOURCE.info)


@pytest.mark.parametrize("split", [TRAIN, MAPPED], ids=["resident", "mapped"])
def test_a_split_gives_the_normalised_images(split: Split) -> None:
    index = torch.tensor([[5, 0], [7, 5]])
    expected = normalize(TRAIN.images[index.flatten()], SOURCE.info)
    assert torch.equal(split.take(index), torch.unflatten(expected, 0, (2, 2)))
    assert split.shape == (36, 3, 8, 8)
    whole = normalize(TRAIN.images, SOURCE.info)
    assert torch.equal(split.whole(), whole)
    order = torch.arange(36).flip(0)[:10]
    images, labels = zip(*split.batches(4, order), strict=True)
    assert [len(piece) for piece in labels] == [4, 4, 2]
    assert torch.equal(torch.cat(images), whole[order])
    assert torch.equal(torch.cat(labels), TRAIN.labels[order])
    images, labels = zip(*split.batches(16), strict=True)
    assert torch.equal(torch.cat(images), whole)
    assert torch.equal(torch.cat(labels), TRAIN.labels)
    mask = TRAIN.labels == 1
    assert torch.equal(split.subset(mask).whole(), whole[mask])
    assert torch.equal(enlarge(split, 9).whole(), enlarge(TRAIN, 9).whole())
    assert split.sha256("x") == TRAIN.sha256("x") != TRAIN.sha256()
    assert type(split.resident()) is ResidentSplit


def test_a_feed_gives_the_batches_of_a_pass_from_any_on() -> None:
    first, second = torch.arange(36), torch.arange(36).flip(0)
    feed = Feed(TRAIN, 10)
    for number, order in (
        (0, first),
        (1, first),
        (0, second),
        (2, second),
        (3, second),
    ):
        wanted = order[number * 10 : number * 10 + 10]
        images, labels = feed.batch(number, order)
        assert torch.equal(labels, TRAIN.labels[wanted])
        assert torch.equal(images, TRAIN.take(wanted))


def test_only_data_knows_where_the_images_of_a_split_are() -> None:
    root = Path(__file__).parent.parent.parent
    reads = re.compile(r"\b(train|test|validation|split|held_out|rest)\.images\b")
    for folder in ("dcbench_bacon", "methods", "datasets"):
        for path in (root / folder).rglob("*.py"):
            if (root / "dcbench_bacon" / "data") in path.parents:
                continue
            found = reads.search(path.read_text(encoding="utf-8"))
            assert not found or path.parent.name == "datasets", (path, found)
