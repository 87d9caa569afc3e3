"""Ask for all that a file leaves open which does not name its data set, at once."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.interpretation.content import Content
from dcbench_bacon.exchange.interpretation.evidence import Evidence, measure
from dcbench_bacon.exchange.interpretation.settling import scale_of
from dcbench_bacon.exchange.interpretation.values import (
    check_shapes,
    labels_of,
    stored_images,
)
from dcbench_bacon.plugins import DATASETS
from dcbench_bacon.schema import DatasetInfo


def questions(path: Path, content: Content, stated: ReadingOptions) -> str:
    """Return the message that asks for all that a file leaves open.

    That is the data set, and whatever of labels, scale and whitening could not be
    guessed with some certainty once the data set is known.

    Args:
        path: the file as the user named it.
        content: the content of the file.
        stated: what the user states about the file, which is no data set.
    """
    fitting = [info for info in _known() if _fits(path, content, info)]
    names = [info.name for info in fitting]
    shape = " x ".join(map(str, content.images[0].shape)) if content.images else "no"
    seen = f"its images are {shape}"
    seen += f", which fits {', '.join(names)}" if names else ", which fits none here"
    asked = {"--dataset NAME": f"{seen}; folder:PATH for images of your own"}
    asked |= dict(_of_labels(content, stated))
    if fitting:
        with suppress(DataError):
            evidence = measure(stored_images(path, content, fitting[0]))
            asked |= dict(_of_values(path, content, stated, evidence))
    width = max(map(len, asked))
    lines = [f"  {option:<{width}}  {why}" for option, why in asked.items()]
    return "\n".join([f"{path} does not state all that it takes; state", *lines])


def _known() -> Iterator[DatasetInfo]:
    """Yield the facts of all data sets that have fixed ones."""
    for name in DATASETS.names():
        if info := getattr(DATASETS.module(name), "INFO", None):
            yield info


def _fits(path: Path, content: Content, info: DatasetInfo) -> bool:
    """Return whether images and labels may be of a data set."""
    try:
        check_shapes(path, content, info)
        labels_of(path, content, info, "softmax")
    except DataError:
        return False
    return True


def _of_labels(content: Content, stated: ReadingOptions) -> Iterator[tuple[str, str]]:
    """Yield the question about rows that are no probabilities."""
    if stated.labels is not None or "labels" in content.says or not content.labels:
        return
    rows = torch.cat([tensor.read() for tensor in content.labels]).to(torch.float32)
    if rows.ndim < 2 or rows.shape[1] == 1:
        return
    off = float((rows.sum(1) - 1).abs().max())
    if off > 1e-3 or rows.min() < 0:
        yield (
            "--labels softmax or hard",
            f"its rows of labels are no probabilities (off by {off:.3g}): softmax if "
            "they are logits, hard for the largest",
        )


def _of_values(
    path: Path, content: Content, stated: ReadingOptions, evidence: Evidence
) -> Iterator[tuple[str, str]]:
    """Yield the questions about scale and whitening."""
    whole = content.images[0].dtype == torch.uint8
    try:
        scale = scale_of(path, stated, content, evidence, whole)
    except DataError:
        unclear = True
    else:
        unclear = scale.doubt == "doubtful"
    seen = f"values {evidence.span}, {evidence.moments}"
    if unclear and stated.pixels is None:
        yield "--pixels or --normalized", seen
    if evidence.whitened and stated.zca is None and "zca" not in content.says:
        yield "--zca or --no-zca", f"{seen}: they look whitened"
