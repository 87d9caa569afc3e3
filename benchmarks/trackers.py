"""What a tracker costs per step, by medians of interleaved runs.

    python benchmarks/trackers.py --output results/benchmarks/trackers.json

Runs with and without the tracker take turns on an otherwise idle machine, each in a
folder of its own, so that what else the machine does falls on both alike. Each run
gives the median of its steps; the cost is the ratio of the medians of these.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from click.testing import CliRunner

from dcbench_bacon.cli.main import main
from dcbench_bacon.runtime.compute.devices import choose_device
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.store import Store


def seconds_per_step(name: str | None, steps: int, method: str, device: str) -> float:
    """Return the median seconds of the steps of one run.

    Args:
        name: the tracker; None for none.
        steps: the number of steps of the distillation.
        method: the method that distils scikit-learn's digits.
        device: where it runs.
    """
    shortened = {"steps": steps, "protocol.epochs": 1, "protocol.networks": 1}
    with TemporaryDirectory() as folder:
        words = ["run", "--methods", method, "--datasets", "digits", "--ipc", "10"]
        words += ["--preset", "demo", "--architectures", "ConvNetD1W8"]
        words += ["--device", device, "--output", folder]
        for key, value in shortened.items():
            words += ["--set", f"{key}={value}"]
        done = CliRunner().invoke(main, [*words, *(("--track", name) if name else ())])
        if done.exit_code:
            raise SystemExit(done.output)
        (record,) = Store(Path(folder)).records()
    return record.distillation["match"].median


def measure(
    name: str, *, rounds: int, steps: int, method: str = "dm", device: str = "cpu"
) -> dict[str, Any]:
    """Return the medians of interleaved runs with and without a tracker.

    Args:
        name: the tracker.
        rounds: the number of pairs of runs; each pair changes the order.
        steps: the number of steps per run.
        method: the method that distils scikit-learn's digits.
        device: where it runs.

    Returns:
        ``without`` and ``with``: the median seconds per step of each run; ``ratio``:
        the median of the latter by that of the former; and what was run where.
    """
    seconds: dict[str | None, list[float]] = {None: [], name: []}
    seconds_per_step(name, min(steps, 5), method, device)  # loads the tracker
    for number in range(rounds):
        for tracker in (None, name) if number % 2 else (name, None):
            seconds[tracker].append(seconds_per_step(tracker, steps, method, device))
    return {
        "tracker": name,
        "without": seconds[None],
        "with": seconds[name],
        "ratio": median(seconds[name]) / median(seconds[None]),
        "method": method,
        "steps": steps,
        "device": environment(choose_device(device)).device,
    }


def measure_and_tell(arguments: list[str]) -> None:
    """Measure, print the ratio and write the numbers to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--track", default="tensorboard")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--method", default="dm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    result = measure(
        given.track,
        rounds=given.rounds,
        steps=given.steps,
        method=given.method,
        device=given.device,
    )
    without, tracked = median(result["without"]), median(result["with"])
    change = 100 * (result["ratio"] - 1)
    print(
        f"{given.track}: {1000 * tracked:.3f} ms per step, without it "
        f"{1000 * without:.3f} ms: {change:+.2f} % (medians of {given.rounds} runs)"
    )
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    measure_and_tell(sys.argv[1:])
