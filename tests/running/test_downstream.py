"""Downstream uses: their records, trainings, tables, and the commands end to end.

``PYTHONPATH=tests python tests/running/test_downstream.py`` writes the golden
files anew; read the diff.
"""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
import torch
from commandline import invoke, settable, tiny
from foreign_files import MAKERS
from support import dataset

from dcbench_bacon.cli import endings
from dcbench_bacon.cli.cells import downstream as downstream_commands
from dcbench_bacon.data import loading
from dcbench_bacon.data.dataset import Dataset, as_set, normalize
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.downstream_store import (
    Candidate,
    Folder,
    SetIdentity,
    Stage,
    continual_folder,
    search_folder,
)
from dcbench_bacon.errors import DataError, InterruptedRunError, RecordError
from dcbench_bacon.evaluation.downstream import continual, nas
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.field_types import Preset
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.reporting.numbers import downstream_tables
from dcbench_bacon.reporting.printing import rendering
from dcbench_bacon.reporting.table import Kind, Table
from dcbench_bacon.running.grids import trainings
from dcbench_bacon.running.run import RunConfig, RunContext
from dcbench_bacon.runtime.monitoring.progress import Silent
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell, Evaluation, Recipe
from dcbench_bacon.store import Store
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.task import Task, accuracy

GOLDEN = Path(__file__).parents[1] / "golden"
CPU = torch.device("cpu")
HERE = RunConfig(CPU).here()
SHORT = (*settable("protocol.epochs", 4), *settable("protocol.networks", 2))
COMMON = (*SHORT, "--preset", "demo", "--device", "cpu")
TINY_GRID = ("--depths", 1, "--widths", "4,8,12", "--epochs", 2)
REAL = dataset()


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, digits_cache: Path
) -> tuple[Path, ...]:
    """Sets of random digits and of DM's."""
    output = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCBENCH_CACHE", str(digits_cache))
        made = ("run", "--methods", "random,dm", "--ipc", 2, "--output", output)
        result = invoke(*made, *tiny(steps=3, epochs=1, networks=1))
        assert result.exit_code == 0, result.output
    return tuple(sorted((output / "synthetic").iterdir(), reverse=True))


# Records for tables


def telling(told: list[str]) -> RunContext:
    """Options under which lines for the user are kept."""

    class Kept(Silent):
        def tell(self, line: str) -> None:
            told.append(line)

    return RunContext(RunConfig(CPU), RunPolicy(reporter=Kept()))


def identity(method: str, seed: int = 0, recipe: str = "aaaaaaaa") -> SetIdentity:
    return SetIdentity(
        cell=Cell(method, "cifar10", 10, seed),
        recipe=recipe,
        preset="paper",
        sha256=f"{method}{seed}{recipe}",
    )


def evaluations(
    accuracies: Sequence[float], *, ranked: float | None = None
) -> tuple[Evaluation, ...]:
    return tuple(
        Evaluation(
            architecture="ConvNet",
            trial=trial,
            accuracy=accuracy,
            epoch=1000,
            seconds=1.5,
            validation=ranked,
        )
        for trial, accuracy in enumerate(accuracies)
    )


def stage(
    source: SetIdentity,
    seen: int,
    accuracies: Sequence[float],
    order: int = 0,
    preset: Preset = "paper",
) -> Stage:
    return Stage(
        dataset="cifar10",
        dataset_sha256="cifar10",
        source=source,
        recipe=Recipe(
            settings={"tasks": 2}, protocol=Protocol(name="dc"), preset=preset
        ),
        evaluations=evaluations(accuracies),
        order=order,
        classes=tuple(range(seen)),
    )


def candidate(
    source: SetIdentity | None, architecture: str, ranked: float, score: float
) -> Candidate:
    return Candidate(
        dataset="cifar10",
        dataset_sha256="cifar10",
        source=source,
        recipe=Recipe(
            settings={}, protocol=Protocol(name="dc" if source else "reference")
        ),
        # Two networks around the means.
        evaluations=evaluations((score - 0.01, score + 0.01), ranked=ranked),
        architecture=architecture,
    )


