"""What is recorded stays until its successor is complete, and answers its question."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from commandline import found, invoke
from PIL import Image

from dcbench_bacon import contract, store
from dcbench_bacon.contract import Run
from dcbench_bacon.data import loading
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.downstream_store import Candidate, search_folder
from dcbench_bacon.errors import DataError, InterruptedRunError
from dcbench_bacon.field_types import Use
from dcbench_bacon.running import cell
from dcbench_bacon.running.grids.datasets import Datasets
from dcbench_bacon.running.grids.trainings import TrainingJob
from dcbench_bacon.running.grids.trainings import run as train
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.runtime.disk.redo import Redo
from dcbench_bacon.schema import Evaluation, Record
from dcbench_bacon.store import Store
from dcbench_bacon.training.task import Task

pytestmark = pytest.mark.usefixtures("cache", "stubbed")
FIXED = ("--preset", "demo", "--device", "cpu")
RANDOM = contract.method_class("random")


@pytest.fixture
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


@pytest.fixture
def stubbed(evaluate_by: Callable[[Any], None]) -> None:
    """Trains no network: the accuracy follows from the set and the test images."""
    evaluate_by(evaluated)


def evaluated(run: Run, task: Task, *title: str) -> list[Evaluation]:
    """One network, whose accuracy tells sets and tests apart."""
    told = float(task.synthetic.images.double().sum() + len(task.test.labels) / 7)
    accuracy = abs(told) % 1
    return [
        Evaluation(
            architecture="ConvNet", trial=0, accuracy=accuracy, epoch=1, seconds=0.0
        )
    ]


def run(output: Path, *options: object, datasets: object = "digits") -> Any:
    """Runs cells of ``random``, which takes its images from the training split."""
    fixed = ("--methods", "random", "--datasets", datasets, "--ipc", 1)
    return invoke("run", *fixed, *FIXED, "--no-download", "--output", output, *options)


def interrupted(*_: object) -> Any:
    """A second Ctrl-C."""
    raise KeyboardInterrupt


def broken(*_: object) -> Any:
    """A mistake in a method."""
    raise ValueError("something odd")


def other_images(self: object, run: Run) -> SyntheticSet:
    """Another set each time."""
    stream = torch.Generator().manual_seed(time.perf_counter_ns())
    info = run.info
    shape = (info.classes, info.channels, info.size, info.size)
    return SyntheticSet(torch.randn(shape, generator=stream), torch.eye(info.classes))


def folder(path: Path, *, seed: int = 0, tests: int = 2) -> Path:
    """Random images of two classes."""
    draws = np.random.default_rng(seed)
    for split, count in (("train", 3), ("test", tests)):
        for name in ("one", "two"):
            place = path / split / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.png")
    return path


def contents(output: Path) -> dict[str, bytes]:
    """The files of records and sets."""
    return {
        path.name: path.read_bytes()
        for name in ("records", "synthetic")
        for path in (output / name).iterdir()
    }


def done(output: Path) -> list[Record]:
    """The finished records."""
    return [record for record in found(output) if record.status == "done"]


def assert_sets_are_there(output: Path) -> None:
    """Every finished record's set is on disk, whole."""
    sets = (output / "synthetic").glob("*.safetensors")
    known = {synthetic_file.digest(synthetic_file.read(path)) for path in sets}
    assert {record.synthetic_sha256 for record in done(output)} <= known


