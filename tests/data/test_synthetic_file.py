"""Synthetic sets and checkpoints on disk: exact, whole or refused."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from safetensors.torch import save
from torch import Tensor

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, OutputError, RecordError
from dcbench_bacon.runtime.disk import checkpoint
from dcbench_bacon.schema import DatasetInfo

PROVENANCE = {"cell": {"method": "dm", "ipc": 2}, "zca": None, "text": "ä", "x": 0.1}


def example(*, partition: int = 2, channels: int = 3) -> SyntheticSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, channels, 8, 8, generator=generator)
    labels = torch.randn(6, 3, generator=generator).softmax(1)
    return SyntheticSet(images, labels, partition, PROVENANCE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    target = tmp_path / "folder" / "good set.safetensors"
    synthetic_file.write(target, example())
    return target


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("partition", [1, 2, 4])
def test_a_set_comes_back_as_it_was(
    partition: int, channels: int, tmp_path: Path
) -> None:
    original = example(partition=partition, channels=channels)
    synthetic_file.write(tmp_path / "a", original)
    back = synthetic_file.read(tmp_path / "a")
    assert torch.equal(back.images, original.images)
    assert torch.equal(back.labels, original.labels)
    assert (back.partition, back.provenance) == (partition, PROVENANCE)


def test_extreme_values_keep_their_bits(tmp_path: Path) -> None:
    images = torch.zeros(1, 1, 2, 2)
    images[0, 0] = torch.tensor([[1e-45, -0.0], [3.4e38, -3.4e38]])
    synthetic_file.write(tmp_path / "a", SyntheticSet(images, torch.ones(1, 1)))
    back = synthetic_file.read(tmp_path / "a").images
    assert torch.equal(back.view(torch.int32), images.view(torch.int32))


def test_what_was_read_does_not_change_with_the_file(path: Path) -> None:
    back = synthetic_file.read(path)
    size = path.stat().st_size
    with path.open("r+b") as file:  # in place, as no writer of ours does it
        file.seek(size - 400)
        file.write(b"\xff" * 400)
    assert torch.equal(back.labels, example().labels)


def test_sets_move_to_the_device_asked_for(path: Path, device: torch.device) -> None:
    back = synthetic_file.read(path, device)
    assert back.images.device.type == back.labels.device.type == device.type
    assert synthetic_file.digest(back) == synthetic_file.digest(example())
    synthetic_file.write(path, back)
    assert torch.equal(synthetic_file.read(path).images, example().images)


def test_the_digest_is_of_the_content() -> None:
    plain = example()
    strided = replace(
        plain,
        images=plain.images.contiguous(memory_format=torch.channels_last),
        labels=plain.labels.t().contiguous().t(),
    )
    assert not strided.images.is_contiguous()
    assert not strided.labels.is_contiguous()
    grown = replace(plain, images=plain.images.clone().requires_grad_())
    named = replace(plain, provenance={})
    expected = hashlib.sha256(
        b"2(6, 3, 8, 8)"
        + plain.images.numpy().tobytes()
        + b"(6, 3)"
        + plain.labels.numpy().tobytes()
    ).hexdigest()
    for same in (plain, strided, grown, named):
        assert synthetic_file.digest(same) == expected
    changed = plain.images.clone()
    changed[5, 2, 7, 7] += 1e-6
    for other in (
        replace(plain, partition=1),
        replace(plain, images=changed),
        replace(plain, labels=plain.labels.flip(0)),
    ):
        assert synthetic_file.digest(other) != expected


def test_a_strided_set_is_stored_in_order(tmp_path: Path) -> None:
    plain = example()
    strided = replace(plain, images=plain.images.transpose(2, 3))
    synthetic_file.write(tmp_path / "a", strided)
    assert torch.equal(synthetic_file.read(tmp_path / "a").images, strided.images)


def refused(path: Path, reason: str = "not a readable") -> None:
    with pytest.raises(RecordError, match=reason) as caught:
        synthetic_file.read(path)
    assert str(path) in str(caught.value)
    assert "not a readable synthetic set" in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path)


@pytest.mark.parametrize("place", [-1, -200, -1000])
def test_a_changed_byte_is_noticed(place: int, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1  # the least bit of a label's exponent, or of a pixel
    path.write_bytes(bytes(content))
    refused(path, "checksum|sum to 1|not finite")


def test_a_checksum_of_something_else_is_refused(tmp_path: Path) -> None:
    header = {"partition": 1, "sha256": "0" * 64, "provenance": {}}
    store(tmp_path / "a", header, images=example().images, labels=example().labels)
    refused(tmp_path / "a", "does not match its checksum")


def store(path: Path, header: object, **tensors: Tensor) -> None:
    """A safetensors file with any header."""
    path.write_bytes(save(tensors, metadata={"dcbench": json.dumps(header)}))


@pytest.mark.parametrize("missing", ["partition", "sha256", "provenance"])
def test_a_header_without_a_field_is_refused(missing: str, tmp_path: Path) -> None:
    header = {
        "partition": 2,
        "sha256": synthetic_file.digest(example()),
        "provenance": {},
    }
    tensors = {"images": example().images, "labels": example().labels}
    store(tmp_path / "a", header, **tensors)
    assert synthetic_file.read(tmp_path / "a").partition == 2
    del header[missing]
    store(tmp_path / "a", header, **tensors)
    refused(tmp_path / "a", f"missing required field `{missing}`")


@pytest.mark.parametrize("header", [None, [], 3, "text", {"partition": None}])
def test_a_header_of_another_kind_is_refused(header: object, tmp_path: Path) -> None:
    store(tmp_path / "a", header, images=example().images, labels=example().labels)
    refused(tmp_path / "a")


NESTED = "[" * 100_000 + "]" * 100_000
HOSTILE = {
    "nested": ("provenance", NESTED, "Expected `object`"),
    "nested within": ("provenance", f'{{"a": {NESTED}}}', "recursion"),
    "infinite": ("partition", "Infinity", "malformed"),
    "true parts": ("partition", "true", "Expected `int`"),
    "half a part": ("partition", "1.5", "Expected `int`"),
    "long": ("sha256", '"' + " " * 2**24 + '"', "a header of"),
    "surrogate": ("provenance", r'{"a": "\ud800"}', "surrogate|truncated"),
    "whitening": ("provenance", '{"zca": true}', "zca"),
    "rate": ("provenance", '{"learning_rate": "x"}', "learning_rate"),
    "true rate": ("provenance", '{"learning_rate": true}', "learning_rate"),
    "data": ("provenance", '{"dataset_sha256": 1}', "dataset_sha256"),
}


@pytest.mark.parametrize(
    ("field", "text", "reason"), HOSTILE.values(), ids=list(HOSTILE)
)
def test_a_hostile_header_is_refused(
    field: str, text: str, reason: str, tmp_path: Path
) -> None:
    good = {
        "partition": "2",
        "sha256": json.dumps(synthetic_file.digest(example())),
        "provenance": "{}",
    }
    tensors = {"images": example().images, "labels": example().labels}
    for values in (good, {**good, field: text}):
        entries = ", ".join(f'"{name}": {value}' for name, value in values.items())
        content = save(tensors, metadata={"dcbench": "{" + entries + "}"})
        (tmp_path / "a").write_bytes(content)
        if values is good:
            synthetic_file.read(tmp_path / "a")
    refused(tmp_path / "a", reason)


def test_a_provenance_that_is_no_json_is_not_written(tmp_path: Path) -> None:
    endless = replace(example(), provenance={"learning_rate": float("inf")})
    with pytest.raises(ValueError, match="Out of range"):
        synthetic_file.write(tmp_path / "a", endless)


def test_shapes_are_refused_before_numbers_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = {"partition": 1, "sha256": "", "provenance": {}}
    small = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    store(tmp_path / "a", header, images=small, labels=example().labels)
    monkeypatch.setattr(synthetic_file, "MOST_BYTES", 4 * small.numel() - 1)
    monkeypatch.setattr(synthetic_file, "SyntheticSet", None)  # calling it would raise
    refused(tmp_path / "a", "bytes as float32")


INFO = DatasetInfo(
    name="three",
    title="Three",
    classes=3,
    channels=3,
    size=8,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    class_names=("a", "b", "c"),
)
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"classes": 4}, "labels of 3 classes.*--dataset"),
    "size": ({"size": 16}, "images of 3x8x8.*--dataset"),
    "channels": ({"channels": 1}, "images of 3x8x8.*--dataset"),
    "mean": ({"mean": (0.5,)}, "1 means"),
    "deviation": ({"std": ()}, "0 deviations"),
    "names": ({"class_names": ("a",)}, "1 names"),
    "long title": ({"title": "a" * 300}, "255 characters"),
    "long name": ({"class_names": ("a", "b", "c" * 300)}, "255 characters"),
}


@pytest.mark.parametrize(("changes", "reason"), UNFIT.values(), ids=list(UNFIT))
def test_facts_that_do_not_fit_the_tensors(
    changes: dict[str, Any], reason: str, path: Path
) -> None:
    synthetic_file.check_fits(path, example(), INFO)
    with pytest.raises(DataError, match=reason) as caught:
        synthetic_file.check_fits(path, example(), structs.replace(INFO, **changes))
    assert str(path) in str(caught.value)


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    header = {"partition": 1, "sha256": "", "provenance": {}}
    store(tmp_path / "a", header, labels=example().labels)
    refused(tmp_path / "a", "images")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(save({"images": example().images}))
    refused(foreign, "no 'dcbench' in its header")
    (tmp_path / "a.pt").write_bytes(pickle.dumps([1, 2, 3]))
    refused(tmp_path / "a.pt")
    torch.save({"images": example().images}, tmp_path / "b.pt")
    refused(tmp_path / "b.pt")
    (tmp_path / "text").write_text("not a set", encoding="utf-8")
    refused(tmp_path / "text")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (tmp_path / "run",)

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "a.safetensors")
    assert not (tmp_path / "run").exists()


def test_a_folder_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    refused(tmp_path)
    refused(tmp_path / "missing.safetensors", "No such file")


def test_a_file_of_absurd_size_is_refused(path: Path) -> None:
    os.truncate(path, synthetic_file.MOST_BYTES)  # takes no room on the disk
    with pytest.raises(RecordError, match="not a readable") as caught:
        synthetic_file.read(path)
    assert "larger than" not in str(caught.value)
    os.truncate(path, synthetic_file.MOST_BYTES + 1)
    refused(path, "larger than")


def bent(**changes: Any) -> SyntheticSet:
    """A set with fields that its constructor would refuse in a test run."""
    made = example()
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


def with_value(value: float) -> Tensor:
    images = example().images.clone()
    images[3, 1, 4, 4] = value
    return images


BENT = {
    "five axes": ({"images": torch.zeros(6, 3, 8, 8, 1)}, "5 axes"),
    "three axes": ({"images": torch.zeros(6, 8, 8)}, "3 axes"),
    "double": ({"images": torch.zeros(6, 3, 8, 8).double()}, "float64"),
    "pixels": ({"images": torch.zeros(6, 3, 8, 8, dtype=torch.uint8)}, "uint8"),
    "two channels": ({"images": torch.zeros(6, 2, 8, 8)}, r"shape \(2, 8, 8\)"),
    "oblong": ({"images": torch.zeros(6, 3, 8, 4)}, r"shape \(3, 8, 4\)"),
    "more images": ({"images": torch.zeros(7, 3, 8, 8)}, "7 images and 6 labels"),
    "nan": ({"images": with_value(float("nan"))}, "images that are not finite"),
    "infinity": ({"images": with_value(float("inf"))}, "images that are not finite"),
    "classes": ({"labels": torch.zeros(6, dtype=torch.int64)}, "labels with 1 axes"),
    "half": ({"labels": torch.full((6, 2), 0.5).half()}, "float16"),
    "nan label": ({"labels": torch.full((6, 2), float("nan"))}, "labels that are not"),
    "zeros": ({"labels": torch.zeros(6, 3)}, "do not sum to 1"),
    "heavy": ({"labels": torch.ones(6, 3)}, "do not sum to 1"),
    "none": (
        {"images": torch.zeros(0, 3, 8, 8), "labels": torch.zeros(0, 3)},
        "0 images and 0 labels",
    ),
    "thirds": ({"partition": 3}, "partition 3 of 8 pixels"),
    "no part": ({"partition": 0}, "partition 0 of 8 pixels"),
    "negative": ({"partition": -2}, "partition -2 of 8 pixels"),
    "too many parts": ({"partition": 8}, "partition 8; at most 4"),
}


@pytest.mark.parametrize(("changes", "reason"), BENT.values(), ids=list(BENT))
def test_what_is_no_set_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    synthetic_file.check(example())
    wrong = bent(**changes)
    with pytest.raises(ValueError, match=reason):
        synthetic_file.check(wrong)
    header = {
        "partition": wrong.partition,
        "sha256": synthetic_file.digest(wrong),
        "provenance": {},
    }
    store(tmp_path / "a", header, images=wrong.images, labels=wrong.labels)
    refused(tmp_path / "a")


class FullDiskError(OSError):
    """Stands for a disk without room."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("error", [FullDiskError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_what_was_there(
    call: str,
    old: bool,
    error: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "set.safetensors"
    if old:
        synthetic_file.write(target, example())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise error

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    writes: list[Callable[[], None]] = [
        lambda: synthetic_file.write(target, example(partition=1)),
        lambda: checkpoint.write(target, {"a": torch.zeros(3)}),
    ]
    for write in writes:
        with pytest.raises((error, OutputError)):
            write()
        after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert after == before


