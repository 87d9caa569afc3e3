"""Timing of steps: what is timed, what is counted, where it goes."""

from pathlib import Path

import msgspec
import pytest
import torch
from commandline import invoke

from dcbench_bacon import field_types
from dcbench_bacon.errors import UsageError
from dcbench_bacon.recipes import protocols
from dcbench_bacon.reporting.numbers import tables
from dcbench_bacon.running.plans import step_timing
from dcbench_bacon.running.plans.planning_of_grids import Grid
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.runtime.compute.alone import alone_on
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

OVERRIDES = {"architecture": "ConvNetW32", "batch_real": "20"}
QUEUE = {"queue_train_steps": "2", "queue_batch": "32"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, where another test that times steps holds no lock."""
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))


def time_steps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    **more: str,
) -> Record:
    monkeypatch.setenv("DCBENCH_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))
    grid = Grid(
        methods=(method,),
        datasets=("cifar10",),
        ipc=(2,),
        seeds=(0,),
        request=protocols.Request(overrides={**OVERRIDES, **more}),
    )
    (record,) = step_timing.time_steps(grid, RunConfig(torch.device("cpu")).here(), 3)
    return record


@pytest.mark.slow
def test_dm_step_is_timed_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count by hand: 3x3 convolutions, two operations a multiplication."""
    timing = time_steps(tmp_path, monkeypatch, "dm").distillation["match"]
    assert timing.steps == 3  # the warm-up is left out
    assert timing.images == 3 * 10 * (20 + 2)
    layers = [(3, 32), (32, 16), (32, 8)]  # channels in, pixels a side
    forward = [2 * 9 * inputs * 32 * side**2 for inputs, side in layers]
    # Constant parameters: a backward pass computes the gradient of the inputs alone.
    # Logits come with the synthetic features, from 32 x 4 x 4 of them.
    expected = 200 * sum(forward) + 20 * (2 * sum(forward) + 2 * 512 * 10)
    assert timing.step_flops == pytest.approx(expected, rel=1e-6)
    assert timing.product_flops is not None
    assert timing.product_flops > 1e9


@pytest.mark.slow
def test_queue_is_a_phase_of_idm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = time_steps(tmp_path, monkeypatch, "idm", **QUEUE)
    assert not record.evaluations
    (row,) = tables.timing([record]).to_dict("records")
    assert row["queue_ms"] > row["update_ms"] > 0
    timing = record.distillation["match"]
    assert timing.step_flops is not None
    assert row["tflops"] == pytest.approx(timing.step_flops / timing.median / 1e12)


def test_selection_has_no_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="none of these takes steps"):
        time_steps(tmp_path, monkeypatch, "random")


@pytest.mark.slow
def test_what_has_no_steps_is_left_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    digits_cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    command = ["time", "--methods", "random,dm,whole", "--datasets", "digits"]
    small = ["--ipc", "1", "--steps", "1", "--set", "architecture=ConvNetW32D2"]
    rest = ["--compile", "off", "--format", "csv", "--output", str(tmp_path)]
    done = invoke(*command, *small, *rest)
    assert done.exit_code == 0, done.output
    assert "nothing to time in random, whole" in caplog.text
    assert [row.split(",")[2] for row in done.stdout.splitlines()[1:] if row] == ["dm"]


def test_the_product_is_of_the_recipes_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.dtype] = []
    product = torch.mm

    def watched(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        seen.append(left.dtype)
        return product(left, right)

    monkeypatch.setattr(step_timing, "SIDE", {"cpu": 64})
    monkeypatch.setattr(torch, "mm", watched)
    for precision in ("fp32", "tf32", "bf16"):
        kind = msgspec.convert(precision, field_types.Precision)
        assert step_timing.product_flops(torch.device("cpu"), kind) > 0
    assert seen == [torch.float32] * 20 + [torch.bfloat16] * 10


@pytest.mark.slow
def test_command_stores_and_table_prints_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits_cache: Path
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    monkeypatch.setattr(step_timing, "SIDE", {"cpu": 64})
    output = ["--output", str(tmp_path)]
    command = ["time", "--methods", "dm", "--datasets", "digits", "--ipc", "1"]
    small = ["--steps", "2", "--set", "architecture=ConvNetW32D2", "--format", "csv"]
    small += ["--compile", "off"]  # the checks of shapes cannot be compiled
    first = invoke(*command, *small, *output)
    assert first.exit_code == 0, first.output
    again = invoke("table", "--what", "timing", "--format", "csv", *output)
    assert again.stdout.splitlines()[0].startswith("dataset,ipc,method,seed,stage")
    assert again.stdout.strip() in first.stdout
    assert not list(Store(tmp_path).records())  # no accuracy table ever sees it


def test_two_at_once_do_not_measure_each_other(
    tmp_path: Path,
) -> None:
    words = ("time", "--methods", "dm", "--datasets", "cifar10", "--device", "cpu")
    with alone_on(torch.device("cpu")), alone_on(torch.device("cuda")):
        done = invoke(*words, "--output", tmp_path)
    assert done.exit_code == 2
    assert "--device cpu: process" in done.stderr
    assert not list((tmp_path / "timing").glob("*"))
    done = invoke(*words, "--executor", "ray", "--output", tmp_path)
    assert done.exit_code == 2
    assert "run dcbench time on the machine" in " ".join(done.stderr.split())
