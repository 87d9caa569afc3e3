"""A split of image files that are decoded when they are needed."""

import hashlib
from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from dcbench_bacon.data.files.image_files import Square
from dcbench_bacon.data.files.listing import LabelledFiles
from dcbench_bacon.data.normalisation import normalize
from dcbench_bacon.data.splits import Batch, Change, Pixels, ResidentSplit, Split
from dcbench_bacon.data.streaming.decoding import Decoder
from dcbench_bacon.errors import UsageError
from dcbench_bacon.runtime.compute.memory import room, send
from dcbench_bacon.schema import DatasetInfo

BATCH = 256  # images at a time where all are read


class StreamedSplit(Split):
    """A split whose images are decoded by workers when they are asked for.

    Args:
        files: the image files and their classes.
        info: the facts of the data set.
        square: how an image becomes a square of ``info.size``.
        device: the device that images are given on.
        changes: functions that are applied to pixels after decoding, in order.
    """

    def __init__(
        self,
        files: LabelledFiles,
        info: DatasetInfo,
        square: Square,
        device: torch.device | None = None,
        changes: tuple[Change, ...] = (),
    ) -> None:
        """Decode nothing yet."""
        self.files = files
        self.info = info
        self.square = square
        self.labels = torch.from_numpy(files.labels).to(device)
        self.changes = changes

    @cached_property
    def decoder(self) -> Decoder:
        """The workers of this split."""
        return Decoder(self.files, self.square)

    def pixels(self, index: Int64[Tensor, "n"]) -> Pixels:
        """Return the images at indices before normalisation, on the device."""
        return self._finished(self.decoder.decode(index.cpu().numpy()))

    def batches(
        self, size: int, order: Int64[Tensor, "m"] | None = None
    ) -> Iterator[Batch]:
        """Yield normalised images with their labels, decoded ahead."""
        if order is None:
            order = torch.arange(len(self), device=self.device)
        parts = torch.split(order, size) if len(order) else ()
        decoded = self.decoder.batches([part.cpu().numpy() for part in parts])
        for part, pixels in zip(parts, decoded, strict=True):
            images = normalize(self._finished(pixels), self.info)
            yield Batch(images, self.labels[part])

    def _finished(self, pixels: Pixels) -> Pixels:
        """Return decoded pixels on the device, with the changes applied."""
        pixels = send(pixels, self.device)
        for change in self.changes:
            pixels = change(pixels)
        return pixels

    def whole(self) -> Float32[Tensor, "n c h w"]:
        """Return all images, normalised.

        Raises:
            UsageError: they do not fit into memory.
        """
        self._check_room(4)
        images = torch.empty(self.shape, device=self.device)
        for part, (piece, _) in zip(
            torch.split(images, BATCH), self.batches(BATCH), strict=True
        ):
            part.copy_(piece)
        return images

    def subset(self, index: Int64[Tensor, "m"] | Bool[Tensor, "n"]) -> "StreamedSplit":
        """Return the split of some images."""
        files = self.files.subset(index.cpu().numpy())
        return StreamedSplit(files, self.info, self.square, self.device, self.changes)

    def changed(self, change: Change) -> "StreamedSplit":
        """Return the split with a function applied to pixels after decoding."""
        changes = (*self.changes, change)
        return StreamedSplit(self.files, self.info, self.square, self.device, changes)

    def resident(self) -> ResidentSplit:
        """Return the split with its images on the device.

        Raises:
            UsageError: they do not fit into memory.
        """
        self._check_room(1)
        pixels = self.pixels(torch.arange(len(self)))
        return ResidentSplit(pixels, self.labels, self.info)

    def to(self, device: torch.device) -> "StreamedSplit":
        """Return the split on another device."""
        return StreamedSplit(self.files, self.info, self.square, device, self.changes)

    def sha256(self, start: str = "") -> str:
        """Return the SHA-256 of a text, the square, and sizes and times of files."""
        content = f"{start}{self.files.sha256} {tuple(self.square)}"
        return hashlib.sha256(content.encode()).hexdigest()

    def _check_room(self, bytes_per_value: int) -> None:
        """Make sure that all images fit into memory together.

        Raises:
            UsageError: they do not.
        """
        needed = bytes_per_value * torch.Size(self.shape).numel()
        if needed > (most := room(self.device)):
            raise UsageError(
                f"{self.info.name}: this needs all {len(self):,} images in memory at "
                f"once, {needed / 1e9:.0f} GB, and {most / 1e9:.0f} GB may be used; "
                "give a smaller --size, a smaller data set, or a method and settings "
                "that read images batch by batch"
            )
