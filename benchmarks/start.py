"""Seconds until the first step of a run, without and with what earlier runs compiled.

    python benchmarks/start.py --output results/benchmarks/start.json

starts ``dcbench run`` on MNIST (or, without it, on ``--dataset digits``) in a process
of its own, with caches in an empty folder, until a step has ended; then again with the
same caches (warm), and then warm with another number of images per class, which needs
nothing new where compiled shapes do not depend on it. A step has ended when the run's
own progress says so. Run it on an otherwise idle machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MOST = 300.0  # seconds after which a start is given up
# Runs in the child: the clock of a run tells when the body of a step has ended.
CHILD = """
import sys, time
from dcbench_bacon.running import clock
first = clock.Clock.steps
def steps(self, stage, count, state=None):
    for number, index in enumerate(first(self, stage, count, state)):
        if number == 1:
            print("STEP", time.time(), flush=True)
        yield index
clock.Clock.steps = steps
from dcbench_bacon.cli.main import main
main(sys.argv[1:])
"""


def start(cache: Path, method: str, dataset: str, ipc: int, compiling: str) -> float:
    """Return the seconds from the start of the command to the end of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CHILD, "run", "--methods", method]
        command += ["--datasets", dataset, "--ipc", str(ipc), "--preset", "paper"]
        command += ["--compile", compiling, "--output", folder, "--device", "cpu"]
        command += ["--set", "steps=3", "--set", "protocol.epochs=1"]
        command += ["--set", "protocol.networks=1"]
        environment = {**os.environ, "DCBENCH_CACHE": str(cache)}
        before = time.time()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("STEP"):
                    return float(line.split()[1]) - before
                if time.time() - before > MOST:
                    break
        finally:
            process.kill()
            process.wait()
    raise SystemExit(f"no step of {method} within {MOST:.0f} s: {' '.join(command)}")


def main() -> None:
    """Measure all starts, print them, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", default="dm,bacon")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--ipc", default="10,1", help="the first is cold, others warm")
    parser.add_argument("--compile", choices=["on", "off"], default="on")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    first, *others = (int(count) for count in given.ipc.split(","))
    rows: list[dict[str, Any]] = []
    for method in given.methods.split(","):
        with tempfile.TemporaryDirectory() as cache:
            plan = [("cold", first), ("warm", first)]
            plan += [("warm, other IPC", ipc) for ipc in others]
            for kind, ipc in plan:
                took = start(Path(cache), method, given.dataset, ipc, given.compile)
                rows.append(
                    {"method": method, "ipc": ipc, "start": kind} | {"seconds": took}
                )
                print(f"{method:10} IPC {ipc:<3} {kind:16} {took:6.1f} s", flush=True)
    if given.output:
        about = {"machine": platform.processor(), "cores": os.cpu_count()}
        threads = os.environ.get("OMP_NUM_THREADS", "")
        document = {**about, "OMP_NUM_THREADS": threads, "dataset": given.dataset}
        document |= {"compile": given.compile, "starts": rows}
        given.output.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
