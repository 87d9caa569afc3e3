"""Pickles are read as data: whatever else they ask for is refused and not run."""

import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import REPEATABLE, Bomb, mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcbench_bacon.errors import DataError
from dcbench_bacon.exchange.pickles.archives import damaged, load_arrays, load_torch
from dcbench_bacon.exchange.pickles.stored import StoredTensor

Writer = Callable[[Any, Path], None]


def zipped(value: Any, path: Path) -> None:
    torch.save(value, path)


def legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def plain(protocol: int) -> Writer:
    def write(value: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(value, protocol))

    return write


WRITERS: dict[str, Writer] = {
    "zip": zipped,
    "legacy": legacy,
    **{f"pickle{protocol}": plain(protocol) for protocol in range(2, 6)},
}


def thawed(value: Any) -> Any:
    """The same with tensors in place of stored ones."""
    if isinstance(value, StoredTensor):
        return value.read()
    if isinstance(value, (list, tuple)):
        return type(value)(thawed(item) for item in value)
    if isinstance(value, dict):
        return {key: thawed(item) for key, item in value.items()}
    return value


def same(found: Any, expected: Any) -> bool:
    """Whether values agree in everything, numpy's arrays being tensors."""
    if isinstance(expected, np.ndarray):
        expected = torch.from_numpy(expected)
    if isinstance(expected, Tensor):
        # As bytes: NaN is equal to itself, and zeros of two signs are not.
        assert isinstance(found, Tensor)
        kinds = (found.dtype, found.shape) == (expected.dtype, expected.shape)
        bits = [
            each.contiguous().view(torch.uint8)
            for each in (found, expected)
            if each.ndim
        ]
        return kinds and (found.equal(expected) or (bits[0].equal(bits[1])))
    if isinstance(expected, (list, tuple)):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        return all(map(same, found, expected))
    if isinstance(expected, dict):
        keys = list(found) == list(expected)
        return keys and all(same(found[key], expected[key]) for key in expected)
    return bool(found == expected)


base = torch.arange(24, dtype=torch.float32)
VALUES: dict[str, Any] = {
    "tensor": torch.randn(2, 3),
    "scalar": torch.tensor(0.5),
    "empty": torch.empty(0, 3),
    "views": [base.view(4, 6).t(), base[3:9], base[::5], base],
    "types": [
        torch.arange(6).to(kind)
        for kind in (
            *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
            *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64),
            torch.bool,
        )
    ],
    "odd numbers": torch.tensor([float("nan"), -0.0, float("inf"), 1e-45]),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "numpy": {
        "float": np.float64(0.25),
        "int": np.int64(-3),
        "bool": np.bool_(True),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "in a tuple": (np.arange(3), [np.ones((1, 2), np.uint8)]),
    },
    "python": [None, True, -7, 2**70, 0.1, "ä", b"\x00\xff", {"a": {1: (2,)}}],
    "ordered": OrderedDict(a=torch.ones(1), b=2),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", VALUES)
def test_what_was_saved_comes_back(name: str, writer: str, tmp_path: Path) -> None:
    value = VALUES[name]
    if name == "parameter":
        value = value.detach()
    WRITERS[writer](VALUES[name], tmp_path / "a")
    found, by_torch = load_torch(tmp_path / "a")
    assert same(thawed(found), value)
    assert by_torch == (writer in ("zip", "legacy"))


def test_an_array_used_twice_is_one(tmp_path: Path) -> None:
    array = np.arange(4)
    (tmp_path / "a").write_bytes(pickle.dumps([array, (array,), {"a": array}], 4))
    found, _ = load_torch(tmp_path / "a")
    assert found[0] is found[1][0] is found[2]["a"]


def refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        thawed(load_torch(path)[0])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_pickle_is_not_run(writer: str, tmp_path: Path) -> None:
    target = tmp_path / "run"
    WRITERS[writer]({"data": [torch.ones(1), Bomb(target)]}, tmp_path / "a")
    refused(tmp_path / "a", "nothing was run")
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))  # the bomb is no dud
    assert target.exists()