def stages() -> list[Stage]:
    """Two methods, two orders, one stage of which is missing."""
    return [
        stage(identity("dm"), 5, (0.80, 0.84)),
        stage(identity("dm"), 10, (0.60, 0.62)),
        stage(identity("dm"), 5, (0.76, 0.80), order=1),
        stage(identity("dm"), 10, (0.64, 0.66), order=1),
        stage(identity("random"), 5, (0.70, 0.72)),
        stage(identity("random"), 10, (0.40, 0.41)),
        stage(identity("random"), 5, (0.71, 0.75), order=1),
    ]


def candidates() -> list[Candidate]:
    """Four networks; DM finds the best, random images the second best."""
    names = ("ConvNetD1W8", "ConvNetD2W8", "ConvNetD3W8", "ConvNetD3W16LN")
    whole = zip((0.61, 0.70, 0.80, 0.79), (0.60, 0.70, 0.80, 0.75), strict=True)
    matched, drawn = (0.50, 0.62, 0.61, 0.60), (0.30, 0.40, 0.35, 0.45)
    return [
        *(
            candidate(identity("dm"), name, value, 0.5)
            for name, value in zip(names, matched, strict=True)
        ),
        *(
            candidate(identity("random"), name, value, 0.4)
            for name, value in zip(names, drawn, strict=True)
        ),
        *(
            candidate(None, name, *values)
            for name, values in zip(names, whole, strict=True)
        ),
    ]


def outputs() -> dict[str, str]:
    """The text of every golden file."""
    tables: dict[Kind, pd.DataFrame] = {
        "continual": downstream_tables.continual(stages()),
        "nas": downstream_tables.search(candidates(), 3),
    }
    kinds = {"md": "md", "csv": "csv", "tex": "latex", "html": "html"}
    return {
        f"{use}.{suffix}": rendering.render(Table(use, table), kind)
        for use, table in tables.items()
        for suffix, kind in kinds.items()
    }


def test_golden() -> None:
    for name, text in outputs().items():
        assert text == (GOLDEN / name).read_text(encoding="utf-8"), name


def test_order_of_records_changes_nothing() -> None:
    forward = downstream_tables.continual(stages())
    assert forward.equals(downstream_tables.continual(stages()[::-1]))
    found = downstream_tables.search(candidates(), 3)
    assert found.equals(downstream_tables.search(candidates()[::-1], 3))


def test_accuracies_by_hand() -> None:
    table = downstream_tables.continual(stages())
    row = table[(table["method"] == "dm") & (table["classes_seen"] == 5)].iloc[0]
    assert row["accuracy_mean"] == pytest.approx(80)
    assert row["accuracy_std"] == pytest.approx(statistics.stdev([80, 84, 76, 80]))
    assert row["n"] == 4


def test_two_recipes_are_two_rows_and_never_one_mean() -> None:
    other = identity("dm", recipe="bbbbbbbb")
    records = [*stages(), stage(other, 5, (0.1,)), stage(other, 10, (0.1,))]
    table = downstream_tables.continual(records)
    assert len(table) == 6
    text = rendering.render(Table("continual", table), "md")
    assert "Recipe" in text
    assert "bbbbbbbb" in text
    reduced = [stage(identity("dm"), 5, (0.3,), preset="demo"), *stages()]
    text = rendering.render(
        Table("continual", downstream_tables.continual(reduced)), "md"
    )
    assert "not comparable with published numbers" in text


def test_a_search_finds_by_ranks_and_scores_on_other_images() -> None:
    table = downstream_tables.search(candidates(), 3).set_index("method")
    # DM's order is D1 D3L D3 D2; on the whole set D1 D2 D3L D3.
    assert table.loc["dm", "best"] == "ConvNetD2W8"
    assert table.loc["dm", "whole_accuracy"] == pytest.approx(70)
    assert table.loc["dm", "spearman"] == pytest.approx(1 - 6 * 6 / 60)
    assert table.loc["random", "best"] == "ConvNetD3W16LN"
    assert table.loc["random", "whole_accuracy"] == pytest.approx(75)
    assert table.loc["whole", "best"] == "ConvNetD3W8"
    assert table.loc["whole", "spearman"] == pytest.approx(1)
    assert table.loc["dm", "seconds"] == pytest.approx(4 * 2 * 1.5)


