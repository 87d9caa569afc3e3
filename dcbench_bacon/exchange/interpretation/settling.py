"""The meaning of a foreign file, settled from options, format, names and values.

What the user states counts first, then what the file or its format states, then what
its name and its values indicate. Whatever the values contradict is refused.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcbench_bacon.errors import DataError, Question
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.interpretation.channel_statistics import (
    SPREAD,
    like_bytes,
    not_normalised,
    pixel_fit,
)
from dcbench_bacon.exchange.interpretation.content import Content, Doubt, Guess
from dcbench_bacon.exchange.interpretation.evidence import OVERSHOOT, Evidence
from dcbench_bacon.schema import DatasetInfo

SCALES = ("normalised", "pixels 0..1", "pixels 0..255", "whitened")
OPTIONS = {
    "format": "--from",
    "dataset": "--dataset",
    "index": "--index",
    "partition": "--partition",
    "zca": "--zca or --no-zca",
    "pixels": "--pixels or --normalized",
    "statistics": "--statistics",
    "labels": "--labels",
    "learning_rate": "--learned-rate",
    "classes": "--classes",
}
_ZCA = re.compile("(no[_-]?)?zca")
_BRIGHTEST = 256.0  # bound of pixels from 0 to 255


@dataclass
class Reading:
    """How a file is read, and which parts of that were guessed.

    Attributes:
        settled: the settled values by the names of ``ReadingOptions``.
        scale: the scale of the images, one of ``SCALES``.
        guesses: the values that the user did not state.
        notes: further lines for the user.
        asked: what the user must state, because no guess is possible.
    """

    settled: dict[str, Any]
    scale: str
    guesses: dict[str, Guess]
    notes: list[str]
    asked: list[Question] = field(default_factory=list)


def nearby_names(path: Path) -> tuple[str, ...]:
    """Return the names of a file and of the two folders above it."""
    absolute = path.absolute()
    return absolute.name, absolute.parent.name, absolute.parent.parent.name


def settle(
    path: Path,
    stated: ReadingOptions,
    content: Content,
    evidence: Evidence,
    info: DatasetInfo,
    whole: bool,
) -> Reading:
    """Return how a file is read.

    Args:
        path: the file as the user named it.
        stated: what the user states about the file.
        content: the content of the file, with the guesses of its format.
        evidence: measurements of its images.
        info: the facts of the data set.
        whole: whether its images are bytes.

    Raises:
        DataError: the values contradict the format or the user; the message names
            their range.
    """
    said = dict(content.says)
    given = {key: getattr(stated, key) for key in OPTIONS}
    said |= {key: value for key, value in given.items() if value is not None}
    guesses = {key: g for key, g in content.guesses.items() if key not in said}
    guesses |= {
        key: Guess(value, "the format states it", "certain")
        for key, value in content.says.items()
        if given.get(key) is None
    }
    reading = Reading({}, "", guesses, list(content.notes))
    scale = scale_of(path, stated, content, evidence, whole)
    if stated.pixels is None:
        doubt = "certain" if "pixels" in content.says else scale.doubt
        guesses["pixels"] = scale._replace(doubt=doubt)
    reading.scale = str(scale.value)
    sure = said.get("pixels") is not None or whole
    _compare_pixels(reading, evidence, info, sure=sure)
    _settle_whitening(path, said, reading, evidence)
    if "partition" not in said:
        guesses["partition"] = _partition(guesses["partition"], stated, evidence)
    defaults = {"statistics": None, "labels": "stored", "learning_rate": None}
    guessed = {key: guess.value for key, guess in guesses.items()}
    reading.settled = defaults | guessed | said
    return reading


def scale_of(
    path: Path,
    stated: ReadingOptions,
    content: Content,
    evidence: Evidence,
    whole: bool,
) -> Guess:
    """Return the scale of the images, whitening apart.

    Raises:
        DataError: the values contradict the format or the user.
    """
    seen = f"values {evidence.span}, {evidence.moments}"
    if whole:
        if stated.pixels is False:
            raise DataError(f"{path}: its images are bytes; leave out --normalized")
        return Guess("pixels 0..255", "its images are bytes", "certain")
    pixels = stated.pixels if stated.pixels is not None else content.says.get("pixels")
    if stated.pixels is False and evidence.low < 0 and not_normalised(evidence):
        raise DataError(
            f"{path}: {seen}, which no normalised images have, although --normalized "
            "states it; leave out --normalized, and if they are pixels, clip them to 0 "
            "to 255 before you save them"
        )
    far = like_bytes(evidence) and evidence.scale == "normalised"
    if far and pixels is not False:
        raise DataError(
            f"{path}: {seen}, which neither normalised images nor pixels have; clip "
            "pixels to 0 to 255 before you save them, or name the right format with "
            "--from"
        )
    if pixels is None:
        least, most = min(evidence.deviations), max(evidence.deviations)
        normal = SPREAD[0] < least and most < SPREAD[1]
        sure = normal if evidence.scale == "normalised" else True
        return Guess(evidence.scale, seen, "likely" if sure else "doubtful")
    if not pixels:
        if evidence.low >= 0:  # normalised pixels lie on both sides of the mean
            raise DataError(
                f"{path}: {seen}, which no normalised images have; if they are pixels, "
                "state that with --pixels"
            )
        return Guess("normalised", seen)
    by_user = stated.pixels is not None
    beyond = OVERSHOOT if by_user else content.beyond
    if evidence.low >= -beyond and evidence.high <= 1 + beyond:
        return Guess("pixels 0..1", seen)
    if by_user and evidence.scale == "pixels 0..255" and evidence.high < _BRIGHTEST:
        return Guess("pixels 0..255", seen)
    who = "--pixels states" if by_user else "its format states"
    remedy = "leave out --pixels" if by_user else "name another format with --from"
    raise DataError(
        f"{path}: pixels from {evidence.low:.3g} to {evidence.high:.3g}, not in [0, 1]"
        f"{' or 0 to 255' if by_user else ''} as {who}; if the images are normalised, "
        f"state that with --normalized, or {remedy}"
    )


def _compare_pixels(
    reading: Reading, evidence: Evidence, info: DatasetInfo, *, sure: bool
) -> None:
    """Add to the evidence how well pixels fit the data set's mean and deviation.

    Args:
        reading: the reading so far.
        evidence: measurements of the images.
        info: the facts of the data set.
        sure: whether the user, the format or the type of the images states pixels;
            otherwise the user is asked if no pixels of the data set are so.
    """
    if not reading.scale.startswith("pixels"):
        return
    fit = pixel_fit(evidence, reading.scale, info)
    if fit.impossible and not sure:
        why = f"values {evidence.span} look like {reading.scale}, but {fit.seen}"
        reading.guesses.pop("pixels", None)
        reading.asked.append(
            Question(
                OPTIONS["pixels"],
                f"{why}; or name the right data set with --dataset",
                "--normalized" if evidence.low < 0 else "--pixels",
            )
        )
    guess = reading.guesses.get("pixels")
    certain = guess is None or guess.doubt == "certain"
    if certain and not fit.near:
        reading.notes.append(
            f"as {reading.scale}, {fit.seen}: if they are not of {info.name}, name the "
            "right data set with --dataset"
        )
    if guess:
        doubt = guess.doubt if certain or fit.near else "doubtful"
        reason = f"{guess.reason}; {fit.seen}"
        reading.guesses["pixels"] = Guess(guess.value, reason, doubt)


def _settle_whitening(
    path: Path, said: Mapping[str, Any], reading: Reading, evidence: Evidence
) -> None:
    """Settle whether the images are whitened; if they are, that is their scale.

    Raises:
        DataError: whitening was stated, but the images are pixels.
    """
    pixels = reading.scale.startswith("pixels")
    moments = evidence.moments
    if "zca" not in said:
        named = _named_whitened(nearby_names(path))
        if named and pixels:
            reason = f"the name {named} contains ZCA, but the values are pixels"
            guess = Guess(False, reason, "doubtful")
        elif named:
            sure: Doubt = "likely" if evidence.whitened else "doubtful"
            guess = Guess(True, f"from the name {named}; {moments}", sure)
        elif evidence.whitened:
            reason = f"{moments}; normalised images deviate by about 1"
            guess = Guess(True, reason, "doubtful")
        elif pixels:
            guess = Guess(False, "whitened values are no pixels", "likely")
        else:
            before = reading.guesses["zca"]
            guess = before._replace(reason=f"{before.reason}; {moments}")
        reading.guesses["zca"] = guess
        whitened = guess.value
    else:
        whitened = said["zca"]
        if bool(whitened) != evidence.whitened and not pixels:
            like = "whitened" if evidence.whitened else "normalised"
            reading.notes.append(
                f"{moments}: the images look {like}, which is not what was stated"
            )
    if not whitened:
        return
    if pixels:
        raise DataError(
            f"{path}: values {evidence.span} are pixels, and whitened images are not; "
            "leave out --zca, or --pixels if they are whitened"
        )
    reading.scale = "whitened"
    reading.guesses.pop("pixels", None)


def _named_whitened(names: Iterable[str]) -> str | None:
    """Return the first name that contains ZCA, unless a nearer one denies it."""
    for name in names:
        if match := _ZCA.search(name.lower()):
            return None if match[1] else name
    return None


def _partition(guess: Guess, stated: ReadingOptions, evidence: Evidence) -> Guess:
    """Return the format's guess of the parts, corrected by what the images show.

    The images outweigh a doubtful guess alone. Images with dark margins have no seam
    where four of them meet, so that other guesses become doubtful without a seam, but
    remain.
    """
    partition = evidence.partition
    if partition is None:
        return guess
    if partition == guess.value:
        return Guess(partition, evidence.seams)
    if guess.doubt != "doubtful" or stated.format is not None:
        return guess._replace(
            reason=f"{guess.reason}; but {evidence.seams}", doubt="doubtful"
        )
    return Guess(partition, f"{evidence.seams}; {guess.reason}", "doubtful")
