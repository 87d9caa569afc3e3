"""Tensors that lie in a file: their shape is known and checked before they are read.

The readers of foreign files return these instead of tensors. A set can then be refused
for its shape before anything is allocated, and one of five experiments can be read
without the other four.
"""

import math
from collections.abc import Sequence
from mmap import mmap
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Buffer = bytes | bytearray | memoryview | mmap

# Largest size, stride or offset; torch itself overflows beyond it.
_LARGEST = 2**40
_MOST_AXES = 8
# Types of numbers by numpy's names; objects, texts and records are not admitted.
NUMPY_TYPES = {
    **{"f2": torch.float16, "f4": torch.float32, "f8": torch.float64},
    **{"i1": torch.int8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64},
    **{"u1": torch.uint8, "b1": torch.bool},
}


class Storage:
    """A sequence of numbers somewhere in a buffer.

    Args:
        dtype: type of the numbers.
        count: number of numbers.

    Raises:
        ValueError: the count is no sensible number.
    """

    def __init__(self, dtype: torch.dtype, count: Any) -> None:
        """Check the count; ``place`` sets the buffer."""
        if type(count) is not int or not 0 <= count <= _LARGEST:
            raise ValueError("a storage whose size is no sensible number")
        self.dtype = dtype
        self.count: int = count
        self._buffer: Buffer = b""
        self._start: int | None = None

    def place(self, buffer: Buffer, start: int) -> int:
        """Set the buffer and the position of the first number.

        Returns:
            The position after the last number.

        Raises:
            ValueError: the numbers would reach beyond the buffer.
        """
        end = start + self.count * self.dtype.itemsize
        if not 0 <= start <= end <= len(buffer):
            raise ValueError(
                f"a storage of {end - start} bytes, of which {len(buffer) - start} "
                "are there"
            )
        self._buffer, self._start = buffer, start
        return end

    def read(self, first: int, count: int) -> Tensor:
        """Return some of the numbers as a tensor with one axis."""
        if self._start is None:
            raise ValueError("a storage that is not in the file")
        if count == 0:
            return torch.empty(0, dtype=self.dtype)
        start = self._start + first * self.dtype.itemsize
        piece = self._buffer[start : start + count * self.dtype.itemsize]
        return torch.frombuffer(bytearray(piece), dtype=self.dtype)


def _check_numbers(numbers: Sequence[Any]) -> None:
    """Make sure that sizes and strides are integers that do not overflow."""
    if any(type(n) is not int or not 0 <= n <= _LARGEST for n in numbers):
        raise ValueError("a tensor whose sizes or strides are no sensible numbers")


class StoredTensor:
    """A view of a storage.

    Args:
        storage: the numbers.
        shape: shape of the view.
        stride: strides, counted in numbers; those of a contiguous tensor by default.
        offset: position of the first number in the storage.

    Raises:
        ValueError: the view is larger than the storage or reaches beyond it.
    """

    def __init__(
        self,
        storage: Storage,
        shape: Sequence[Any],
        stride: Sequence[Any] | None = None,
        offset: Any = 0,
    ) -> None:
        """Check the view."""
        if len(shape) > _MOST_AXES:
            raise ValueError(f"a tensor of {len(shape)} axes")
        _check_numbers(shape)
        if stride is None:
            stride = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        elif len(shape) != len(stride):
            raise ValueError(f"a tensor of {len(shape)} axes and {len(stride)} strides")
        else:
            _check_numbers((*stride, offset))
        count = math.prod(shape)
        steps = zip(shape, stride, strict=True)
        reach = sum((n - 1) * step for n, step in steps) + 1 if count else 0
        if max(offset + reach, count) > storage.count:
            raise ValueError(
                f"a tensor of shape {tuple(shape)} in a storage of {storage.count} "
                "numbers (views that repeat numbers are not read; save tensor.clone())"
            )
        self.storage = storage
        self.shape = tuple(shape)
        self.stride = tuple(stride)
        self.offset = offset
        self._reach = reach

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the numbers."""
        return self.storage.dtype

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        """Return the size of the first axis."""
        return int(self.shape[0]) if self.shape else 0

    def read(self) -> Tensor:
        """Return the numbers as a contiguous tensor with memory of its own."""
        flat = self.storage.read(self.offset, self._reach)
        if 0 in self.shape:
            return flat.reshape(self.shape)
        return flat.as_strided(self.shape, self.stride).contiguous()


def of_buffer(
    kind: str, shape: Sequence[Any], content: Buffer, fortran: bool = False
) -> StoredTensor:
    """Return an array of a numpy type.

    Args:
        kind: the type as in ``numpy.dtype.str`` without the byte order: ``f4``, ``i8``.
        shape: shape of the array, whose size must be that of the content.
        content: the bytes.
        fortran: whether the first axis is the innermost.

    Raises:
        ValueError: the type is not one of numbers, or the sizes differ.
    """
    dtype = numpy_type(kind)
    storage = Storage(dtype, len(content) // dtype.itemsize)
    storage.place(content, 0)
    return of_storage(storage, shape, len(content), fortran)


def numpy_type(kind: str) -> torch.dtype:
    """Return the torch type for the name of a numpy type.

    Raises:
        ValueError: the type is not one of numbers.
    """
    if kind not in NUMPY_TYPES:
        raise ValueError(f"an array of type {kind[:20]!r}, which is none of numbers")
    return NUMPY_TYPES[kind]


def of_storage(
    storage: Storage, shape: Sequence[Any], size: int, fortran: bool
) -> StoredTensor:
    """Return an array that takes a whole storage.

    Args:
        storage: the numbers.
        shape: shape of the array.
        size: size of its content in bytes, which must be that of the shape.
        fortran: whether the first axis is the innermost.

    Raises:
        ValueError: the sizes differ.
    """
    array = StoredTensor(storage, shape[::-1] if fortran else shape)
    if math.prod(array.shape) * storage.dtype.itemsize != size:
        raise ValueError(f"{size} bytes for an array of shape {array.shape}")
    if fortran:
        return StoredTensor(storage, shape, array.stride[::-1])
    return array


@runtime_checkable
class TensorSource(Protocol):
    """A tensor whose shape is known and whose numbers are read later."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the sizes of the axes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the numbers."""
        ...

    def read(self) -> Tensor:
        """Return the numbers."""
        ...
