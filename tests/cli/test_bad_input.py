"""Bad input ends in a message that names the thing and the remedy."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import (
    NETWORK,
    found,
    invoke,
    leftovers,
    only_record,
    only_set,
    settable,
    tiny,
)
from PIL import Image

from dcbench_bacon import contract, plugins
from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.errors import OutputError
from dcbench_bacon.plugins import DATASETS, METHODS
from dcbench_bacon.runtime.disk import checkpoint, files


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests, and shuts out what the user has."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    monkeypatch.setenv("DCBENCH_DATA", str(tmp_path / "no data"))


def command(output: Path, *extra: object, methods: str = "dm") -> list[object]:
    """A run of a moment; later options win."""
    fixed = ["run", "--methods", methods, "--ipc", 1, "--output", output]
    return [*fixed, *tiny(), *extra]


@pytest.mark.parametrize(
    ("extra", "named", "near", "listed"),
    [
        (("--methods", "bacom"), "method 'bacom'", "'bacon'", METHODS.names()),
        (("--methods", "dm,zzz"), "method 'zzz'", "", METHODS.names()),
        (("--datasets", "cifar"), "data set 'cifar'", "'cifar10", DATASETS.names()),
        (("--datasets", "qqq"), "data set 'qqq'", "", DATASETS.names()),
        (("--architectures", "ConvNte"), "ConvNte", "'ConvNet'", ["ConvNetD1"]),
        (
            settable("image_lrr", 1),
            "image_lrr: no such recipe key",
            "'image_lr'",
            ["batch_real", "steps", "protocol.epochs"],
        ),
        (
            settable("protocol.epoch", 1),
            "protocol.epoch: no such recipe key",
            "'protocol.epochs'",
            ["protocol.networks"],
        ),
        (settable("queue_size", 1), "queue_size", "", ["batch_real"]),
        (("--protocol", "dd"), "protocol 'dd'", "", ["dc"]),
    ],
)
def test_unknown_names(
    extra: tuple[str, ...], named: str, near: str, listed: list[str], tmp_path: Path
) -> None:
    result = invoke(*command(tmp_path / "results", *extra))
    assert result.exit_code == 2
    assert named in result.stderr
    assert not near or f"Did you mean {near}" in result.stderr
    message = " ".join(result.stderr.replace("│", " ").split())
    assert all(name in message for name in listed), message
    assert not (tmp_path / "results").exists()


def test_an_unknown_architecture_in_a_recipe_fails_its_cell(tmp_path: Path) -> None:
    result = invoke(*command(tmp_path, *settable("architecture", "ConvNte")))
    assert result.exit_code in (1, 2)
    assert "ConvNte" in result.stderr
    assert "ConvNet" in result.stderr.replace("ConvNte", "")


def test_more_images_than_a_class_has(tmp_path: Path) -> None:
    result = invoke(*command(tmp_path, "--ipc", "1,1000"))
    assert result.exit_code == 1
    states = {record.cell.ipc: record for record in found(tmp_path)}
    assert states[1].status == "done"
    assert states[1000].status == "failed"
    assert "ipc 1000 is more than the" in str(states[1000].error)
    assert "training images of class" in str(states[1000].error)
    assert str(states[1000].error) in result.stderr


@pytest.mark.parametrize("ipc", ["0", "-1", "1,0", "1.5", ""])
def test_ipc_below_one(ipc: str, tmp_path: Path) -> None:
    result = invoke(*command(tmp_path / "results", "--ipc", ipc))
    assert result.exit_code == 2
    assert "--ipc" in result.stderr
    assert not (tmp_path / "results").exists()


def folder(root: Path, classes: int = 2, each: int = 3) -> Path:
    """A data set of random images."""
    pixels = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(classes):
            place = root / split / f"class{label}"
            place.mkdir(parents=True)
            for index in range(each):
                image = pixels.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(image).save(place / f"{index}.png")
    return root


def test_a_folder_is_a_data_set(tmp_path: Path) -> None:
    name = f"folder:{folder(tmp_path / 'mine')}"
    result = invoke(*command(tmp_path / "results", "--datasets", name))
    assert result.exit_code == 0, result.output
    assert only_record(tmp_path / "results").cell.dataset == "mine"


def empty_class(root: Path) -> Path:
    """Leaves a class without an image."""
    place = root / "train" / "class1"
    for path in place.iterdir():
        path.unlink()
    return place


def unreadable(root: Path) -> Path:
    """Makes a file that is no image."""
    path = root / "train" / "class0" / "1.png"
    path.write_bytes(b"no image")
    return path


def truncated(root: Path) -> Path:
    """Cuts an image short."""
    path = root / "test" / "class0" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])
    return path


def missing(root: Path) -> Path:
    """Removes the test split."""
    (root / "test").rename(root / "elsewhere")
    return root


@pytest.mark.parametrize("damage", [empty_class, unreadable, truncated, missing])
def test_a_bad_folder_fails_its_cells_alone(
    damage: Callable[[Path], Path], tmp_path: Path
) -> None:
    root = folder(tmp_path / "mine")
    named = damage(root)
    output = tmp_path / "results"
    names = f"folder:{root},digits"
    result = invoke(*command(output, "--datasets", names))
    assert result.exit_code == 1
    states = {record.cell.dataset: record for record in found(output)}
    assert states["digits"].status == "done"
    assert states["mine"].status == "failed"
    assert str(named) in str(states["mine"].error)
    assert str(named) in result.stderr


def test_missing_data_fails_its_cells_alone(tmp_path: Path) -> None:
    output = tmp_path / "results"
    result = invoke(*command(output, "--datasets", "mnist,digits", methods="dm,random"))
    assert result.exit_code == 1
    states = {f"{record.cell}": record for record in found(output)}
    for method in ("dm", "random"):
        assert states[f"digits-ipc1-{method}-s0"].status == "done"
        error = str(states[f"mnist-ipc1-{method}-s0"].error)
        assert "dcbench data get mnist" in error
        assert str(tmp_path / "no data") in error
    assert "2 of 4 cells did not run for want of mnist" in result.stderr


@pytest.mark.parametrize("blocked", ["results", "file/results"])
def test_an_output_that_is_a_file(blocked: str, tmp_path: Path) -> None:
    (tmp_path / blocked.partition("/")[0]).write_text("mine")
    result = invoke(*command(tmp_path / blocked))
    assert result.exit_code == 2
    assert f"cannot write to the output folder {tmp_path / blocked}" in result.stderr
    assert "--output" in result.stderr
    assert (tmp_path / blocked.partition("/")[0]).read_text() == "mine"


def test_a_read_only_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if "w" in mode and self.is_relative_to(tmp_path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", refuse)
    result = invoke(*command(tmp_path / "results"))
    assert result.exit_code == 2
    assert "cannot write to the output folder" in result.stderr
    assert "Permission denied" in result.stderr
    assert "--output" in result.stderr


class FullDisk:
    """Lets a file take half its bytes, if its name has a part."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.opened = Path.open

    def __call__(self, path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        file = self.opened(path, mode, *more, **named)
        if "w" not in mode or self.part not in str(path):
            return file

        def write(content: bytes) -> int:
            file.write(content[: len(content) // 2])
            file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Half(file, write)


class Half:
    """A file whose ``write`` fails."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self.file = file
        self.write = write

    def __enter__(self) -> "Half":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@pytest.mark.parametrize("part", ["/records/", "/synthetic/", "/checkpoints/"])
@pytest.mark.slow
def test_a_full_disk(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "results"
    arguments = command(output, "--checkpoint-every", 0)
    full = FullDisk(part)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *args, **named: full(*args, **named))
        result = invoke(*arguments)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert str(output) in result.stderr
    assert "make room" in result.stderr
    assert "--output" in result.stderr
    assert not found(output)
    assert not list(output.rglob("*.tmp"))
    assert not list(output.rglob(".*.tmp"))
    assert invoke(*arguments).exit_code == 0
    assert only_record(output).status == "done"
    assert not leftovers(output)


def test_a_file_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old")
    full = FullDisk("file")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *args, **named: full(*args, **named))
        with pytest.raises(OutputError, match="No space"):
            files.write_atomically(path, b"new content")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"[1]", b"\xff\xfe", b'{"version": 2}']
)
@pytest.mark.slow
def test_a_broken_record(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = command(tmp_path, methods="dm,random")
    assert invoke(*arguments).exit_code == 0
    (path,) = (tmp_path / "records").glob("*dm*.json")
    good = path.read_bytes()
    path.write_bytes(content)
    table = invoke("table", "--output", tmp_path, "--preset", "demo")
    assert table.exit_code == 0
    assert "Random" in table.stdout
    assert "DM" not in table.stdout
    assert str(path) in caplog.text
    again = invoke(*arguments)
    assert again.exit_code == 0
    assert str(path) in again.stderr
    assert again.stderr.count("already done") == 1
    assert path.read_bytes()[:100] == good[:100]


@pytest.mark.slow
def test_a_method_that_was_edited_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = command(tmp_path, methods="dm")
    assert invoke(*arguments).exit_code == 0
    quiet = invoke(*arguments).stderr
    monkeypatch.setattr(plugins, "code_sha256", lambda *_: "0" * 64)
    told = invoke(*arguments).stderr
    line = "dm.py, or code of dcbench that it uses, has changed since; --fresh distils"
    assert "already done" in told
    assert (line in quiet, line in told) == (False, True)
    assert line not in invoke(*arguments, "--fresh").stderr
    assert line not in invoke(*arguments).stderr


def interrupted(output: Path) -> Path:
    """Returns the checkpoint of a run that ended after two steps."""
    step = DistributionMatching.step

    def until_the_third(self: DistributionMatching, index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt
        step(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistributionMatching, "step", until_the_third)
        stopped = invoke(*command(output), "--checkpoint-every", 0)
    assert stopped.exit_code == 130
    (path,) = (output / "checkpoints").glob("*/match.safetensors")
    return path


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    arguments, path = command(tmp_path), interrupted(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    result = invoke(*arguments)
    assert result.exit_code == 1
    record = only_record(tmp_path)
    assert record.status == "failed"
    for text in (str(path), "delete it", "--fresh"):
        assert text in str(record.error)
        assert text in result.stderr
    assert invoke(*arguments, "--fresh").exit_code == 0


def test_a_checkpoint_of_other_content(tmp_path: Path) -> None:
    arguments, path = command(tmp_path), interrupted(tmp_path)
    checkpoint.write(path, {"index": 3})
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert str(path) in str(only_record(tmp_path).error)


def flip(path: Path) -> None:
    """Changes a byte in the middle of the tensors."""
    content = bytearray(path.read_bytes())
    content[-200] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Cuts a file short."""
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_set(damage: Callable[[Path], None], tmp_path: Path) -> None:
    assert invoke(*command(tmp_path)).exit_code == 0
    before = only_set(tmp_path)
    (path,) = (tmp_path / "synthetic").iterdir()
    damage(path)
    other = command(tmp_path, *settable("protocol.networks", 1))
    result = invoke(*other)
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert "--fresh" in result.stderr
    judged = invoke("evaluate", path)
    assert judged.exit_code == 1
    assert str(path) in judged.stderr
    assert invoke(*other, "--fresh").exit_code == 0
    assert only_set(tmp_path).equal(before)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, TypeError, KeyError])
def test_a_method_that_breaks_fails_its_cell_alone(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise error("something odd")

    monkeypatch.setattr(contract.method_class("dm"), "distill", broken)
    result = invoke(*command(tmp_path, methods="dm,random"))
    assert result.exit_code == 1
    states = {record.cell.method: record for record in found(tmp_path)}
    assert states["random"].status == "done"
    assert states["dm"].status == "failed"
    assert error.__name__ in str(states["dm"].error)
    assert "something odd" in str(states["dm"].error)


def test_a_partition_that_does_not_fit(tmp_path: Path) -> None:
    result = invoke(*command(tmp_path, *settable("partition", 3), methods="idm"))
    assert result.exit_code == 1
    assert "partition 3 does not divide" in str(only_record(tmp_path).error)


def test_an_image_too_small_for_a_network(tmp_path: Path) -> None:
    result = invoke(*command(tmp_path, "--architectures", f"{NETWORK},ConvNetD0"))
    assert result.exit_code == 2
    assert "ConvNetD0" in result.stderr
