"""Several files in one command: shared data, failures apart, changes noticed."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import msgspec
import pytest
import torch
from commandline import NETWORK, found, invoke, settable, tiny

from dcbench_bacon import errors, store
from dcbench_bacon.data import loading, whitening
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.schema import Cell, Record

FIXED = (
    *("--preset", "demo", "--architectures", NETWORK, "--device", "cpu"),
    *settable("protocol.epochs", 1),
    *settable("protocol.networks", 1),
)
PAIR = ("--dataset", "digits", "--zca", "--normalized")


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A set of DM."""
    fixed = ("--methods", "dm", "--ipc", 1, "--output", tmp_path / "run")
    assert invoke("run", *fixed, *tiny(steps=1, epochs=1, networks=1)).exit_code == 0
    (path,) = (tmp_path / "run" / "synthetic").glob("*.safetensors")
    return path


def changed(made: Path, to: Path, factor: float) -> Path:
    """The set of a file with other images, in another file."""
    synthetic = synthetic_file.read(made)
    images = synthetic.images * factor
    synthetic_file.write(to, replace(synthetic, images=images))
    return to


def counted(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> list[tuple[Any, ...]]:
    """The calls of a function of a module from now on."""
    calls: list[tuple[Any, ...]] = []
    own: Callable[..., Any] = getattr(module, name)

    def function(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return own(*arguments, **options)

    monkeypatch.setattr(module, name, function)
    return calls


@pytest.mark.parametrize("command", ["evaluate", "quality", "continual"])
@pytest.mark.slow
def test_a_data_set_is_loaded_and_whitened_once(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    pairs = []
    for factor in (0.9, 0.8):
        file = changed(made, tmp_path / f"{factor}.safetensors", factor)
        pairs.append(tmp_path / f"digits-{factor}")
        to = ("--to", "mtt", "--output", pairs[-1])
        assert invoke("convert", file, *to).exit_code == 0
    loads = counted(monkeypatch, loading, "load")
    whitened = counted(monkeypatch, whitening, "whiten")
    options = {
        "evaluate": FIXED,
        "quality": ("--architecture", NETWORK, "--epochs", 2, "--device", "cpu"),
        "continual": (*FIXED, "--orders", 1, "--tasks", 1),
    }[command]
    done = invoke(command, *pairs, *PAIR, *options, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(loads) == len(whitened) == 1


def test_a_bad_and_a_diverging_file_do_not_end_the_others(
    made: Path, tmp_path: Path
) -> None:
    bad, wild = tmp_path / "bad.safetensors", tmp_path / "wild.safetensors"
    bad.write_bytes(made.read_bytes()[:100])
    changed(made, wild, 1e30)
    output = tmp_path / "out"
    files = (bad, wild, tmp_path / "missing.pt", made)
    done = invoke("evaluate", *files, *FIXED, "--output", output)
    assert done.exit_code == 1
    assert str(made) in done.stdout
    for path in files[:3]:
        assert f"error: {path}" in done.stderr
    assert "3 of 4 files failed" in done.stderr
    records = {record.status: record for record in found(output)}
    assert set(records) == {"done", "diverged"}
    assert "Traceback" in str(records["diverged"].traceback)
    notes = {path.name.split("-")[0]: path for path in output.glob("failures/*.txt")}
    assert set(notes) == {"bad.safetensors", "missing.pt"}
    assert "Traceback" in notes["bad.safetensors"].read_text()
    copyfile(made, bad)
    assert invoke("evaluate", bad, *FIXED, "--output", output).exit_code == 0
    assert not notes["bad.safetensors"].exists()


def test_a_bad_file_does_not_end_the_quality_of_others(
    made: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"x")
    fixed = ("--architecture", NETWORK, "--epochs", 2, "--device", "cpu")
    done = invoke("quality", bad, made, *fixed, "--output", tmp_path / "out")
    assert done.exit_code == 1
    assert f"error: {bad}" in done.stderr
    assert made.name in done.stdout


@pytest.mark.slow
def test_a_file_that_changes_while_its_lock_is_awaited_is_read_again(
    made: Path, tmp_path: Path
) -> None:
    output, path = tmp_path / "out", tmp_path / "set.safetensors"
    changed(made, path, 0.5)
    assert invoke("evaluate", path, *FIXED, "--output", output).exit_code == 0
    (lock,) = (output / "checkpoints").glob(".*.lock")
    newer = synthetic_file.read(changed(made, tmp_path / "newer", 2.0))
    held = threading.Event()

    def hold() -> None:
        (record,) = found(output)
        digest = lock.name.removesuffix(".lock").split("-")[-2]
        taken = store.Store(output).lock(record.cell, digest, record.dataset_sha256)
        taken.acquire()
        held.set()
        time.sleep(4)
        synthetic_file.write(path, newer)
        taken.release()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    done = invoke("evaluate", path, *FIXED, "--output", output)
    other.join()
    assert done.exit_code == 0, done.output
    assert "waiting for process " in done.stderr
    assert "has changed, so it is read again" in done.stderr
    assert synthetic_file.digest(newer) in {
        record.synthetic_sha256 for record in found(output)
    }
    assert len(found(output)) == 2


def test_an_equal_copy_does_not_rename_the_first(made: Path, tmp_path: Path) -> None:
    output, pixels = tmp_path / "out", synthetic_file.read(made)
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    torch.save([pixels.images, pixels.labels.argmax(1)], first)
    copyfile(first, second)
    told = ("--dataset", "digits", "--no-zca", "--normalized", "--output", output)
    for path in (first, second):
        done = invoke("evaluate", path, *FIXED, *told)
        assert done.exit_code == 0, done.output
    assert "recorded as first.pt" in done.stderr
    assert [record.name for record in found(output)] == ["first.pt"]
    done = invoke("evaluate", second, *FIXED, *told, "--name", "mine")
    assert "renamed from first.pt to mine" in done.stderr
    assert [record.name for record in found(output)] == ["mine"]


def test_two_results_of_one_file_name_are_refused(made: Path) -> None:
    folder = store.Store(made.parents[1])
    (record,) = found(folder.root)
    other = Cell("random", "my set", 1)
    twin = Cell("random", "my_set", 1)
    folder.write(_of(record, other))
    before = {path.name: path.read_bytes() for path in folder.root.rglob("*.json")}
    with pytest.raises(errors.RecordError, match="would have the same name"):
        folder.write(_of(record, twin))
    assert before == {
        path.name: path.read_bytes() for path in folder.root.rglob("*.json")
    }
    folder.write(_of(record, other))  # its own successor is not refused


def _of(record: Record, cell: Cell) -> Record:
    """A record of another cell."""
    return msgspec.structs.replace(record, cell=cell)
