"""Foreign files on disk: read through a memory map, with bounds on all sizes."""

import hashlib
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcbench_bacon.data.files.mistaken_files import mistaken
from dcbench_bacon.data.sets.synthetic_file import MOST_BYTES
from dcbench_bacon.errors import (
    DataError,
    DcbenchError,
    UnsuitableImageError,
    reason_of,
)
from dcbench_bacon.exchange.pickles.stored import (
    Storage,
    StoredTensor,
    numpy_type,
    of_storage,
)
from dcbench_bacon.exchange.pickles.torch_pickles import (
    ADMITTED,
    describe,
    read_sequence,
)
from dcbench_bacon.exchange.pickles.unpickler import Limits, Machine

_MOST_MEMBERS = 10_000
# Bytes of the pickle in a zip archive; it has shapes and scores, but no pixels.
_MOST_PICKLE = 64 * 2**20
_MOST_HEADER = 2**16  # bytes of an array's header; numpy reads no more than 10,000
_MOST_RATIO = 20  # float images hardly shrink; one-hot labels do, but are few
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL = 2**26  # bytes that a compressed file may contain whatever its ratio
_PROTOCOL = b"\x80"  # begins a pickle of protocol 2 or later
_ENTRY = b"PK\x01\x02"  # begins each entry of a zip's directory
_LOCAL = struct.Struct("<26xHH")  # a local header ends with two sizes: name, extra
# The header that numpy writes; under Python 2 it wrote sizes as 3L.
_HEADER = re.compile(
    rb"{'descr': '[<|=](\w\d+)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,20}L?, ?)*(?:\d{1,20}L?)?)\), ?} *\n?"
)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn any error about bad content into a ``DataError`` that names the file."""
    try:
        yield
    except DcbenchError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        if isinstance(error, UnsuitableImageError):
            raise DataError(f"{path}: {error}") from error
        if what := mistaken(path):
            raise DataError(f"{path} {what}") from error
        raise DataError(f"{path} cannot be read: {reason_of(error):.300}") from error


def mapped(path: Path) -> mmap:
    """Return the content of a file as a memory map.

    Raises:
        ValueError: the file is empty or larger than ``MOST_BYTES``.
        OSError: the file cannot be opened.
    """
    size = path.stat().st_size  # before opening: a pipe has none, and would block
    if not 0 < size <= MOST_BYTES:
        raise ValueError(f"{size} bytes; 1 to {MOST_BYTES} are read")
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ)


def sha256(paths: Sequence[Path]) -> str:
    """Return the sha256 of a file, or of the digests and names of several files."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    lines = (f"{d}  {p.name}\n" for d, p in zip(digests, paths, strict=True))
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def members(
    path: Path, content: mmap, ratio: int = _MOST_RATIO
) -> dict[str, zipfile.ZipInfo]:
    """Return the members of a zip archive, after checks of their number and size.

    Args:
        path: the archive.
        content: the content of the archive, mapped.
        ratio: largest size of the members together, relative to the archive.

    Raises:
        ValueError: there are too many members, or more content than the ratio allows.
    """
    place, count = content.find(_ENTRY), 0
    while place >= 0:
        count += 1
        if count > _MOST_MEMBERS:
            raise ValueError(f"more than {_MOST_MEMBERS} members")
        place = content.find(_ENTRY, place + 1)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(info.compress_type not in _METHODS for info in entries):
        raise ValueError("members compressed by other means than deflate")
    total = sum(info.file_size for info in entries)
    allowed = len(content) if ratio == 1 else max(ratio * len(content), _SMALL)
    if total > min(allowed, MOST_BYTES):
        raise ValueError(
            f"an archive of {len(content)} bytes that claims to hold {total}; "
            "no set of images shrinks like that"
        )
    return {info.filename: info for info in entries}


def load_torch(path: Path) -> tuple[Any, bool]:
    """Read a file of ``torch.save`` or ``pickle.dump``; tensors stay in the file.

    Returns:
        The object, with ``StoredTensor`` for tensors and arrays, and whether
        ``torch.save`` wrote it.

    Raises:
        DataError: the file is damaged, too large, or asks for more than data.
    """
    with damaged(path):
        content = mapped(path)
        if content[:4] == b"PK\x03\x04":
            return _load_zip(path, content), True
        try:
            value = read_sequence(content, content, Limits(len(content)))
        except Exception as error:
            if content[:1] == _PROTOCOL:
                raise
            raise ValueError(
                f"no synthetic set; `dcbench list formats` lists what is read ({error})"
            ) from error
        # The magic number's pickle is 15 bytes of protocol 2.
        return value, content[:3] == b"\x80\x02\x8a"