def test_a_pickle_within_a_pickle_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "run"

    class Inner:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return torch.storage._load_from_bytes, (pickle.dumps(Bomb(target)),)

    (tmp_path / "a").write_bytes(pickle.dumps(Inner()))
    refused(tmp_path / "a", "nothing was run")
    assert not target.exists()


EVIL = {
    "builtins": b"cbuiltins\neval\n(S'1'\ntR.",
    "os": b"cos\nsystem\n(S'true'\ntR.",
    "admitted name as a text": b"S'_codecs.encode'\n(S'a'\ntR.",
    "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__class__\x93.",
    "stack global of lists": b"\x80\x04]]\x93.",
    "instance": b"(S'a'\ni__main__\nBomb\n.",
    "newobj": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "object": b"(ccollections\nOrderedDict\no.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pname\n.",
    "binary persistent": b"S'a'\nQ.",
    "type called": b"ctorch\nFloatStorage\n)R.",
    "build on a list": b"]}b.",
    "build on a text": b"S'a'\n}b.",
    "append to a tuple": b")K\x01a.",
    "items of a list": b"]K\x01K\x02s.",
    "tuple as a key": b"})K\x01s.",
    "list as a key": b"}]K\x01s.",
    "odd items": b"}(K\x01u.",
    "no mark": b"K\x01t.",
    "nothing left": b".",
    "empty pops": b"00.",
    "no end": b"K\x01",
    "missing memo": b"g7\n.",
    "tensor of a number": b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))I00\nNtR.",
    "too few arguments": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "object array": b"cnumpy\ndtype\n(S'O8'\nK\x00K\x01tR.",
    "other encoding": b"c_codecs\nencode\n(Va\nVrot13\ntR.",
    "short magic": pickle.dumps(0x1950A86A20F9469CFC6C, 2),
}


@pytest.mark.parametrize("name", EVIL)
def test_what_is_no_data_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(EVIL[name])
    refused(tmp_path / "a", ".")


def edited(value: Any, change: Callable[[bytes], bytes], path: Path) -> None:
    """An archive of ``torch.save`` whose pickle was changed."""
    saved = io.BytesIO()
    torch.save(value, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith("data.pkl"):
                assert change(content) != content
                content = change(content)
            new.writestr(info.filename, content)


SIX = b"K\x06tq"  # six numbers end the storage's persistent id
SHAPE = b"K\x02K\x03\x86"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (SIX, b"K\x07tq", "a storage of 28 bytes|another size"),
        (SIX, b"K\x05tq", "another size"),
        (SIX, b"\x8a\x08" + struct.pack("<q", 2**33) + b"tq", "bytes, of which"),
        (SIX, b"J\xff\xff\xff\xfftq", "no sensible number"),
        (SIX, b"Ntq", "no sensible number"),
        (SHAPE, b"K\x02K\x04\x86", "in a storage of 6"),
        (SHAPE, b"\x8a\x05" + b"\x00" * 4 + b"\x01K\x03\x86", "in a storage of 6"),
        (SHAPE, b"J\xff\xff\xff\xffK\x03\x86", "no sensible"),
        (SHAPE, b"\x8a\x0b" + b"\x00" * 10 + b"\x01K\x03\x86", "no sensible"),
        (b"K\x03K\x01\x86", b"K\x07K\x01\x86", "in a storage of 6"),
        (b"K\x03K\x01\x86", b"J\xff\xff\xff\xffK\x01\x86", "no sensible"),
        (b"FloatStorage", b"OtherStorage", "nothing was run"),
    ],
)
def test_a_tensor_must_fit_its_storage(
    old: bytes, new: bytes, reason: str, tmp_path: Path
) -> None:
    edited(torch.ones(2, 3), lambda text: text.replace(old, new), tmp_path / "a")
    refused(tmp_path / "a", reason)


def test_strides_of_zero_allocate_nothing(tmp_path: Path) -> None:
    torch.save(torch.zeros(1).expand(2**33), tmp_path / "a")
    refused(tmp_path / "a", "tensor.clone")


def archive(path: Path, members: dict[str, bytes], compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)


