"""Image files decoded by worker processes, in a stated order.

Nothing in a worker is random, and every image is decoded by itself: the pixels do not
depend on the number of workers, and their order is that of the indices asked for.
"""

import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dcbench_bacon.data.files.image_files import Square, read_image
from dcbench_bacon.data.files.listing import LabelledFiles
from dcbench_bacon.data.streaming import options
from dcbench_bacon.errors import DataError

MOST_IMAGES = 16  # images that a worker decodes at a time
MOST_BYTES = 2**22  # of their pixels: workers hand them over through shared memory
Piece = npt.NDArray[np.int64]
"""The indices of images that one worker decodes at a time."""


class BadFile(NamedTuple):
    """A file that cannot be decoded.

    Attributes:
        number: its index in the list.
        reason: the message, which names the file.
    """

    number: int
    reason: str


class Decoder:
    """Decodes the files of a list, with workers that stay until it is deleted.

    Args:
        files: the files.
        square: how an image becomes a square.
    """

    def __init__(self, files: LabelledFiles, square: Square) -> None:
        """Start no worker yet."""
        self.pieces = _Pieces(files, square)
        self.order = _Order()
        self.workers = options.workers()
        size = square.channels * square.size**2
        self.most = max(1, min(MOST_IMAGES, MOST_BYTES // size))
        self.loader = self._loader(self.order, stays=True)

    def decode(self, index: Piece) -> UInt8[Tensor, "n c h w"]:
        """Return the pixels of images at indices.

        Raises:
            DataError: a file cannot be decoded; the message names it.
        """
        share = -(-len(index) // max(1, self.workers))  # so that all workers have work
        if not len(index):
            return self.pieces.blank(0)
        self.order.pieces = _split(index, max(1, min(share, self.most)))
        images, start = self.pieces.blank(len(index)), 0
        for piece in self.loader:
            pixels = _sound(piece)
            images[start : start + len(pixels)] = pixels
            start += len(pixels)
        return images

    def batches(self, batches: Sequence[Piece]) -> Iterator[UInt8[Tensor, "n c h w"]]:
        """Yield the pixels of batches, which are decoded ahead by workers of their own.

        Raises:
            DataError: a file cannot be decoded; the message names it.
        """
        cut = [_split(index, self.most) for index in batches]
        order = _Order([piece for pieces in cut for piece in pieces])
        decoded = iter(self._loader(order, stays=False))
        for pieces in cut:
            yield torch.cat([_sound(next(decoded)) for _ in pieces])

    def bad(self) -> list[BadFile]:
        """Return the files that cannot be decoded, after a look at every file."""
        order = _Order(_split(np.arange(len(self.pieces.files)), self.most))
        self.pieces.only_look = True
        files = [bad for piece in self._loader(order, stays=False) for bad in piece]
        self.pieces.only_look = False
        return files

    def _loader(self, order: "_Order", *, stays: bool) -> DataLoader[Any]:
        """Return a loader of pieces, in this process if there are no workers."""
        several = self.workers > 0
        return DataLoader(
            self.pieces,
            batch_size=None,
            sampler=order,
            num_workers=self.workers,
            persistent_workers=several and stays,
            worker_init_fn=_start if several else None,
            # Else every pass would draw a seed from the global random stream.
            generator=torch.Generator().manual_seed(0),
        )


class _Order(Sampler[Piece]):
    """The pieces of a pass, which may be other ones in the next pass."""

    def __init__(self, pieces: Sequence[Piece] = ()) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[Piece]:
        return iter(self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)


class _Pieces(Dataset[Any]):
    """The files, of which several are decoded at a time."""

    def __init__(self, files: LabelledFiles, square: Square) -> None:
        self.files = files
        self.square = square
        self.only_look = False

    def blank(self, count: int) -> UInt8[Tensor, "n c h w"]:
        """Return room for the pixels of images."""
        side, channels = self.square.size, self.square.channels
        return torch.empty(count, channels, side, side, dtype=torch.uint8)

    def __getitem__(self, index: Piece) -> Tensor | list[BadFile]:
        """Return the pixels of some images, or the files that cannot be decoded."""
        images, bad = self.blank(len(index)), list[BadFile]()
        for place, number in enumerate(index.tolist()):
            try:
                pixels = read_image(self.files.path(number), self.square)
            except DataError as error:
                bad.append(BadFile(number, str(error)))
            else:
                images[place] = torch.from_numpy(np.ascontiguousarray(pixels))
        return bad if bad or self.only_look else images


def _sound(piece: Tensor | list[BadFile]) -> Tensor:
    """Return decoded pixels.

    Raises:
        DataError: a file could not be decoded.
    """
    if isinstance(piece, Tensor):
        return piece
    raise DataError(f"{piece[0].reason}; or leave such files out with --bad-files skip")


def _split(index: Piece, most: int) -> list[Piece]:
    return [index[start : start + most] for start in range(0, len(index), most)]


def _start(_: int) -> None:
    """Leave Ctrl-C to the process that waits for this worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