def _load_zip(path: Path, content: mmap) -> Any:
    """Read an archive of ``torch.save``, whose members are not compressed."""
    entries = members(path, content, ratio=1)
    pickles = [name for name in entries if name.count("/") == 1]
    (pickle,) = [name for name in pickles if name.endswith("/data.pkl")] or [""]
    if not pickle:
        raise ValueError("a zip archive without data.pkl; torch.save writes one")
    prefix = pickle.removesuffix("data.pkl")
    if f"{prefix}byteorder" in entries:
        start, end = _extent(content, entries[f"{prefix}byteorder"])
        if content[start:end] != b"little":
            raise ValueError("numbers of another byte order")
    storages: dict[str, Storage] = {}

    def find(key: Any) -> Storage:
        name, storage = describe(key)
        if name not in storages:
            start, end = _extent(content, entries[f"{prefix}data/{name}"])
            if storage.place(content, start) != end:
                raise ValueError("a storage of another size than its member")
            storages[name] = storage
        if (storage.dtype, storage.count) != _kind(storages[name]):
            raise ValueError("a storage of two kinds")
        return storages[name]

    start, end = _extent(content, entries[pickle])
    if end - start > _MOST_PICKLE:
        raise ValueError(f"a data.pkl of {end - start} bytes")
    stream = BytesIO(content[start:end])
    return Machine(ADMITTED, Limits(end - start), find).run(stream)


def _kind(storage: Storage) -> tuple[Any, int]:
    return storage.dtype, storage.count


def _extent(content: mmap, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Return the first and the last position of an uncompressed member."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"a compressed member {info.filename[:80]}; torch.save's are not"
        )
    header = content[info.header_offset : info.header_offset + _LOCAL.size]
    start = info.header_offset + _LOCAL.size + sum(_LOCAL.unpack(header))
    if start + info.file_size > len(content):
        raise ValueError(f"a member {info.filename[:80]} beyond the end")
    return start, start + info.file_size


def load_arrays(path: Path) -> dict[str, StoredTensor]:
    """Return the arrays of an ``.npz`` file; their numbers stay in the file.

    Raises:
        DataError: the file is damaged, too large, or contains other than numbers.
    """
    with damaged(path):
        entries = members(path, mapped(path))
        with zipfile.ZipFile(path) as archive:
            return {
                name.removesuffix(".npy"): _array(path, archive, info)
                for name, info in entries.items()
            }


def load_array(path: Path) -> StoredTensor:
    """Return the array of an ``.npy`` file; its numbers stay in the file.

    Raises:
        DataError: the file is damaged, too large, or contains other than numbers.
    """
    with damaged(path):
        content = mapped(path)
        header = _array_header(content[:_MOST_HEADER])
        size = len(content) - header.start
        storage = Storage(header.dtype, size // header.dtype.itemsize)
        storage.place(content, header.start)
        return of_storage(storage, header.shape, size, header.fortran)


class _Member(Storage):
    """The numbers of an archive's member, inflated when they are read.

    Args:
        path: the archive.
        info: the member.
        start: position of the first number in the member, in bytes.
        dtype: type of the numbers, which reach to the end of the member.
    """

    def __init__(
        self, path: Path, info: zipfile.ZipInfo, start: int, dtype: torch.dtype
    ) -> None:
        """Compute the number of numbers; read nothing."""
        super().__init__(dtype, (info.file_size - start) // dtype.itemsize)
        self._path, self._info, self._first = path, info, start

    def read(self, first: int, count: int) -> Tensor:
        """Return some of the numbers as a tensor with one axis."""
        with zipfile.ZipFile(self._path) as archive:
            content = archive.read(self._info)
        inflated = Storage(self.dtype, self.count)
        inflated.place(memoryview(content), self._first)
        return inflated.read(first, count)


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> StoredTensor:
    """Return an array in numpy's format; read only its header."""
    with archive.open(info) as file:
        header = _array_header(file.read(_MOST_HEADER))
    storage = _Member(path, info, header.start, header.dtype)
    size = info.file_size - header.start
    return of_storage(storage, header.shape, size, header.fortran)


class _ArrayHeader(NamedTuple):
    """The header of an array in numpy's format; numbers begin at ``start``."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    fortran: bool


def _array_header(content: bytes) -> _ArrayHeader:
    """Return the header at the beginning of an array's bytes."""
    if content[:6] != b"\x93NUMPY" or content[6] not in (1, 2, 3):
        raise ValueError("an array that is not in numpy's format")
    form = struct.Struct("<8xH" if content[6] == 1 else "<8xI")
    (length,) = form.unpack(content[: form.size])
    start = form.size + length
    match = _HEADER.fullmatch(content[form.size : start])
    if match is None:
        raise ValueError("an array whose header is none of plain numbers")
    kind, fortran, sizes = (group.decode() for group in match.groups())
    shape = tuple(map(int, re.findall(r"\d+", sizes)))
    return _ArrayHeader(start, numpy_type(kind), shape, fortran == "True")