def test_nothing_but_the_file_is_left(path: Path) -> None:
    synthetic_file.write(path, example(partition=1))
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert synthetic_file.read(path).partition == 1


def test_a_file_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, rename = os.fsync, Path.replace

    def flushed(number: int) -> None:
        calls.append("fsync")
        fsync(number)

    def renamed(self: Path, target: Path) -> Path:
        calls.append("replace")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    synthetic_file.write(tmp_path / "a", example())
    assert calls[:2] == ["fsync", "replace"]


def trees_equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        same = isinstance(other, Tensor) and one.dtype == other.dtype
        return same and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(
            trees_equal(one[key], other[key]) for key in one
        )
    if isinstance(one, (list, tuple)):
        pairs = zip(one, other, strict=True)
        return isinstance(other, list) and all(trees_equal(*pair) for pair in pairs)
    return type(one) is type(other) and bool(one == other)


def test_a_checkpoint_keeps_a_nested_state(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    state = {
        "mask": torch.tensor([True, False]),
        "steps": torch.tensor(7),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "seconds": torch.tensor([0.1, 1e-300], dtype=torch.float64),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.empty(0, 3),
        "stream": torch.Generator().manual_seed(3).get_state(),
        "views": [base, base, base[2:5], base.view(3, 4).t(), base[:1].expand(4)],
        "nested": {"empty": {}, "list": [], "deep": [[{"a/b": base}], None, "text"]},
        "tuple": (1, 2.5, False),
        "large": 2**62,
        "numbers": [0.1, -0.0, 1e308],
    }
    target = tmp_path / "new" / "x.safetensors"
    checkpoint.write(target, state)
    back = checkpoint.read(target)
    assert trees_equal(state, back)
    back["views"][0][3] = -1.0  # once apart, tensors that shared memory are apart
    assert float(back["views"][1][3]) == 3.0
    assert float(base[3]) == 3.0


@pytest.mark.parametrize("state", [{}, [], None, 3, "text", {"a": {}}])
def test_a_checkpoint_may_hold_no_tensor(state: Any, tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "x", state)
    assert trees_equal(state, checkpoint.read(tmp_path / "x"))


def test_a_checkpoint_is_of_the_moment(tmp_path: Path) -> None:
    value = torch.zeros(3)
    checkpoint.write(tmp_path / "x", {"value": value})
    value.fill_(1)
    assert float(checkpoint.read(tmp_path / "x")["value"].sum()) == 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_damaged_checkpoint_says_what_to_do(share: float, tmp_path: Path) -> None:
    target = tmp_path / "x.safetensors"
    checkpoint.write(target, {"a": torch.arange(50), "b": [1, 2]})
    content = target.read_bytes()
    target.write_bytes(content[: int(share * len(content))])
    unreadable(target)


def unreadable(target: Path) -> None:
    with pytest.raises(RecordError, match=r"not a readable checkpoint.*--fresh") as it:
        checkpoint.read(target)
    assert str(target) in str(it.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(save({"a": torch.zeros(2)}))
    unreadable(plain)
    plain.write_bytes(save({"a": torch.zeros(2)}, metadata={"tree": "{nonsense"}))
    unreadable(plain)
    lost = json.dumps({"a": {"$tensor": "17"}})
    plain.write_bytes(save({"0": torch.zeros(2)}, metadata={"tree": lost}))
    unreadable(plain)
    plain.write_bytes(pickle.dumps({"a": 1}))
    unreadable(plain)
    unreadable(tmp_path)
    unreadable(tmp_path / "missing")
