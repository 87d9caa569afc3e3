"""The content of a file beside a data set, and all that the user is asked about it.

Whatever a file leaves open is asked in one message: what no guess can stand in for, and
what would be taken without an answer although it is doubtful.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dcbench_bacon.errors import DataError, Question, UnstatedError, UsageError
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.image_folder import ImageFiles
from dcbench_bacon.exchange.interpretation.channel_statistics import normalised_with
from dcbench_bacon.exchange.interpretation.content import Content, Guess
from dcbench_bacon.exchange.interpretation.evidence import Evidence, measure
from dcbench_bacon.exchange.interpretation.settling import OPTIONS, Reading, settle
from dcbench_bacon.exchange.interpretation.values import (
    Labels,
    check_shapes,
    labels_of,
    noted,
    stored_images,
)
from dcbench_bacon.exchange.pickles.archives import damaged
from dcbench_bacon.field_types import MOST_PARTS
from dcbench_bacon.plugins import DATASETS
from dcbench_bacon.schema import DatasetInfo

_CHOICES = {
    "format": "--from FORMAT",
    "partition": "--partition N",
    "statistics": "--statistics NAME",
    "learning_rate": "--learned-rate RATE",
    "classes": "--classes NAMES",
}


class Interpretation(NamedTuple):
    """The content of a file beside the facts of a data set.

    Attributes:
        images: the images as they are stored.
        evidence: measurements of them.
        reading: how the file is read.
        labels: the labels; None if the user must state something about them.
        asked: what the user must state.
    """

    images: Tensor
    evidence: Evidence
    reading: Reading
    labels: Labels | None
    asked: tuple[Question, ...]

    @property
    def doubtful(self) -> list[Question]:
        """Return what is taken without an answer, but is doubtful."""
        guesses = self.reading.guesses.items()
        return [
            _of_guess(k, guess) for k, guess in guesses if guess.doubt == "doubtful"
        ]


def interpret(
    path: Path, content: Content, stated: ReadingOptions, info: DatasetInfo
) -> Interpretation:
    """Return the content of a file beside the facts of a data set.

    Args:
        path: the file as the user named it.
        content: the content of the file.
        stated: what the user states about the file.
        info: the facts of the data set.

    Raises:
        DataError: the content is no set of that data set.
        UsageError: an option does not fit.
    """
    members = tuple(
        member.in_channels(info.channels) if isinstance(member, ImageFiles) else member
        for member in content.images
    )
    content = replace(content, images=members)
    check_shapes(path, content, info)
    with damaged(path):
        images = stored_images(path, content, info)
    evidence = measure(images)
    whole = members[0].dtype == torch.uint8
    reading = settle(path, stated, content, evidence, info, whole)
    if reading.scale == "normalised" and reading.settled["statistics"] is None:
        reading.guesses["statistics"] = normalised_with(evidence, info)
    asked = [*reading.asked, *_of_parts(path, reading, info)]
    if stated.needs_rate and reading.settled["learning_rate"] is None:
        reading.guesses.pop("learning_rate", None)
        why = "networks are to train at the rate that was learned, and it has none"
        asked.append(Question(_CHOICES["learning_rate"], why, "--learned-rate RATE"))
    labels = None
    with damaged(path), noted(asked):
        use, order = reading.settled["labels"], stated.classes or ()
        labels = labels_of(path, content, info, use, order)
    return Interpretation(images, evidence, reading, labels, tuple(asked))


def _of_parts(path: Path, reading: Reading, info: DatasetInfo) -> Iterator[Question]:
    """Yield the question about a number of parts that is guessed and cannot be.

    Raises:
        UsageError: the user or the file states it, and it cannot be.
    """
    parts = int(reading.settled["partition"])
    if 1 <= parts <= MOST_PARTS and info.size % parts == 0:
        return
    bound = f"it must divide the {info.size} pixels of a side and be at most"
    guess = reading.guesses.pop("partition", None)
    if guess is None or guess.doubt == "certain":
        raise UsageError(f"{path}: --partition {parts}: {bound} {MOST_PARTS}")
    why = f"{parts} parts along a side were expected, but {bound} {MOST_PARTS}"
    yield Question(_CHOICES["partition"], why, "--partition 1")


def _of_guess(key: str, guess: Guess) -> Question:
    """Return a doubtful guess as a question, with its value as the answer."""
    value = guess.value
    answers = {
        "pixels": "--pixels" if str(value).startswith("pixels") else "--normalized",
        "zca": "--zca" if value else "--no-zca",
        "classes": "--classes order",
    }
    answer = answers.get(key, f"{OPTIONS[key]} {value}") if value is not None else ""
    option = _CHOICES.get(key, OPTIONS[key])
    return Question(option, guess.reason, answer, taken=answer or "none")


def _given(stated: ReadingOptions, asked: Sequence[Question]) -> list[str]:
    """Return the words of what the user has stated and is not asked again."""
    flags = {
        ("zca", True): "--zca",
        ("zca", False): "--no-zca",
        ("pixels", True): "--pixels",
        ("pixels", False): "--normalized",
    }
    words = []
    for key, option in OPTIONS.items():
        value = getattr(stated, key)
        text = ",".join(value) if key == "classes" and value else value
        again = any(question.option.startswith(option) for question in asked)
        if value is not None and not again:
            words.append(
                flags.get((key, value)) or f"{option} {shlex.quote(f'{text}')}"
            )
    return words


def ask(path: Path, told: Interpretation, stated: ReadingOptions) -> UnstatedError:
    """Return the error that asks for all that is open beside a known data set."""
    return UnstatedError(path, told.asked, told.doubtful, _given(stated, told.asked))


def unnamed(path: Path, content: Content, stated: ReadingOptions) -> UnstatedError:
    """Return the error that asks for the data set and for all else that is open.

    What else is open is found with the first data set that the content fits, or with
    facts that the content itself shows if there is none.

    Args:
        path: the file as the user named it.
        content: the content of the file.
        stated: what the user states about the file, which is no data set.
    """
    fitting = list(_fitting(path, content, stated))
    # Class names or values may leave some out that have the right shape.
    counts = [len(interpretation.asked) for _, interpretation in fitting]
    fewest = min(counts, default=0)
    fitting = [
        pair for pair, count in zip(fitting, counts, strict=True) if count == fewest
    ]
    names = [info.name for info, _ in fitting]
    shape = " x ".join(map(str, content.images[0].shape)) if content.images else "no"
    seen = f"its images are {shape}"
    seen += f", which fits {', '.join(names)}" if names else ", which fits none here"
    dataset = Question(
        f"{OPTIONS['dataset']} NAME",
        f"{seen}; folder:PATH for images of your own",
        f"{OPTIONS['dataset']} {names[0] if names else 'folder:PATH'}",
    )
    interpretation = fitting[0][1] if fitting else _by_itself(path, content, stated)
    if interpretation and len(fitting) != 1:
        # They would be those of one of several data sets.
        interpretation.reading.guesses.pop("statistics", None)
    asked = interpretation.asked if interpretation else ()
    doubtful = interpretation.doubtful if interpretation else ()
    return UnstatedError(path, [dataset, *asked], doubtful, _given(stated, asked))


def _fitting(
    path: Path, content: Content, stated: ReadingOptions
) -> Iterator[tuple[DatasetInfo, Interpretation]]:
    """Yield all data sets with fixed facts that the content may be of."""
    for name in DATASETS.names():
        if info := getattr(DATASETS.module(name), "INFO", None):
            with suppress(DataError, UsageError):
                yield info, interpret(path, content, stated, info)


def _by_itself(
    path: Path, content: Content, stated: ReadingOptions
) -> Interpretation | None:
    """Return the content beside facts that it shows; None if it shows too few."""
    shape = tuple(content.images[0].shape) if content.images else ()
    if len(shape) != 4 or shape[2] != shape[3]:
        return None
    channels, size = shape[1:3]
    names = content.class_names
    with suppress(DataError, UsageError):
        if not names and content.labels:
            labels = torch.cat([tensor.read() for tensor in content.labels])
            columns = labels.shape[1] if labels.ndim == 2 else 1
            count = columns if columns > 1 else int(labels.max()) + 1
            names = tuple(map(str, range(count)))
        info = DatasetInfo(
            name="photographs",
            title="",
            classes=len(names) or 1,
            channels=channels,
            size=size,
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
            class_names=names or ("0",),
        )
        return interpret(path, content, stated, info)
    return None
