"""The tasks of ``gpu.py``: each returns its result, or None if more is left to do."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
Task = Callable[[Path, bool, float], Result | None]
STEPS = 500  # of the projection
RECIPE_STEPS = 20_000

# The published recipes, the most important first; --toy replaces them by one on digits.
RECIPES = (
    ("fashion_mnist", "random,dm,bacon", "10"),
    ("mnist", "random,dm,dc,dsa,idm,bacon", "1,10"),
    ("fashion_mnist", "random,dm,dc,dsa,idm,bacon", "1"),
    ("folder:cifar10-jpeg", "random,dm,idm,bacon", "10"),
    ("mnist", "random,dm,idm,bacon", "50"),
)


def tests(output: Path, toy: bool, seconds: float) -> Result | None:
    """``pytest -m gpu``; at toy size the tests of the same file that need no GPU."""
    file = "tests/runtime/test_cuda_graphs.py"
    chosen = [file, "-k", "overwritten"] if toy else ["-m", "gpu"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return {"status": done.returncode, "tail": done.stdout.splitlines()[-15:]}


def bacon_step(output: Path, toy: bool, seconds: float) -> Result | None:
    """Our BACON step at IPC 10 beside the plain one, in float32 and in TF32."""
    import gpu_steps as steps

    times: Result = {}
    precisions: tuple[Any, ...] = ("fp32", "tf32")
    for precision in precisions:
        plain = steps.plain_bacon(toy, precision)
        times[f"plain {precision}"] = steps.time_of(plain, 2 if toy else 5, warm_up=1)
        modes = ("off",) if toy else ("off", "on")
        for mode in modes:
            ours = steps.our_bacon(toy, mode, precision)
            times[f"ours {precision}, compile {mode}"] = steps.time_of(
                ours, 2 if toy else 50, warm_up=2 if toy else 6
            )
        best = min(times[f"ours {precision}, compile {mode}"] for mode in modes)
        times[f"ratio {precision}"] = times[f"plain {precision}"] / best
    return times


def evaluation(output: Path, toy: bool, seconds: float) -> Result | None:
    """The passes of five networks together, beside one after another."""
    import gpu_steps as steps

    times: Result = {}
    for together in (False, True):
        took = steps.evaluation_seconds(toy, together, passes=3 if toy else 101)
        times["together" if together else "one by one"] = took
    times["ratio"] = times["one by one"] / times["together"]
    return times


def projection(output: Path, toy: bool, seconds: float) -> Result | None:
    """20,000 BACON steps and five networks, from 500 steps and one evaluation."""
    import gpu_steps as steps

    count = 3 if toy else STEPS
    began = time.perf_counter()
    steps.take(steps.our_bacon(toy, "off" if toy else "on", "tf32"), count)
    a_step = (time.perf_counter() - began) / count  # compilation and recording included
    judged = steps.evaluation_seconds(toy, True, passes=3 if toy else 1001)
    total = RECIPE_STEPS * a_step + judged
    return {
        **{"steps": count, "seconds_per_step": a_step, "evaluation_seconds": judged},
        **{"projected_minutes": total / 60},
    }


def share(output: Path, toy: bool, seconds: float) -> Result | None:
    """Each method's operations per second, as a share of a matrix product's."""
    datasets, methods = (
        ("digits", "dm,bacon") if toy else ("cifar10", "dm,idm,bacon,dc")
    )
    command = ["time", "--methods", methods, "--datasets", datasets, "--ipc", "10"]
    command += ["--steps", "1" if toy else "20", "--format", "csv"]
    command += ["--preset", "demo"] if toy else []
    done = _dcbench(*command, "--output", str(output / "results"))
    return {"status": done.returncode, "table": done.stdout.splitlines()}


def graphs(output: Path, toy: bool, seconds: float) -> Result | None:
    """Updates of five networks: plain, CUDA graphs, and the compiler's own graphs."""
    import gpu_steps as steps

    return steps.graph_seconds(toy)


def recipes(output: Path, toy: bool, seconds: float) -> Result | None:
    """Published recipes, in the order of ``RECIPES``, as far as the slice goes."""
    until = time.monotonic() + seconds
    chosen = (("digits", "random,dm", "1"),) if toy else RECIPES
    for dataset, methods, ipc in chosen:
        left = until - time.monotonic()
        if left < 5:
            return None
        command = ["run", "--methods", methods, "--datasets", dataset, "--ipc", ipc]
        command += ["--preset", "demo" if toy else "paper"]
        command += ["--set", "steps=5", "--set", "protocol.epochs=5"] if toy else []
        command += ["--time-budget", f"{left:.0f}"]
        done = _dcbench(*command, "--output", str(output / "results"))
        print(done.stdout, done.stderr, flush=True)
        if done.returncode == 130 or time.monotonic() > until:
            return None  # stopped by its time budget
        if done.returncode not in (0, 1):
            return {"status": done.returncode, "error": done.stderr.splitlines()[-5:]}
    return {"status": 0}


def _dcbench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of dcbench in a process of its own."""
    code = "from dcbench_bacon.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


TASKS: dict[str, Task] = {
    "tests": tests,
    "bacon_step": bacon_step,
    "evaluation": evaluation,
    "projection": projection,
    "share": share,
    "graphs": graphs,
    "recipes": recipes,
}
