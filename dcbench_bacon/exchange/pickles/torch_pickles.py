"""The pickles of torch and numpy, whose tensors and arrays become stored tensors.

This module reads two layouts: the pickles of ``pickle.dump``, and the sequences of
pickles that ``torch.save`` wrote before version 1.6 (and still writes within the
former, one per tensor). The module ``archives`` reads its zip archives. A tensor of a
GPU differs from others in the name of its device alone, which is left out.
"""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any, NoReturn

import torch

from dcbench_bacon.exchange.pickles.stored import (
    NUMPY_TYPES,
    Buffer,
    Storage,
    StoredTensor,
)
from dcbench_bacon.exchange.pickles.unpickler import (
    Limits,
    Machine,
    Name,
    NumpyType,
    Stream,
    Unfilled,
    options,
)

_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
_PROTOCOL = 1001  # torch.serialization.PROTOCOL_VERSION


def _empty_array(machine: Machine, *arguments: Any) -> Unfilled:
    return Unfilled()


def _from_buffer(
    machine: Machine, content: Any, kind: Any, shape: Any, order: Any
) -> StoredTensor:
    """Return a numpy array from its form in protocol 5."""
    return Unfilled.filled((1, shape, kind, order == "F", content))


def _numpy_type(machine: Machine, kind: Any, *flags: Any) -> NumpyType:
    if not isinstance(kind, str) or kind not in NUMPY_TYPES:
        raise ValueError("an array that is none of numbers")
    return NumpyType(kind)


def _number(machine: Machine, kind: Any, content: Any) -> int | float | bool:
    """Return a numpy scalar as a number of Python."""
    array = Unfilled.filled((1, (), kind, False, content))
    number: int | float | bool = array.read().item()
    return number


def _encode(machine: Machine, text: Any, encoding: Any = "latin1") -> bytes:
    """Return bytes from their form in protocol 2, which is a text in Latin-1."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an odd encoding")
    machine.limits.copy(len(text))
    return text.encode("latin1")


def _tensor(
    machine: Machine, storage: Any, offset: Any, size: Any, stride: Any, *others: Any
) -> StoredTensor:
    if type(storage) is not Storage or type(size) is not tuple:
        raise ValueError("a tensor without a storage")
    return StoredTensor(storage, size, stride, offset)


def _parameter(machine: Machine, data: Any, *others: Any) -> Any:
    return data


def _ordered(machine: Machine) -> dict[Any, Any]:
    return {}


def _inner_storage(machine: Machine, content: Any) -> Storage:
    """Return the storage of a tensor from the pickle within a pickle."""
    if machine.nested or type(content) is not bytes:
        raise ValueError("a pickle within a pickle within a pickle")
    stream = BytesIO(content)
    storage = read_sequence(stream, content, machine.limits, nested=True)
    if type(storage) is not Storage:
        raise ValueError("a tensor without a storage")
    return storage


_PATHS = ("PosixPath", "WindowsPath")
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def _no_call(machine: Machine, *arguments: Any) -> NoReturn:
    raise ValueError("its pickle calls a type")


def _old_options(machine: Machine, kind: Any, base: Any, state: Any) -> dict[Any, Any]:
    """Return the same for protocols 0 and 1."""
    if type(kind) is not Name or kind not in _OPTIONS:
        raise ValueError("its pickle makes an object that is no data")
    return {}


def _text(machine: Machine, *parts: Any) -> str:
    """Return a device or a path as text."""
    return "/".join(str(part) for part in parts if type(part) in (str, int))


# The classes of options that programs save beside a set.
_OPTIONS = ("argparse.Namespace", "types.SimpleNamespace", "utils.ParamDiffAug")
_TEXTS = (
    "torch.device",
    *(f"pathlib.{kind}{name}" for kind in ("", "Pure") for name in _PATHS),
)
ADMITTED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_OPTIONS, options),
    **dict.fromkeys(_TEXTS, _text),
    **dict.fromkeys(
        ("copyreg._reconstructor", "copy_reg._reconstructor"), _old_options
    ),
    **dict.fromkeys(("builtins.object", "__builtin__.object"), _no_call),
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _inner_storage,
    "numpy.dtype": _numpy_type,
    "numpy.ndarray": _no_call,
    **{
        f"{package}.{name}": _no_call
        for package in ("torch", "torch.cuda")
        for name in _STORAGES
    },
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _empty_array),
            ("multiarray.scalar", _number),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}


def describe(key: Any) -> tuple[str, Storage]:
    """Return the key and the empty storage of a persistent id of ``torch.save``."""
    word, kind, name, _, count, *view = key
    known = type(kind) is Name and kind.rpartition(".")[2] in _STORAGES
    if word != "storage" or not known or type(name) is not str or any(view):
        raise ValueError("its pickle refers to something that is no storage")
    return name, Storage(_STORAGES[kind.rpartition(".")[2]], count)


def read_sequence(
    stream: Stream, buffer: Buffer, limits: Limits, nested: bool = False
) -> Any:
    """Read a plain pickle, or the sequence that ``torch.save`` wrote before 1.6.

    Args:
        stream: the file.
        buffer: the bytes of the file; storages stay in it until they are read.
        limits: what the file may still cost.
        nested: whether the pickle lies within another one.

    Raises:
        ValueError: the pickle is damaged, or asks for more than data.
    """
    first = Machine(ADMITTED, limits, nested=nested).run(stream)
    if type(first) is not int or first != _MAGIC:
        return first
    version = Machine(ADMITTED, limits).run(stream)
    system = Machine(ADMITTED, limits).run(stream)
    if version != _PROTOCOL or not system["little_endian"]:
        raise ValueError("a layout of torch.save that is not read")
    storages: dict[str, Storage] = {}

    def find(key: Any) -> Storage:
        name, storage = describe(key)
        return storages.setdefault(name, storage)

    value = Machine(ADMITTED, limits, find, nested).run(stream)
    for name in Machine(ADMITTED, limits).run(stream):
        if type(name) is not str:  # hashing of other types may recurse without end
            raise ValueError("a storage whose key is no text")
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storages[name].count:
            raise ValueError("a storage of another size than its tensor's")
        stream.seek(storages[name].place(buffer, stream.tell()))
    return value