def test_networks_that_one_side_lacks_are_left_out() -> None:
    table = downstream_tables.search(candidates()[:-1], 3).set_index("method")
    assert list(table["networks"]) == [3, 3, 3]
    assert table.loc["random", "best"] == "ConvNetD2W8"
    without = [record for record in candidates() if record.source]
    assert downstream_tables.search(without, 3).empty


def test_sets_are_compared_with_their_own_data_and_one_by_one() -> None:
    names = ("ConvNetD1W8", "ConvNetD2W8")
    second = [candidate(identity("dm", seed=1), name, 0.5, 0.5) for name in names]
    table = downstream_tables.search([*candidates(), *second])
    assert len(table[table["method"] == "dm"]) == 2
    assert "Seed" in rendering.render(Table("nas", table), "md")
    foreign = [
        msgspec.structs.replace(record, dataset_sha256="another") for record in second
    ]
    table = downstream_tables.search([*candidates(), *foreign])
    assert len(table[table["method"] == "dm"]) == 1


# Records on disk


def test_the_name_of_a_record_tells_apart_all_that_decides_it(tmp_path: Path) -> None:
    folder = continual_folder(Store(tmp_path))
    plan = msgspec.structs.replace(stages()[0], evaluations=())
    protocol = Protocol(name="dc", epochs=7)
    changes: list[dict[str, Any]] = [
        {"dataset_sha256": "other"},
        {"source": identity("dm", recipe="bbbbbbbb")},
        {"source": msgspec.structs.replace(identity("dm"), sha256="other")},
        {"source": msgspec.structs.replace(identity("dm"), name="other")},
        {"recipe": msgspec.structs.replace(plan.recipe, protocol=protocol)},
        {"recipe": msgspec.structs.replace(plan.recipe, settings={"tasks": 3})},
        {"order": 1},
        {"classes": (1, 0, 2, 3, 4)},
    ]
    plans = [plan, *(msgspec.structs.replace(plan, **change) for change in changes)]
    assert len({folder.path(each) for each in plans}) == len(plans)
    asked = {"protocol.epochs": "1000"}
    same = msgspec.structs.replace(plan.recipe, overrides=asked)
    assert folder.path(msgspec.structs.replace(plan, recipe=same)) == folder.path(plan)
    assert folder.path(stages()[0]) == folder.path(plan)
    assert plan.digest == "114493534794"  # as before sets had names


def test_sets_of_other_tools_are_never_averaged() -> None:
    """Files of one format have the same cell and no recipe, perhaps not even a name."""
    replace = msgspec.structs.replace
    unnamed = identity("tuple-file", recipe="")
    other = replace(unnamed, sha256="b" * 64)
    found = [stage(unnamed, 5, (0.1,)), stage(other, 5, (0.3,))]
    table = downstream_tables.continual(found)
    assert sorted(table["accuracy_mean"]) == [10.0, 30.0]
    assert "bbbbbbbb" in rendering.render(Table("continual", table), "md")
    named = [
        replace(each, source=replace(source, name="X"))
        for each, source in zip(found, (unnamed, other), strict=True)
    ]
    assert list(downstream_tables.continual(named)["method"]) == ["X", "X"]


def test_sets_of_other_tools_have_their_names(tmp_path: Path) -> None:
    """Two files of one format are two rows, each with the name that it was given."""
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        table = learned(
            [MAKERS["vico"](folder)],
            *(tmp_path / "results", "--dataset", "digits", "--index", 0),
            *("--normalized", "--no-zca", "--partition", 1, "--orders", 1),
            *("--tasks", 1, "--name", name),
        )
        assert [row["method"] for row in table] == [name]


@pytest.mark.parametrize("make", [continual_folder, search_folder])
def test_records_come_back(
    make: Callable[[Store], Folder[Stage | Candidate]], tmp_path: Path
) -> None:
    folder = make(Store(tmp_path))
    record = stages()[0] if make is continual_folder else candidates()[-1]
    assert folder.find(record) is None
    folder.write(record)
    assert folder.find(record) == record
    assert list(folder.records([])) == [record]
    folder.path(record).write_bytes(b"{")
    with pytest.raises(RecordError, match="delete or move it"):
        folder.find(record)
    broken: list[RecordError] = []
    assert not list(folder.records(broken))
    assert len(broken) == 1


