"""The scripts in ``benchmarks``, at a small size, and what they must do without."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from dataset_files import write_idx

ROOT = Path(__file__).resolve().parents[1]
GPU = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
ABSENT = ("scipy", "sklearn", "matplotlib")
WITHOUT = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # as if it were not installed
from dcbench_bacon.cli.main import main
main(sys.argv[1:])
"""


def tasks(output: Path) -> dict[str, Any]:
    found = (output / "tasks").glob("*.json")
    return {each.stem: json.loads(each.read_text()) for each in found}


@pytest.mark.slow
def test_what_a_gpu_has_to_show_is_resumed_after_a_kill(tmp_path: Path) -> None:
    """The toy run: a task that is done is kept, the next one done, all archived."""
    output = tmp_path / "out"
    command = [*GPU, str(output), "--toy", "--tasks", "evaluation,recipes"]
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None and "evaluation" not in tasks(output):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = tasks(output)
    assert set(first) == {"evaluation"}
    assert first["evaluation"]["ratio"] > 0
    subprocess.run(command, check=True)
    again = tasks(output)
    assert again["evaluation"] == first["evaluation"]
    assert again["recipes"]["status"] == 0
    with tarfile.open(tmp_path / "out.tar.gz") as tar:
        names = tar.getnames()
    assert {"out/tasks/evaluation.json", "out/tasks/recipes.json"} <= set(names)
    assert sum("results/records/" in name for name in names) == 2
    elsewhere = tmp_path / "elsewhere"
    moved = [*GPU, str(elsewhere), "--toy", "--tasks", "evaluation"]
    subprocess.run([*moved, "--from", str(tmp_path / "out.tar.gz")], check=True)
    assert tasks(elsewhere)["evaluation"] == first["evaluation"]


def test_a_wrong_task_is_named() -> None:
    done = subprocess.run([*GPU, "--tasks", "nonesuch"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no task nonesuch; there are: tests, bacon_step" in done.stderr


@pytest.mark.slow
def test_cells_run_without_scipy_scikit_learn_and_matplotlib(tmp_path: Path) -> None:
    """One method of each family, from its first step to the table."""
    write_idx(tmp_path / "data" / "MNIST" / "raw")
    command = [sys.executable, "-c", WITHOUT, "run", "--datasets", "mnist"]
    command += ["--methods", "random,herding,dm,bacon,dsa,mtt,sre2l", "--ipc", "1"]
    command += ["--preset", "demo", "--compile", "off", "--device", "cpu"]
    command += [
        "--output",
        str(tmp_path / "out"),
        "--data-root",
        str(tmp_path / "data"),
    ]
    small = {"steps": 3, "outer_loop": 1, "inner_loop": 1, "network_epochs": 1}
    small |= {"observer_passes": 1, "expert_passes": 3, "experts": 1}
    small |= {"expert_epochs": 1, "max_start_epoch": 1, "student_steps": 2}
    small |= {"protocol.epochs": 2, "protocol.networks": 1}
    command += [
        word for key, value in small.items() for word in ("--set", f"{key}={value}")
    ]
    environment = {**os.environ, "DCBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "out" / "records").glob("*.json"))) == 7
    assert "SRe2L" in done.stdout


@pytest.mark.slow
def test_what_a_tracker_costs_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'dcbench-bacon[track]'")
    path = tmp_path / "cost.json"
    script = [sys.executable, str(ROOT / "benchmarks" / "trackers.py")]
    command = [*script, "--rounds", "1", "--steps", "3", "--output", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "ms per step, without it" in done.stdout
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (len(found["with"]), len(found["without"])) == (1, 1)
    assert found["ratio"] == found["with"][0] / found["without"][0]
