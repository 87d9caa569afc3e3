"""What runs in a results folder, and runs in the background."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from commandline import invoke

from dcbench_bacon.cli.cells.run_commands import run
from dcbench_bacon.runtime.monitoring import in_flight
from dcbench_bacon.runtime.monitoring.in_flight import announced, processes
from dcbench_bacon.runtime.monitoring.progress import Silent

WORKER = """
import sys, time
from pathlib import Path
from dcbench_bacon.runtime.monitoring import in_flight
from dcbench_bacon.runtime.monitoring.progress import Silent
with in_flight.announced(Silent(), Path(sys.argv[1]), every=0.0) as reporter:
    reporter.start("cell match", 3, 40)
    print("begun", flush=True)
    time.sleep(600)
"""


def killed_worker(output: Path) -> int:
    """Start a process that announces its work, kill it and return its number."""
    command = [sys.executable, "-c", WORKER, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        (state,) = processes(output)
        assert (state.pid, state.title, state.index) == (process.pid, "cell match", 3)
        assert not state.ended
        process.send_signal(signal.SIGKILL)
    return process.pid


def test_a_killed_process_is_told_and_forgotten(tmp_path: Path) -> None:
    number = killed_worker(tmp_path)
    shown = invoke("status", "--output", tmp_path)
    assert f"process {number}: it is gone, as after a kill" in shown.output
    assert "cell match 3/40" in shown.output
    with announced(Silent(), tmp_path):
        assert [state.pid for state in processes(tmp_path)] == [os.getpid()]
    assert processes(tmp_path) == []


def test_a_quiet_process_of_another_machine(tmp_path: Path) -> None:
    with announced(Silent(), tmp_path):
        (state,) = processes(tmp_path)
    old = msgspec.structs.replace(state, host="far", written=time.time() - 300)
    (tmp_path / in_flight.FOLDER / "far-1.json").write_bytes(msgspec.json.encode(old))
    (tmp_path / in_flight.FOLDER / "far-2.json").write_bytes(b"{")
    shown = invoke("status", "--output", tmp_path).output
    assert "no message for 5.0 min" in shown
    with announced(Silent(), tmp_path):  # of another machine, so it may be at work
        assert "far" in {state.host for state in processes(tmp_path)}


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    output = tmp_path / "file"
    output.write_text("no folder")
    with announced(Silent(), output, every=0.0) as reporter:
        reporter.start("cell", 0, 2)
        reporter.update(1, "loss 1")
    assert output.read_text() == "no folder"


def test_failures_are_counted_and_named(tmp_path: Path) -> None:
    grid = ("--methods", "random", "--datasets", "svhn", "--ipc", "1")
    invoke("run", *grid, "--no-download", "--data-root", tmp_path, "--output", tmp_path)
    shown = invoke("status", "--output", tmp_path).output
    assert f"no process works in {tmp_path}" in shown
    assert "0 done, 1 failed" in shown
    assert "failed: svhn-ipc1-random-s0: " in shown


@pytest.mark.parametrize("typed", [[], ["--detach"]])
def test_a_command_in_the_background_does_not_go_there_again(
    typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options are also environment variables, which processes inherit."""
    for name in ("DETACH", "DRY_RUN"):
        monkeypatch.setenv(f"DCBENCH_RUN_{name}", "1")
    context = run.make_context("run", [*typed], auto_envvar_prefix="DCBENCH_RUN")
    assert context.params["dry_run"]
    assert context.params["detach"] == bool(typed)


@pytest.mark.slow
def test_a_run_in_the_background_ends_with_its_table(tmp_path: Path) -> None:
    program = "from dcbench_bacon.cli.main import main; main()"
    words = [
        *("run", "--detach", "--methods", "random", "--datasets", "digits"),
        *("--ipc", "1", "--preset", "demo", "--set", "protocol.networks=1"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "works in the background" in done.stdout
    (log,) = tmp_path.glob("results/logs/*.log")
    deadline = time.monotonic() + 300
    while "This table again" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    assert "1 done" in invoke("status", "--output", tmp_path / "results").output