# Trainings


def job(
    name: str = "ConvNetD1W8", rate: float = 0.05
) -> trainings.TrainingJob[Candidate]:
    """Two networks on random images, seven passes each."""
    protocol = Protocol(
        name="test",
        architectures=(name,),
        networks=2,
        epochs=7,
        batch_size=5,
        learning_rate=rate,
        augmentation="color_crop",
    )
    stream = torch.Generator().manual_seed(3)
    images = torch.randn(12, 1, 8, 8, generator=stream)
    given = SyntheticSet(images, torch.eye(3).repeat(4, 1))
    plan = Candidate(
        dataset="random-images",
        dataset_sha256="0",
        source=None,
        recipe=Recipe(settings={}, protocol=protocol),
        architecture=name,
    )
    return trainings.TrainingJob(
        plan, lambda: Task(given, REAL.test, REAL.info, protocol)
    )


def values(records: Sequence[Candidate | Stage]) -> list[tuple[float, float | None]]:
    """The accuracies without the seconds."""
    return [
        (each.accuracy, each.validation)
        for record in records
        for each in record.evaluations
    ]


@pytest.mark.slow
def test_interrupted_trainings_go_on_bit_for_bit(tmp_path: Path) -> None:
    jobs = [job(), job("ConvNetD1W12")]
    quiet = trainings.run(jobs, search_folder(Store(tmp_path)), HERE)
    folder = search_folder(Store(tmp_path / "disturbed"))
    count = 0
    for stops in range(100):
        asked = iter([False] * 3 + [True])
        policy = RunPolicy(stop=lambda asked=asked: next(asked, False))  # type: ignore[misc]
        try:
            found = trainings.run(jobs, folder, RunContext(RunConfig(CPU), policy))
            break
        except InterruptedRunError:
            count = stops + 1
    assert count >= 8  # of 28 passes, two or three each time
    assert values(found.records) == values(quiet.records)
    assert not list((folder.root / "checkpoints").glob("nas-*"))


@pytest.mark.slow
def test_what_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_by: Callable[[Any], None]
) -> None:
    folder = search_folder(Store(tmp_path))
    told: list[str] = []
    config = telling(told)
    first = trainings.run([job()], folder, config)
    with monkeypatch.context() as patch:
        patch.setattr(SetTrainer, "epoch", lambda *_: pytest.fail("trained again"))
        assert trainings.run([job()], folder, config) == first
    assert "already done" in told[-1]
    folder.path(job().plan).write_bytes(b"{")
    again = trainings.run([job()], folder, config)
    assert values(again.records) == values(first.records)
    assert any("warning" in line for line in told)
    epochs: list[int] = []
    plain = SetTrainer.epoch

    def counted(self: SetTrainer, index: int) -> None:
        epochs.append(index)
        plain(self, index)

    train_by(counted)
    fresh = RunConfig(CPU, fresh=True).here()
    assert values(trainings.run([job()], folder, fresh).records) == values(
        first.records
    )
    assert epochs == [*range(7), *range(7)]


@pytest.mark.slow
def test_one_that_diverges_does_not_stop_the_others(tmp_path: Path) -> None:
    told: list[str] = []
    jobs = [job(), job("ConvNetD1W12", rate=1e30), job("ConvNetD2W8")]
    folder = search_folder(Store(tmp_path))
    found = trainings.run(jobs, folder, telling(told))
    names = [record.architecture for record in found.records]
    assert names == ["ConvNetD1W8", "ConvNetD2W8"]
    assert found.failures == 1
    results = [line for line in told if line.startswith("[")]
    assert "diverged" in results[1]
    assert folder.find(jobs[1].plan) is None  # is tried again


def test_a_training_of_another_process_is_waited_for(tmp_path: Path) -> None:
    folder = search_folder(Store(tmp_path).open())
    lock = folder.lock(job().plan)
    lock.acquire()
    asked = iter([False] * 5 + [True])
    policy = RunPolicy(stop=lambda: next(asked), look=0.01)
    with pytest.raises(InterruptedRunError, match="another process trains"):
        trainings.run([job()], folder, RunContext(RunConfig(CPU), policy))
    lock.release()
    assert trainings.run([job()], folder, HERE).records