def test_a_record_that_names_no_images_stays_beside_a_new_one(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    (path,) = (tmp_path / "records").iterdir()
    (record,) = found(tmp_path)
    older = msgspec.structs.replace(record, dataset_sha256=None)
    unnamed = Store(tmp_path).write(older)
    assert unnamed != path
    Store(tmp_path).write(record)
    assert unnamed.exists()


@pytest.mark.slow
def test_a_record_of_another_validation_split_is_not_taken(tmp_path: Path) -> None:
    held = ("--selection", "best_val")
    assert run(tmp_path, *held).exit_code == 0
    (record,) = found(tmp_path)
    assert record.validation_sha256
    assert "already done" in run(tmp_path, *held).output
    for known, said in (("0" * 64, "runs again"), (None, "does not name the images")):
        older = msgspec.structs.replace(record, validation_sha256=known)
        Store(tmp_path).write(older)
        assert said in run(tmp_path, *held).output


# --fresh


def test_a_request_that_always_fails_is_fulfilled(
    tmp_path: Path, evaluate_by: Callable[[Any], None]
) -> None:
    assert run(tmp_path).exit_code == 0
    before = done(tmp_path)
    evaluate_by(broken)
    assert run(tmp_path, "--fresh").exit_code == 1
    assert run(tmp_path).exit_code == 0  # nothing runs again
    assert done(tmp_path) == before


@pytest.mark.slow
def test_a_fresh_start_that_is_stopped_has_removed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluate_by: Callable[[Any], None]
) -> None:
    seeds = ("--seeds", "0,1,2")
    assert run(tmp_path, *seeds).exit_code == 0
    before = contents(tmp_path)
    made: list[object] = []

    def second(run: Run, task: Task) -> list[Evaluation]:
        made.append(task)
        return interrupted() if len(made) == 2 else evaluated(run, task)

    evaluate_by(second)
    argv = ["dcbench", "run", "--fresh", "--seeds", "0,1,2"]
    monkeypatch.setattr(sys, "argv", argv)
    stopped = run(tmp_path, *seeds, "--fresh")
    assert stopped.exit_code == 130
    assert "the last checkpoint is kept" in stopped.stderr
    assert "dcbench run --seeds 0,1,2" in stopped.stderr
    assert contents(tmp_path).keys() == before.keys()
    again = run(tmp_path, *seeds)  # what was printed
    assert again.exit_code == 0
    assert again.stderr.count("runs anew, as --fresh has asked") == 2
    assert again.stderr.count("already done") == 1
    assert len(made) == 4
    assert "--fresh" not in run(tmp_path, *seeds).stderr
    assert not list((tmp_path / "checkpoints").glob("*.redo"))


def test_stopped_before_it_is_noted_a_fresh_start_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(Redo, "ask", interrupted)
    monkeypatch.setattr(sys, "argv", ["dcbench", "run", "--fresh"])
    stopped = run(tmp_path, "--fresh")
    assert "dcbench run --fresh" in stopped.stderr
    assert contents(tmp_path) == before


def test_a_request_is_served_once_and_a_later_one_stays(tmp_path: Path) -> None:
    checkpoints = tmp_path / "cell"
    checkpoints.mkdir()
    (checkpoints / "old").touch()
    assert not Redo(checkpoints).begin()
    Redo(checkpoints).ask()
    served = Redo(checkpoints)
    assert served.begin()
    assert not (checkpoints / "old").exists()
    (checkpoints / "new").touch()
    assert Redo(checkpoints).begin()  # after a kill
    assert (checkpoints / "new").exists()
    Redo(checkpoints).ask()  # by another process, meanwhile
    served.end()
    later = Redo(checkpoints)
    assert later.begin()
    assert not (checkpoints / "new").exists()
    later.end()
    assert not Redo(checkpoints).begin()


@pytest.mark.slow
def test_a_set_that_another_record_uses_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ("--set", "protocol.epochs=3")
    run(tmp_path)
    run(tmp_path, *other)
    assert len(list((tmp_path / "synthetic").iterdir())) == 1
    monkeypatch.setattr(RANDOM, "distill", other_images)
    assert run(tmp_path, "--fresh").exit_code == 0
    one, two = done(tmp_path)
    assert one.synthetic_sha256 != two.synthetic_sha256
    assert len(list((tmp_path / "synthetic").iterdir())) == 2
    assert_sets_are_there(tmp_path)
    assert run(tmp_path, *other, "--fresh").exit_code == 0
    assert_sets_are_there(tmp_path)
    assert len(list((tmp_path / "synthetic").iterdir())) == 2


@pytest.mark.parametrize("use", get_args(Use))
def test_a_set_that_a_downstream_record_uses_is_known(use: str, tmp_path: Path) -> None:
    """Otherwise --fresh would remove the set of a record that is still there."""
    folder = tmp_path / use
    folder.mkdir()
    (folder / "one.json").write_text('{"source": {"sha256": "abcd"}}')
    assert Store(tmp_path).names_set("abcd")
    assert not Store(tmp_path).names_set("abce")


