"""Trackers keep what a run measures, never hold it up and never end it."""

import importlib.util
import sys
import threading
import time
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import commandline
import pytest
from commandline import invoke, tiny

from dcbench_bacon.runtime.monitoring import trackers
from dcbench_bacon.runtime.monitoring.trackers import Pixels, Tracker


class Kept:
    """A backend that keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def scalars(self, run: str, values: Mapping[str, float], step: int) -> None:
        self.calls += [(run, name, step) for name in values]

    def image(self, run: str, name: str, pixels: Pixels) -> None:
        self.calls.append((run, name, pixels.shape))

    def config(self, run: str, values: Mapping[str, Any]) -> None:
        self.calls.append((run, "config", dict(values)))

    def close(self) -> None:
        self.calls.append(("closed",))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the name of a tool, which is there whatever is installed."""
    tool = ModuleType("tensorboard")
    tool.__spec__ = ModuleSpec(tool.__name__, None)
    monkeypatch.setitem(sys.modules, tool.__name__, tool)


def run(tmp_path: Path, name: str = "tensorboard") -> Any:
    grid = ("run", "--methods", "dm", "--ipc", "1", "--output", tmp_path, *tiny())
    return invoke(*grid, "--track", name)


@pytest.mark.usefixtures("installed")
def test_a_run_hands_on_all_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    monkeypatch.setitem(trackers.BACKENDS, "tensorboard", lambda _: kept)
    assert run(tmp_path).exit_code == 0
    names = {call[1] for call in kept.calls[:-1]}
    assert {"match/loss", "seconds/match/total", "images", "config"} <= names
    assert "accuracy/ConvNetD1W8/1" in names
    assert ("digits-ipc1-dm-s0", "match/loss", 6) in kept.calls
    assert kept.calls[-1] == ("closed",)
    (recipe,) = [call[2] for call in kept.calls if call[1:2] == ("config",)]
    assert recipe["steps"] == 6
    assert recipe["protocol"] == "dc"


@pytest.mark.usefixtures("installed")
def test_a_tracker_that_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Path) -> Kept:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(trackers.BACKENDS, "tensorboard", fails)
    assert run(tmp_path).exit_code == 0
    assert "tracking has ended (ConnectionError: no route to host)" in caplog.text


def test_a_tool_that_is_not_installed_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    result = run(tmp_path, "mlflow")
    assert result.exit_code == 2
    assert "dcbench-bacon[track]" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_slow_tracker_holds_up_nothing() -> None:
    free = threading.Event()

    class Stuck(Kept):
        def scalars(self, run: str, values: Mapping[str, float], step: int) -> None:
            free.wait(60)

    tracker = Tracker(Stuck)
    began = time.monotonic()
    for step in range(2 * trackers.MOST_WAITING):
        tracker.scalars("cell", {"loss": 1.0}, step)
    # A step is reported twice per second at most: 1 % of that is 5 ms.
    assert (time.monotonic() - began) / (2 * trackers.MOST_WAITING) < 0.005
    free.set()
    tracker.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_the_real_tool_keeps_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (pip install 'dcbench-bacon[track]')")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ("run", "--methods", "dm", "--ipc", "1", "--output", tmp_path, *tiny())
    code, _, err = commandline.run(*words, "--track", name)
    assert code == 0, err
    assert "tracking has ended" not in err
    files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
    if name == "wandb":
        assert any(path.suffix == ".wandb" for path in files)
    elif name == "mlflow":
        (loss,) = [path for path in files if path.as_posix().endswith("match/loss")]
        assert loss.read_text().split()[-1] == "6"
        assert any(path.name == "images.png" for path in files)
        assert any(path.name == "image_lr" for path in files)
    else:
        check_events(tmp_path / name / "digits-ipc1-dm-s0")


def check_events(folder: Path) -> None:
    """What TensorBoard itself reads from the files."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import (
            EventAccumulator,
        )

        events = EventAccumulator(str(folder))
        events.Reload()
    tags = events.Tags()
    assert {"match/loss", "seconds/match/total"} <= set(tags["scalars"])
    assert events.Scalars("match/loss")[-1].step == 6
    assert tags["images"] == ["images"]
    assert events.Tensors("recipe/text_summary")