def test_a_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    content = {"a/data.pkl": pickle.dumps([]), "a/data/0": bytes(2**27)}
    archive(path, content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    refused(path, "claims to hold 134217")
    with pytest.raises(DataError, match="claims to hold"):
        load_arrays(path)


def test_a_compressed_pickle_is_refused(tmp_path: Path) -> None:
    content = {"a/data.pkl": pickle.dumps([]), "a/rest": bytes(range(256)) * 4}
    archive(tmp_path / "a", content, zipfile.ZIP_DEFLATED)
    refused(tmp_path / "a", "compresses nothing|claims")


def test_members_that_overlap(tmp_path: Path) -> None:
    archive(tmp_path / "a", {"a/data.pkl": pickle.dumps([1] * 99)}, 0)
    content = (tmp_path / "a").read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry, tail = content[start:end], content[end:]
    count, size = 99, 99 * len(entry)
    tail = tail[:8] + struct.pack("<HHII", count, count, size, start) + tail[20:]
    (tmp_path / "a").write_bytes(content[:start] + entry * count + tail)
    refused(tmp_path / "a", "claims to hold")


def test_too_many_members(tmp_path: Path) -> None:
    archive(tmp_path / "a", {f"a/{i}": b"" for i in range(10_001)}, 0)
    refused(tmp_path / "a", "more than 10000 members")


def test_other_archives(tmp_path: Path) -> None:
    archive(tmp_path / "a", {"text.txt": b"text"}, 0)
    refused(tmp_path / "a", "without data.pkl")
    big = {"a/data.pkl": pickle.dumps([]), "a/byteorder": b"big"}
    archive(tmp_path / "a", big, 0)
    refused(tmp_path / "a", "byte order")
    archive(tmp_path / "a", {"a/data.pkl": b""}, zipfile.ZIP_BZIP2)
    refused(tmp_path / "a", "other means")


def test_nothing_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    refused(tmp_path / "a", "is empty")
    refused(tmp_path, "directory")
    refused(tmp_path / "missing", "No such file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "0 bytes")


def test_a_file_of_absurd_size(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**35)  # sparse: takes no room
    refused(tmp_path / "a", "34359738368 bytes")


_FROM_BUFFER = b"cnumpy._core.numeric\n_frombuffer\n("
_FLOATS = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR"
COSTLY = {
    "long declared bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + b"abc.",
    "longest declared bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b".",
    "long declared array": b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"abc.",
    "long declared text": b"\x80\x04\x8d" + struct.pack("<Q", 2**33) + b"abc.",
    "far memo": b"K\x01r\xff\xff\xff\xff0" * 1000 + b".",
    "deep lists": b"(" * 400_000 + b"l" * 400_000 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 400_000 + b"}" + b".",
    "deep key": b"\x80\x02})" + b"\x85" * 400_000 + b"K\x01s.",
    "many operations": b"N0" * 1_000_000 + b".",
    "one text many times": b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x10\x00"
    + b"a" * 2**20
    + b"q\x01"
    + b"h\x00h\x01\x85R" * 20_000
    + b".",
    "doubling tuples": b"\x80\x02)" + b"q\x00h\x00\x86" * 100_000 + b".",
    "array of a number": _FROM_BUFFER + b"J\xff\xff\xff\x7f" + _FLOATS + b")U\x01CtR.",
    "array many times": b"\x80\x05\x96"
    + struct.pack("<Q", 2**20)
    + b"a" * 2**20
    + b"\x94"
    + (_FROM_BUFFER + b"h\x00" + _FLOATS + b"J\x00\x00\x04\x00\x85U\x01CtR") * 5000
    + b".",
    "name without end": b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"S'a'\n\x93.",
    "many axes": _FROM_BUFFER
    + b"C\x04abcd"
    + _FLOATS
    + b"("
    + b"K\x01" * 200_000
    + b"tU\x01CtR.",
    "large axes": _FROM_BUFFER
    + b"C\x04abcd"
    + _FLOATS
    + b"("
    + (b"\x8b\x00\x00\x10\x00" + b"\x7f" * 2**20) * 4
    + b"tU\x01CtR.",
    "deep storage key": pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps({"little_endian": True}, 2)
    + pickle.dumps([], 2)
    + b"\x80\x02])"
    + b"\x85" * 400_000
    + b"a.",
    "long number": b"L" + b"9" * 1_000_000 + b"L\n.",
}
_WITHIN = """
    import resource, sys
    from pathlib import Path
    from dcbench_bacon.exchange.pickles.archives import load_arrays, load_torch
    from dcbench_bacon.errors import DataError
    import torch
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for name in sys.argv[1:]:
        before = peak()
        path = Path(name)
        try:
            value = (load_arrays if path.suffix == ".npz" else load_torch)(path)
            del value
        except DataError as error:
            assert name in str(error) and len(str(error)) < 500, str(error)
        grown = peak() - before
        assert grown < 2**28, (name, grown)
    print("survived")
"""


@pytest.mark.slow
def test_costly_files_cost_little(tmp_path: Path) -> None:
    for name, content in COSTLY.items():
        (tmp_path / name).write_bytes(content)
    shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
    sizes = {"long": "99999999999", "deep": "(" * 3000, "digits": "1" * 60 + "x"}
    for name, count in sizes.items():
        header = (shape % count).encode()
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"abcd"
        archive(tmp_path / f"{name}.npz", {"images.npy": npy}, zipfile.ZIP_DEFLATED)
    zeros = {"images.npy": bytes(2**29)}
    archive(tmp_path / "zeros.npz", zeros, zipfile.ZIP_DEFLATED)
    program = [sys.executable, "-c", textwrap.dedent(_WITHIN)]
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        [*program, *files], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "survived" in done.stdout


@pytest.mark.slow
def test_operations_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"N0" * 200_000 + b"N.")
    assert load_torch(tmp_path / "a") == (None, False)
    (tmp_path / "a").write_bytes(b"N0" * 300_000 + b"N.")
    refused(tmp_path / "a", "more than 500000 operations")


def good(writer: str) -> bytes:
    path = io.BytesIO()
    value = {"data": [[torch.ones(2, 1, 2, 2), torch.arange(2)]], "n": np.ones(2)}
    if writer == "pickle":
        return pickle.dumps((torch.ones(2, 1, 2, 2), np.float64(1)))
    if writer == "npz":
        np.savez_compressed(path, images=np.ones((2, 1, 2, 2)), labels=np.arange(2))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=writer == "zip")
    return path.getvalue()


