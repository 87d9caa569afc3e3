"""What the user reads before a grid runs: cells, data, time, memory and disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import torch
from commandline import invoke, tiny

from dcbench_bacon.cli.cells import forecast
from dcbench_bacon.cli.cells.forecast import Forecast
from dcbench_bacon.cli.sizes import lasting, size
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running.grids.grid import CellResult
from dcbench_bacon.running.plans.estimates import Estimate, PlannedCell
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import RunConfig, RunContext
from dcbench_bacon.runtime.monitoring.progress import Silent
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Record

DAY = 86_400.0


class Shown(Silent):
    """A reporter that keeps the titles of stages."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def start(self, title: str, index: int, count: int) -> None:
        self.titles.append(title)


def rows(output: str) -> dict[str, str]:
    """The lines of cells by name."""
    return {line.split()[0]: line for line in output.splitlines() if "-ipc" in line}


def test_a_dry_run_tells_states_and_costs_and_writes_nothing(tmp_path: Path) -> None:
    grid = ["run", "--ipc", "1", "--output", tmp_path, *tiny()]
    assert invoke(*grid, "--methods", "dm").exit_code == 0
    stopped = invoke(*grid, "--methods", "idm", "--time-budget", "0.001")
    assert stopped.exit_code == 130
    before = sorted(tmp_path.rglob("*"))
    result = invoke(*grid, "--methods", "dm,idm,random", "--seeds", "0,1", "--dry-run")
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.rglob("*")) == before
    found = rows(result.stdout)
    assert len(found) == 6
    assert "done" in found["digits-ipc1-dm-s0"]
    assert "to do" in found["digits-ipc1-dm-s1"]
    assert all("at hand" in row for row in found.values())
    assert "1 done, 5 to do: " in result.stdout
    assert "records of this machine" in result.stdout  # DM's other seed
    assert "a probe of the first steps" in result.stdout
    assert "free" in result.stdout


def test_what_was_begun_is_resumable(tmp_path: Path) -> None:
    grid = ["run", "--methods", "dm", "--ipc", "1", "--output", tmp_path, *tiny()]
    assert invoke(*grid).exit_code == 0
    (record,) = (tmp_path / "records").glob("*")
    record.unlink()  # its set is still there
    assert "resumable" in invoke(*grid, "--dry-run").stdout
    (made,) = (tmp_path / "synthetic").glob("*.safetensors")
    made.unlink()
    assert "to do" in invoke(*grid, "--dry-run").stdout


@pytest.mark.slow
def test_a_demo_is_estimated_where_records_tell_its_cost(tmp_path: Path) -> None:
    """A probe would take a good part of it."""
    grid = ["run", "--methods", "dm", "--ipc", "1", "--output", tmp_path, *tiny()]
    first = invoke(*grid).stderr
    assert "to do" not in first
    assert "estimating" not in first
    second = invoke(*grid, "--seeds", "0,1").stderr.splitlines()
    (told,) = [line for line in second if "1 done, 1 to do: about" in line]
    assert "from records of this machine" in told
    assert second.index(told) < min(i for i, x in enumerate(second) if x[0] == "[")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("download", [True, False])
@pytest.mark.slow
def test_missing_data_are_reported_once_before_the_first_cell(
    tmp_path: Path, download: bool
) -> None:
    result = invoke(
        *("run", "--methods", "random,dm", "--datasets", "mnist,cifar10,digits"),
        *("--ipc", "1", "--preset", "demo", "--device", "cpu"),
        *("--set", "protocol.epochs=2", "--set", "steps=2"),
        *("--output", tmp_path / "out", "--data-root", tmp_path / "data"),
        *([] if download else ["--no-download"]),
    )
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    for name in ("mnist", "cifar10"):
        at = [i for i, line in enumerate(lines) if f"{name} is not on disk" in line]
        assert len(at) == 1
        assert "not found" in lines[at[0]]
        tried, remedy = lines[at[0] + 1 : at[0] + 3]
        assert tried.startswith(f"  tried: {tmp_path / 'data'}")
        assert ("Connection refused" in tried) == download
        assert f"dcbench data get {name}" in remedy
        cells = [i for i, line in enumerate(lines) if line.startswith("[")]
        assert at[0] < min(cells)
        assert len(cells) == 2  # those of digits
        assert f"2 of 6 cells did not run for want of {name}" in result.stderr
    assert result.stderr.count("not on disk") == 2


def planned(seconds: Sequence[float]) -> list[PlannedCell]:
    """Cells of the demo's data set with these costs."""
    grid = Grid(
        methods=("random", "dm"),
        datasets=("digits",),
        ipc=(1,),
        seeds=(0,),
        request=request_of("paper", preset=None, overrides=()),
    )
    jobs = plan(grid)
    return [
        PlannedCell(job, "to do", True, 0, Estimate(cost, 0.0, 10**9, "a guess"))
        for job, cost in zip(jobs, seconds, strict=True)
    ]


def test_a_grid_above_a_day_names_the_shorter_preset() -> None:
    short, long = planned([3600.0, 3600.0]), planned([3600.0, 3 * DAY])
    assert forecast.day_warning(short, "paper") == ""
    assert "--preset quick" in forecast.day_warning(long, "paper")
    assert "--preset quick" not in forecast.day_warning(long, "quick")
    assert "2 to do: about 3.0 days on this device, 1.0 GB" in forecast.total_line(long)


def test_the_rest_is_corrected_by_what_is_done() -> None:
    now = [0.0]
    shown, cells = Shown(), planned([100.0, 300.0])
    policy = RunPolicy(reporter=shown, now=lambda: now[0])
    ahead = Forecast(cells, RunContext(RunConfig(torch.device("cpu")), policy))
    ahead.context.policy.reporter.start("random", 0, 5)
    now[0] = 200.0  # twice as long as expected
    done = CellResult(cells[0].job, "done", cast(Record, None))
    assert ahead.finished(done) == "; about 10 min left"
    ahead.context.policy.reporter.start("dm", 0, 5)
    assert shown.titles == ["[1/2, 6.7 min left] random", "[2/2, 10 min left] dm"]


def test_units_fit() -> None:
    assert [lasting(x) for x in (5.0, 130.0, 7300.0, 3e5)] == [
        *("5 s", "2.2 min", "2.0 h", "3.5 days")
    ]
    assert [size(x) for x in (5, 5_000, 5 * 10**6, 5 * 10**9)] == [
        *("5 bytes", "5.0 KB", "5.0 MB", "5.0 GB")
    ]