def test_halves_of_test_are_disjoint_and_alike() -> None:
    digits = loading.load("digits")
    scored, ranked = downstream_commands.halves(digits)
    again = downstream_commands.halves(digits)
    assert torch.equal(ranked.images, again[1].images)
    together = torch.cat([scored.labels, ranked.labels])
    assert len(together) == len(digits.test.labels)
    assert torch.equal(together.bincount(), digits.test.labels.bincount())
    difference = scored.labels.bincount() - ranked.labels.bincount()
    assert difference.abs().max() <= 1
    # Every pixel of test is in one of them.
    summed = scored.images.long().sum() + ranked.images.long().sum()
    assert summed == digits.test.images.long().sum()


def test_the_whole_split_is_a_set() -> None:
    found = as_set(REAL.train, REAL.info)
    synthetic_file.check(found)
    assert torch.equal(found.labels.argmax(1), REAL.train.labels)
    assert torch.equal(found.images, normalize(REAL.train.images, REAL.info))


# Commands


def rows(output: str) -> list[dict[str, str]]:
    """A CSV table as dictionaries."""
    return list(csv.DictReader(io.StringIO(output)))


def learned(files: Sequence[Path], output: Path, *more: object) -> list[dict[str, str]]:
    """Runs ``continual`` on the digits."""
    options = (*COMMON, "--architectures", "ConvNetD1W8", "--format", "csv")
    result = invoke("continual", *files, *options, "--output", output, *more)
    assert result.exit_code == 0, result.output
    return rows(result.stdout)


@pytest.mark.slow
def test_continual_end_to_end(
    files: tuple[Path, ...], tmp_path: Path, train_by: Callable[[Any], None]
) -> None:
    given = ("--tasks", 3, "--orders", 2)
    table = learned(files, tmp_path, *given)
    assert [(row["method"], int(row["classes_seen"])) for row in table] == [
        (method, seen) for method in ("random", "dm") for seen in (4, 7, 10)
    ]
    assert all(row["n"] == "4" for row in table)
    assert all(row["preset"] == "demo + set" for row in table)
    found = list(continual_folder(Store(tmp_path)).records([]))
    assert len(found) == 2 * 2 * 3
    for order in (0, 1):  # the same orders for both methods
        last = {each.classes for each in found if each.order == order}
        assert len(last) == 3
    train_by(lambda *_: pytest.fail("trained again"))
    assert learned(files, tmp_path, *given) == table
    args = ("table", "--what", "continual", "--output", tmp_path)
    printed = invoke(*args, "--preset", "demo", "--format", "csv")
    assert rows(printed.stdout.strip()) == table
    text = invoke("table", "--what", "continual", "--output", tmp_path)
    assert text.stdout.strip() == ""  # paper records alone
    for format in ("md", "latex", "html"):
        shown = invoke(*args, "--preset", "demo", "--format", format).stdout
        assert "7 classes" in shown


@pytest.mark.slow
def test_continual_is_the_same_every_time(
    files: tuple[Path, ...], tmp_path: Path
) -> None:
    few = learned(files[:1], tmp_path / "few", "--orders", 1)
    many = learned(files[:1], tmp_path / "many", "--orders", 2)
    first = list(continual_folder(Store(tmp_path / "few")).records([]))
    both = list(continual_folder(Store(tmp_path / "many")).records([]))
    assert values(first) == values([each for each in both if each.order == 0])
    assert few != many