SEEDS = {writer: good(writer) for writer in ("zip", "legacy", "pickle", "npz")}
quickly = settings(REPEATABLE, max_examples=150)


def survives(path: Path, content: bytes) -> None:
    """Reads whatever it is, or raises our own error."""
    path.write_bytes(content)
    for load in (load_torch, load_arrays):
        with suppress(DataError), damaged(path):
            thawed(load(path))


@quickly
@given(content=st.binary(max_size=300))
def test_random_bytes(content: bytes, tmp_path: Path) -> None:
    survives(tmp_path / "a", content)


OPCODES = st.sampled_from([each.code.encode("latin1") for each in pickletools.opcodes])
WORDS = st.sampled_from(
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"cnumpy._core.multiarray\n_reconstruct\n",
        b"cnumpy._core.multiarray\nscalar\n",
        b"cnumpy\ndtype\n",
        b"ccollections\nOrderedDict\n",
        b"c_codecs\nencode\n",
        b"ctorch.storage\n_load_from_bytes\n",
        b"(K\x01K\x02t",
        b"S'f4'\n",
    ]
)


@quickly
@given(parts=st.lists(OPCODES | WORDS | st.binary(max_size=3), max_size=40))
def test_random_opcodes(parts: list[bytes], tmp_path: Path) -> None:
    survives(tmp_path / "a", b"".join(parts) + b".")


@pytest.mark.parametrize("writer", SEEDS)
@quickly
@given(data=st.data())
def test_mutated_files(writer: str, data: st.DataObject, tmp_path: Path) -> None:
    survives(tmp_path / "a", data.draw(mutated(SEEDS[writer])))


@pytest.mark.parametrize("writer", SEEDS)
def test_truncated_files(writer: str, tmp_path: Path) -> None:
    content = SEEDS[writer]
    for end in range(0, len(content), max(1, len(content) // 60)):
        (tmp_path / "a").write_bytes(content[:end])
        load = load_arrays if writer == "npz" else load_torch
        with pytest.raises(DataError):
            load(tmp_path / "a")