@pytest.mark.slow
def test_killed_between_any_two_writes_of_a_fresh_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, and the run that follows goes on with it."""
    other = ("--set", "protocol.epochs=3")
    run(tmp_path)
    run(tmp_path, *other)
    monkeypatch.setattr(RANDOM, "distill", other_images)
    moved = Path.replace
    for fuse in range(1, 30):
        before = {each.digest: each.synthetic_sha256 for each in done(tmp_path)}
        left = fuse

        def replace(self: Path, target: Path) -> Path:
            nonlocal left
            left -= 1
            return interrupted() if left == 0 else moved(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            killed = run(tmp_path, "--fresh").exit_code
        assert len(done(tmp_path)) == 2
        assert_sets_are_there(tmp_path)
        asked = list((tmp_path / "checkpoints").glob("*.redo"))
        assert run(tmp_path).exit_code == 0
        assert_sets_are_there(tmp_path)
        after = {each.digest: each.synthetic_sha256 for each in done(tmp_path)}
        changed = [digest for digest in before if before[digest] != after[digest]]
        assert len(changed) == (1 if asked or killed == 0 else 0)
        assert not list((tmp_path / "checkpoints").glob("*.redo"))
        if killed == 0:
            break
    assert fuse > 5


def test_trainings_of_downstream_uses_are_kept_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    (record,) = done(tmp_path)
    plan = Candidate(
        dataset="digits",
        dataset_sha256="0",
        source=None,
        recipe=record.recipe,
        architecture="ConvNet",
    )
    known = msgspec.structs.replace(plan, evaluations=record.evaluations)
    place = search_folder(Store(tmp_path))
    place.write(known)
    config = RunConfig(torch.device("cpu")).here()
    fresh = RunConfig(torch.device("cpu"), fresh=True).here()
    with pytest.raises(InterruptedRunError):
        train([TrainingJob(plan, interrupted)], place, fresh)
    assert place.find(plan) == known
    with pytest.raises(InterruptedRunError):  # goes on without being asked again
        train([TrainingJob(plan, interrupted)], place, config)
    assert place.find(plan) == known
    module = "dcbench_bacon.running.grids.trainings.evaluate"
    monkeypatch.setattr(module, lambda *_: record.evaluations)
    train([TrainingJob(plan, lambda: None)], place, config)  # type: ignore[arg-type, return-value]
    assert train([TrainingJob(plan, interrupted)], place, config).records  # it is done


# Failures


@pytest.mark.slow
def test_a_failure_stands_beside_the_last_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    (good,) = (tmp_path / "records").iterdir()
    before = good.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(cell, "evaluate", broken)
        failed = run(tmp_path, "--fresh")
    assert failed.exit_code == 1
    assert "its earlier result is kept" in failed.stderr
    assert good.read_bytes() == before
    failure = store.read(tmp_path / "failures" / good.name)
    assert failure.status == "failed"
    assert failure.error == "ValueError: something odd"
    assert "in broken" in str(failure.traceback)
    shown = invoke(
        *("table", "--what", "unfinished", "--preset", "demo"), "--output", tmp_path
    )
    assert "something odd" in shown.stdout
    assert run(tmp_path).exit_code == 0
    assert not list((tmp_path / "failures").iterdir())
    assert len(found(tmp_path)) == 1


def test_a_traceback_is_bounded(
    tmp_path: Path, evaluate_by: Callable[[Any], None]
) -> None:
    def long(*_: object) -> None:
        raise ValueError("x" * 10**6)

    evaluate_by(long)
    run(tmp_path)
    (record,) = found(tmp_path)
    assert len(str(record.traceback)) < 21_000
    assert str(record.traceback).startswith("Traceback")


# Data sets


@pytest.mark.slow
def test_folders_of_one_name_are_different_data_sets(tmp_path: Path) -> None:
    output = tmp_path / "results"
    sources = [
        f"folder:{folder(tmp_path / name / 'images', seed=seed)}"
        for seed, name in enumerate("ab")
    ]
    for source in sources:
        assert run(output, datasets=source).exit_code == 0
    one, two = done(output)
    assert one.cell == two.cell
    assert one.evaluations != two.evaluations
    assert len(list((output / "synthetic").iterdir())) == 2
    together = run(output, datasets=",".join(sources))
    assert together.exit_code == 0
    assert together.stderr.count("already done") == 2
    options = ("--preset", "demo", "--output", output)
    rows = invoke("table", *options, "--format", "csv").stdout.strip().splitlines()[1:]
    assert len({row.split(",")[0] for row in rows}) == 2
    assert done(output) == [one, two]


@pytest.mark.slow
def test_one_content_under_two_paths_is_one_data_set(tmp_path: Path) -> None:
    sources = [f"folder:{folder(tmp_path / name / 'images')}" for name in "ab"]
    result = run(tmp_path / "results", datasets=",".join(sources))
    assert result.exit_code == 0
    assert "[1/1]" in result.stderr
    assert len(done(tmp_path / "results")) == 1
    again = run(tmp_path / "results", datasets=sources[1])
    assert "already done" in again.stderr


@pytest.mark.slow
def test_a_test_image_less_is_another_data_set(tmp_path: Path) -> None:
    images, output = folder(tmp_path / "images"), tmp_path / "results"
    run(output, datasets=f"folder:{images}")
    (first,) = done(output)
    (images / "test" / "one" / "0.png").unlink()
    assert "already done" not in run(output, datasets=f"folder:{images}").stderr
    both = done(output)
    assert len(both) == 2
    assert first in both
    (path,) = (output / "synthetic").glob(f"*{str(first.dataset_sha256)[:8]}*")
    options = ("--dataset", f"folder:{images}", *FIXED, "--output", output)
    judged = invoke("evaluate", path, *options)
    assert judged.exit_code == 0, judged.output
    assert first in done(output)


@pytest.mark.slow
def test_a_finished_record_is_taken_without_its_data(tmp_path: Path) -> None:
    images, output = folder(tmp_path / "images"), tmp_path / "results"
    source = f"folder:{images}"
    run(output, datasets=source)
    images.rename(tmp_path / "away")
    result = run(output, datasets=source)
    assert result.exit_code == 0
    assert "not on disk" in result.stderr
    assert "could not be compared" in result.stderr
    before = contents(output)
    assert run(output, "--fresh", datasets=source).exit_code == 1
    assert contents(output) == before
    folder(images, seed=1)
    run(output, datasets=source)
    images.rename(tmp_path / "away too")
    assert run(output, datasets=source).exit_code == 1  # which of the two?
    assert before.items() <= contents(output).items()


@pytest.mark.slow
def test_records_without_a_data_set_in_their_name_are_found(tmp_path: Path) -> None:
    run(tmp_path)
    (path,) = (tmp_path / "records").iterdir()
    record = store.read(path)
    old = path.with_name(path.name.rpartition("-")[0] + ".json")
    for sha256, taken in ((record.dataset_sha256, True), (None, True), ("0", False)):
        made = msgspec.structs.replace(record, dataset_sha256=sha256)
        old.write_bytes(msgspec.json.encode(made))
        path.unlink(missing_ok=True)
        told = run(tmp_path).stderr
        assert ("already done" in told) == taken
        assert ("does not name the images" in told) == (sha256 is None)
        assert old.exists()
    assert path.exists()
    assert len(done(tmp_path)) == 2


def test_a_data_set_that_changes_in_a_run_is_noticed(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    datasets = Datasets(RunConfig(torch.device("cpu")))
    source = f"folder:{images}"
    known = datasets.fingerprint(source)
    assert datasets[source].raw_fingerprint == known
    (images / "test" / "one" / "0.png").unlink()
    datasets.loaded = None  # another data set came between
    with pytest.raises(DataError, match="have changed since this run began"):
        datasets[source]


def test_a_fingerprint_is_read_without_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"folder:{folder(tmp_path / 'images')}"
    assert loading.known_fingerprint(source) is None
    loaded = loading.load(source)
    monkeypatch.setattr(np, "load", broken)
    assert loading.known_fingerprint(source) == loaded.fingerprint


# Who works on what, and what is swept


def test_run_and_evaluate_take_one_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    lock = Store.lock

    def noted(self: Store, *of: Any) -> Any:
        made = lock(self, *of)
        taken.append(made.lock_file)
        return made

    monkeypatch.setattr(Store, "lock", noted)
    run(tmp_path)
    (path,) = (tmp_path / "synthetic").iterdir()
    assert invoke("evaluate", path, *FIXED, "--output", tmp_path).exit_code == 0
    assert len(set(taken)) == 1
    assert len(taken) > 1


def test_only_own_temporary_files_are_swept(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    own = tmp_path / "records" / f".x.json.{token}.dcbench-tmp"
    others = [
        tmp_path / ".git" / ".pack.1.tmp",
        tmp_path / ".git" / own.name,
        tmp_path / own.name,
        tmp_path / "records" / ".x.json.123.tmp",
        tmp_path / "records" / ".x.dcbench-tmp",
        tmp_path / ".dcbench",
    ]
    for path in (own, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    Store(tmp_path).open()
    assert not own.exists()
    assert all(path.read_bytes() == b"x" for path in others)


# convert


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A set of random digits."""
    run(tmp_path / "run")
    (path,) = (tmp_path / "run" / "synthetic").iterdir()
    return path