def test_what_is_trained_and_scored_at_each_stage(
    files: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[tuple[set[int], set[int], int]] = []

    def watched(clock: object, task: Task, *more: object) -> list[Evaluation]:
        trained = set(task.synthetic.labels.argmax(1).tolist())
        assert len(task.synthetic.images) == 2 * len(trained)
        tested = set(task.test.labels.tolist())
        tasks.append((trained, tested, len(task.test.labels)))
        return list(evaluations((0.5,)))

    monkeypatch.setattr(trainings, "evaluate", watched)
    learned(files, tmp_path, "--tasks", 5, "--orders", 2)
    test = loading.load("digits").test
    expected = [
        set(seen)
        for _ in files
        for order in continual.class_orders("digits", 10, 2)
        for seen in continual.stages(order, 5)
    ]
    assert [trained for trained, _, _ in tasks] == expected
    assert [tested for _, tested, _ in tasks] == expected
    for seen, _, count in tasks:
        assert count == sum(int((test.labels == label).sum()) for label in seen)


def searched(
    files: Sequence[Path], output: Path, *more: object
) -> list[dict[str, str]]:
    """Runs ``nas`` on the digits."""
    options = (*COMMON, *TINY_GRID, "--format", "csv", "--output", output)
    result = invoke("nas", *files, *options, *more)
    assert result.exit_code == 0, result.output
    return rows(result.stdout)


@pytest.mark.slow
def test_nas_end_to_end(
    files: tuple[Path, ...], tmp_path: Path, train_by: Callable[[Any], None]
) -> None:
    table = searched(files, tmp_path, "--top", 2)
    assert [row["method"] for row in table] == ["random", "dm", "whole"]
    records = list(search_folder(Store(tmp_path)).records([]))
    assert len(records) == 3 * 3
    whole = {each.architecture: each for each in records if each.source is None}
    assert {each.recipe.protocol.epochs for each in whole.values()} == {2}
    for row in table:
        own = {
            each.architecture: statistics.fmean(
                entry.validation or 0 for entry in each.evaluations
            )
            for each in records
            if (each.source.cell.method if each.source else "whole") == row["method"]
        }
        names = sorted(own)
        assert own[row["best"]] == max(own.values())
        scores = {
            name: statistics.fmean(e.accuracy for e in whole[name].evaluations)
            for name in names
        }
        assert float(row["whole_accuracy"]) == pytest.approx(100 * scores[row["best"]])
        found = nas.correlation([own[n] for n in names], [scores[n] for n in names])
        if row["spearman"]:
            assert float(row["spearman"]) == pytest.approx(found.spearman)
    # The reference is trained once for all sets, nothing is trained again.
    train_by(lambda *_: pytest.fail("trained again"))
    assert searched(files, tmp_path, "--top", 2) == table
    assert len(searched(files[:1], tmp_path)) == 2
    args = ("table", "--what", "nas", "--preset", "demo", "--output", tmp_path)
    again = rows(invoke(*args, "--format", "csv").stdout.strip())
    assert [row["whole_accuracy"] for row in again] == [
        row["whole_accuracy"] for row in table
    ]
    assert "Best found" in invoke(*args).stdout


def measured_by(measure: Any, clock: Any, task: Task) -> list[Evaluation]:
    """The evaluations of a task whose accuracies are measured in another way."""
    return evaluate(clock, task._replace(measure=measure))


@pytest.mark.slow
def test_networks_of_a_search_are_measured_on_both_halves_after_the_last_pass(
    files: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    plain = accuracy
    scored, ranked = downstream_commands.halves(loading.load("digits"))

    def watched(network: object, split: object, info: object) -> float:
        value = plain(network, split, info)  # type: ignore[arg-type]
        seen.append((len(split.labels), round(value * len(split.labels))))  # type: ignore[attr-defined]
        return value

    monkeypatch.setattr(trainings, "evaluate", partial(measured_by, watched))
    searched(files[:1], tmp_path)
    sizes = [len(ranked.labels), len(scored.labels)]
    assert sizes[0] != sizes[1]
    assert [size for size, _ in seen] == sizes * (3 * 2 + 3 * 2)
    records = list(search_folder(Store(tmp_path)).records([]))
    assert {
        round(entry.accuracy * sizes[1])
        for record in records
        for entry in record.evaluations
    } == {right for size, right in seen if size == sizes[1]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (("continual", "--tasks", 11), "--tasks 11: give a number from 1 to 10"),
        (("continual", "--dataset", "mnist"), "mnist"),
        (("continual", *settable("protocol.selection", "best_test")), "leave it out"),
        (("continual", "--architectures", "ConvNex"), "ConvNet"),
        (("continual", "--protocol", "dcc"), "unknown protocol"),
        (("nas", "--widths", 8, "--depths", 1), "cannot be ranked"),
        (("nas", "--norms", "MP"), "--norms MP: write some of"),
        (("nas", "--norms", "GN", "--widths", "6,8"), "multiple of 4"),
        (("nas", "--epochs", 1), "--epochs"),
        (("nas", "--top", 1), "--top"),
    ],
)
def test_mistakes_name_the_option(
    line: tuple[object, ...], problem: str, files: tuple[Path, ...], tmp_path: Path
) -> None:
    command, *rest = line
    where = ("--data-root", tmp_path, "--output", tmp_path / "results")
    result = invoke(command, files[0], *COMMON, *where, *rest)
    assert result.exit_code in (1, 2), result.output
    assert problem in result.output
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file()]


