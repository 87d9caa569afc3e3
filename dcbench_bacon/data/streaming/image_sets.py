"""Data sets of image files, which are decoded once or whenever they are needed."""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dcbench_bacon.data.dataset import Dataset, RawSplit
from dcbench_bacon.data.files.image_files import Square, decode_images
from dcbench_bacon.data.files.listing import LabelledFiles
from dcbench_bacon.data.streaming import options
from dcbench_bacon.data.streaming.decoding import Decoder
from dcbench_bacon.data.streaming.streamed_split import StreamedSplit
from dcbench_bacon.errors import OutputError
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.schema import DatasetInfo

logger = logging.getLogger(__name__)
SAMPLE_BYTES = 2**25  # of the pixels that statistics of a streamed folder come from
SAMPLE = 1000  # images of the same
_TOLD: set[str] = set()  # the fingerprints of sets whose bad files were told
NAMED = 3  # bad files whose names are told


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The image files of a data set, of which none is decoded yet.

    Attributes:
        train: the files of the train split.
        test: the files of the test split.
        square: how an image becomes a square.
    """

    train: LabelledFiles
    test: LabelledFiles
    square: Square

    @property
    def paths(self) -> list[str]:
        """The paths of all files."""
        return self.train.paths() + self.test.paths()

    @property
    def bytes(self) -> int:
        """The bytes of all decoded pixels."""
        image_bytes = self.square.channels * self.square.size**2
        return (len(self.train) + len(self.test)) * image_bytes

    @property
    def streams(self) -> bool:
        """Whether the files are decoded when they are needed.

        Raises:
            UsageError: the stated limit is no number of bytes.
        """
        return self.bytes > options.stream_above()

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the square, and of name, label, size and time of each file.

        Raises:
            DataError: a file cannot be read.
        """
        parts = (self.train.sha256, self.test.sha256, tuple(self.square))
        return hashlib.sha256(f"{parts}".encode()).hexdigest()

    def usable(self, cache: Path) -> "ImageSet":
        """Return the set without files that cannot be decoded, if users ask for that.

        All files are looked at once, and what was found is kept.

        Args:
            cache: the folder of decoded data sets.

        Raises:
            DataError: a file cannot be read.
        """
        if options.bad_files() == "stop":
            return self
        kept = cache / f"unreadable-{self.fingerprint[:16]}.json"
        reasons_by_split = _kept(kept)
        if reasons_by_split is None:
            reasons_by_split = {name: self._bad(name) for name in ("train", "test")}
            try:
                write_atomically(kept, json.dumps(reasons_by_split).encode())
            except OutputError as error:
                logger.warning("what files are bad is not kept: %s", error)
        reasons = [text for bad in reasons_by_split.values() for text in bad.values()]
        if reasons and self.fingerprint not in _TOLD:
            _TOLD.add(self.fingerprint)
            logger.warning(
                "%d of %d image files cannot be decoded and are left out: %s%s",
                len(reasons),
                len(self.train) + len(self.test),
                "; ".join(reasons[:NAMED]),
                "; ..." if len(reasons) > NAMED else "",
            )
        train, test = (
            files.subset(
                ~np.isin(np.arange(len(files)), list(map(int, reasons_by_split[name])))
            )
            for name, files in (("train", self.train), ("test", self.test))
        )
        return replace(self, train=train, test=test)

    def _bad(self, name: str) -> dict[str, str]:
        """Return the index and the reason of each bad file of a split."""
        files: LabelledFiles = getattr(self, name)
        bad_files = Decoder(files, self.square).bad()
        return {str(bad.number): bad.reason for bad in bad_files}

    def decoded(self, *, grey: bool) -> tuple[RawSplit, RawSplit]:
        """Return train and test, decoded in memory.

        Args:
            grey: give one channel if every image is greyscale.

        Raises:
            DataError: a file is damaged; the message names it.
        """
        size = self.square.size
        parts = [
            (
                files,
                *decode_images(files.paths(), _content, "", size, self.square),
            )
            for files in (self.train, self.test)
        ]
        one = grey and all(only_grey for _, _, only_grey in parts)
        train, test = (
            RawSplit(images[:, :1] if one else images, files.labels)
            for files, images, _ in parts
        )
        return train, test

    def sample(self) -> RawSplit:
        """Return some training images, evenly spaced, for the facts of a streamed set.

        Raises:
            DataError: a file is damaged; the message names it.
        """
        image_bytes = self.square.channels * self.square.size**2
        spread = self.train.spread(max(1, min(SAMPLE, SAMPLE_BYTES // image_bytes)))
        pixels = Decoder(spread, self.square).decode(np.arange(len(spread)))
        return RawSplit(pixels.numpy(), spread.labels)

    def streamed(self, info: DatasetInfo, device: torch.device | None) -> Dataset:
        """Return the data set with splits that decode files when they are needed."""
        train, test = (
            StreamedSplit(files, info, self.square, device)
            for files in (self.train, self.test)
        )
        return Dataset(
            info, train, test, self.fingerprint, identified_by="sizes and times"
        )


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def _kept(path: Path) -> dict[str, dict[str, str]] | None:
    """Return what was found before, or None."""
    try:
        content = json.loads(path.read_bytes())
        return {name: dict(content[name]) for name in ("train", "test")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