def convert(file: Path, to: str, output: Path, *more: object) -> Any:
    """Runs ``convert``."""
    return invoke("convert", file, "--to", to, "--output", output, *more)


@pytest.mark.parametrize("to", ["npz", "mtt", "folder"])
def test_convert_leaves_what_exists(to: str, made: Path, tmp_path: Path) -> None:
    output = tmp_path / "x" if to != "npz" else tmp_path / "x.npz"
    assert convert(made, to, output).exit_code == 0
    files = sorted(output.rglob("*.*")) or [output]
    before = [path.read_bytes() for path in files]
    files[0].write_bytes(b"old")
    refused = convert(made, to, output)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert files[0].read_bytes() == b"old"
    forced = convert(made, to, output, "--force")
    assert forced.exit_code == 0, forced.output
    assert len(files[0].read_bytes()) == len(before[0])
    assert not list(tmp_path.glob(".*.dcbench-tmp"))


def test_convert_leaves_a_folder_of_other_things(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "x"
    assert convert(made, "mtt", output).exit_code == 0
    (output / "notes.txt").touch()
    refused = convert(made, "mtt", output, "--force")
    assert refused.exit_code == 2
    assert "notes.txt" in refused.stderr
    assert convert(made, "npz", output, "--force").exit_code == 2
    assert (output / "notes.txt").exists()


def own(made: Path, folder: Path) -> Iterator[tuple[Path, str, Path]]:
    """Ways to name what is read: input, format, output."""
    yield made, "dcbench", made
    (folder / "link.safetensors").symlink_to(made)
    yield made, "dcbench", folder / "link.safetensors"
    yield folder / "link.safetensors", "dcbench", made
    (folder / "hard.safetensors").hardlink_to(made)
    yield made, "dcbench", folder / "hard.safetensors"
    pair = folder / "digits-pair"
    assert convert(made, "mtt", pair).exit_code == 0
    yield pair, "mtt", pair
    yield pair / "images_best.pt", "mtt", pair
    yield pair / "images_best.pt", "vico", pair / "labels_best.pt"
    yield pair, "npz", pair / "new.npz"
    (folder / "linked.pt").symlink_to(pair / "labels_best.pt")
    yield pair / "images_best.pt", "vico", folder / "linked.pt"


def test_convert_never_writes_over_what_it_reads(made: Path, tmp_path: Path) -> None:
    told = ("--dataset", "digits", "--no-zca", "--normalized")
    for file, to, output in own(made, tmp_path):
        files = [made, *sorted((tmp_path / "digits-pair").glob("*"))]
        before = [path.read_bytes() for path in files]
        claims = () if file.suffix == ".safetensors" else told
        result = convert(file, to, output, "--force", *claims)
        assert result.exit_code == 2, (file, output, result.output)
        assert "would write over" in result.stderr
        assert [path.read_bytes() for path in files] == before
        assert sorted((tmp_path / "digits-pair").glob("*")) == files[1:]


def test_a_folder_is_replaced_when_the_new_one_is_complete(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "x"
    convert(made, "mtt", output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def full(path: Path, value: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dcbench_bacon.exchange.writers._save", full)
    assert convert(made, "mtt", output, "--force").exit_code == 1
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert not list(tmp_path.glob(".*.dcbench-tmp"))