def test_a_set_that_is_not_what_its_header_says(
    files: tuple[Path, ...], tmp_path: Path
) -> None:
    made = synthetic_file.read(files[0])
    cases = {
        "classes": SyntheticSet(made.images, made.labels[:, :9], 1, made.provenance),
        "size": SyntheticSet(
            made.images[..., :4, :4].contiguous(), made.labels, 1, made.provenance
        ),
    }
    for name, wrong in cases.items():
        labels = wrong.labels / wrong.labels.sum(1, keepdim=True).clamp(min=1e-9)
        kept = labels.sum(1) > 0
        path = tmp_path / f"{name}.safetensors"
        synthetic_file.write(
            path, SyntheticSet(wrong.images[kept], labels[kept], 1, made.provenance)
        )
        for command in ("continual", "nas"):
            result = invoke(command, path, *COMMON, "--output", tmp_path / "results")
            assert result.exit_code == 1
            assert "do not fit digits" in result.output
            assert str(path) in result.output


def test_a_file_without_a_recipe_is_taken_as_it_is(
    files: tuple[Path, ...], tmp_path: Path
) -> None:
    made = synthetic_file.read(files[0])
    for recipe in (None, {"settings": 3}):
        provenance = {**made.provenance, "recipe": recipe}
        path = tmp_path / "foreign.safetensors"
        synthetic_file.write(
            path, SyntheticSet(made.images, made.labels, 1, provenance)
        )
        table = learned([path], tmp_path / "results", "--orders", 1, "--tasks", 1)
        assert len(table) == 1


@pytest.mark.parametrize("command", ["continual", "nas"])
@pytest.mark.slow
def test_the_learning_rate_of_a_set_is_used_and_recorded(
    command: str, files: tuple[Path, ...], tmp_path: Path
) -> None:
    learned = (*COMMON, *settable("protocol.use_learned_rate", "true"))
    more = TINY_GRID if command == "nas" else ("--orders", 1, "--tasks", 2)
    mine = synthetic_file.read(files[0])
    for rate in (0.25, 0.001):
        told = {**mine.provenance, "learning_rate": rate}
        path = tmp_path / f"{rate}.safetensors"
        synthetic_file.write(path, replace(mine, provenance=told))
        result = invoke(command, path, *learned, *more, "--output", tmp_path)
        assert result.exit_code == 0, result.output
    texts = [path.read_text() for path in (tmp_path / command).glob("*.json")]
    for stated in ("0.25", "0.001"):
        assert any(f'"learning_rate": {stated}' in text for text in texts)


def test_an_interrupted_command_says_how_to_go_on(
    files: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise InterruptedRunError("stopped between two trainings")

    monkeypatch.setattr(trainings, "wait_for", stopped)
    result = invoke("continual", files[0], *COMMON, "--output", tmp_path)
    assert result.exit_code == 130
    assert endings.going_on(noted=True) in result.output


def test_no_test_image_of_two_classes_is_missing(tmp_path: Path) -> None:
    single = Dataset(
        REAL.info,
        REAL.train,
        REAL.test.subset(torch.arange(3)),
        "0",
    )
    with pytest.raises(DataError, match="cannot be split"):
        downstream_commands.halves(single)


if __name__ == "__main__":
    for name, text in outputs().items():
        (GOLDEN / name).write_text(text, encoding="utf-8")
