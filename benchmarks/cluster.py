"""Proof that a grid on Ray loses nothing, and what Ray costs per cell.

``python benchmarks/cluster.py --cells 1000 --output NAME.json`` checks, on clusters of
Ray that it starts on this machine:

- ``failures``: of many light cells on four nodes, 5 % fail on purpose, by an exception,
  a worker that kills itself or a lack of memory; some workers die once. Every good cell
  has one record and was made once, and the others are recorded with their reasons.
- ``node``: a node is removed while DM and BACON distil; the bits are those of a run
  that nothing disturbed.
- ``driver``: the command is killed, on a Ray of its own and on a cluster; nothing of it
  goes on running, and the same command ends the grid.
- ``two_drivers``: two commands share a folder; each cell is made once.
- ``overhead``: seconds per light cell that Ray adds to a plain process.
- ``throughput``: cells of ``--seconds`` on two workers and on one, a thread each.

The exit status is 1 if one of the claims does not hold.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from cluster_cells import (
    CPU,
    NETWORK,
    REASONS,
    connect,
    ends,
    fates,
    jobs,
    made,
    nodes,
)
from cluster_commands import driver, parents_of, records, wait

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.running.grids import grid
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.store import Store


def failures(count: int, folder: Path) -> dict[str, Any]:
    """Run cells of which some fail on purpose, on four nodes."""
    decided = fates(count)
    (folder / "fates.json").write_text(json.dumps(decided))
    start = time.perf_counter()
    with nodes(1, 1, 1, 1, folder=folder):
        counts = ends(jobs("random", count), folder / "results")
    seconds = time.perf_counter() - start
    records = list(Store(folder / "results").records())
    bad = {seed: kind for seed, kind in decided.items() if kind != "once"}
    good = sorted({*range(count)} - {*bad})
    reasons = {r.cell.seed: r.error or "" for r in records if r.status != "done"}
    return {
        "cells": count,
        "induced": dict(Counter(bad.values())),
        "killed_once": len(decided) - len(bad),
        "outcomes": dict(counts),
        "seconds": seconds,
        "holds": sorted(r.cell.seed for r in records if r.status == "done") == good
        and made(folder) == good
        and reasons.keys() == bad.keys()
        and all(reasons[seed].startswith(REASONS[bad[seed]]) for seed in bad),
    }


def node(steps: int, folder: Path) -> dict[str, Any]:
    """Remove the node on which DM, and then BACON, distils."""
    shape = {"steps": steps, "batch_real": 16, "architecture": NETWORK}
    torch.set_num_threads(1)
    found = {}
    for method in ("dm", "bacon"):
        (job,) = jobs(method, 1, **shape)
        quiet, disturbed = folder / f"{method}-quiet", folder / f"{method}-disturbed"
        list(grid.run([job], Store(quiet).open(), RunConfig(CPU).here()))
        found[method] = moved(job, disturbed) and torch.equal(
            images(quiet), images(disturbed)
        )
    return {"steps": steps, "same_bits": found, "holds": all(found.values())}


def moved(job: CellJob, output: Path) -> bool:
    """Run a cell whose node is removed after its first checkpoint.

    Returns:
        Whether the node was removed before the end, and the cell has a result.
    """
    removed = threading.Event()
    with nodes(1, 1) as cluster:

        def remove() -> None:
            wait(lambda: any(output.glob("checkpoints/*/match.safetensors")))
            parents = parents_of(f"ray::{job.cell}")
            (lost,) = (
                each
                for each in cluster.worker_nodes
                if each.all_processes["raylet"][0].process.pid in parents
            )
            cluster.remove_node(lost, allow_graceful=False)
            if not records(output):
                removed.set()

        remover = threading.Thread(target=remove)
        remover.start()
        counts = ends([job], output, checkpoint_every=0.0)
        remover.join()
    return removed.is_set() and counts == {"done": 1}


def images(output: Path) -> torch.Tensor:
    """Return the images of the one set of a folder."""
    (path,) = (output / "synthetic").glob("*.safetensors")
    return synthetic_file.read(path).images


def two_drivers(count: int, folder: Path) -> dict[str, Any]:
    """Let two commands run the same grid in one folder at the same time."""
    (folder / "fates.json").write_text("{}")
    with nodes(1, 1, folder=folder) as cluster:
        words = [sys.executable, __file__, "--cells", str(count)]
        words += ["--drive", cluster.address, "--output", str(folder)]
        both = [subprocess.Popen(words) for _ in range(2)]
        statuses = [each.wait() for each in both]
    done = len(records(folder / "results"))
    return {
        "cells": count,
        "records": done,
        "holds": statuses == [0, 0]
        and done == count
        and made(folder) == list(range(count)),
    }


def drive(address: str, count: int, folder: Path) -> None:
    """Run light cells on a cluster, as one of two commands."""
    connect(address, folder)
    counts = ends(jobs("random", count), folder / "results")
    assert counts["done"] + counts["skipped"] == count, counts


def overhead(count: int, folder: Path) -> dict[str, Any]:
    """Measure the seconds that Ray adds to a light cell, on one worker."""
    torch.set_num_threads(1)
    cells = jobs("random", count + 1)
    with nodes(1):
        ends(cells[:1], folder / "ray")  # the worker has started then
        start = time.perf_counter()
        ends(cells[1:], folder / "ray")
        on_ray = time.perf_counter() - start
    store, context = Store(folder / "plain").open(), RunConfig(CPU).here()
    list(grid.run(cells[:1], store, context))
    start = time.perf_counter()
    list(grid.run(cells[1:], store, context))
    plain = time.perf_counter() - start
    each = (on_ray - plain) / count
    return {
        "cells": count,
        "seconds_plain": plain / count,
        "seconds_on_ray": on_ray / count,
        "seconds_overhead": each,
        "holds": each < 0.2,
    }


def throughput(seconds: float, folder: Path) -> dict[str, Any]:
    """Measure cells per second on two workers and on one, a thread each."""
    shape = {"batch_real": 256, "architecture": NETWORK}
    per_step = pace(shape, folder / "pace")
    steps = max(2, round(seconds / per_step))
    cells = jobs("dm", 4, **shape, steps=steps)
    took = {}
    for workers in (1, 2):
        output = folder / str(workers)
        with nodes(*[1] * workers):
            warm = jobs("dm", 2 * workers, **shape, steps=2)
            ends(warm, folder / f"warm-{workers}")  # the workers have started then
            start = time.perf_counter()
            ends(cells, output)
            took[workers] = time.perf_counter() - start
    gain = took[1] / took[2]
    return {
        "cells": len(cells),
        "seconds_per_cell": took[1] / len(cells),
        "seconds_one_worker": took[1],
        "seconds_two_workers": took[2],
        "gain": gain,
        "holds": gain >= 1.6,
    }


def pace(shape: dict[str, Any], folder: Path) -> float:
    """Return the seconds of a step of DM in this process, with one thread."""
    torch.set_num_threads(1)
    cells = jobs("dm", 1, **shape, steps=50)
    (result,) = grid.run(cells, Store(folder).open(), RunConfig(CPU).here())
    return result.record.distillation["match"].seconds / 50


def main() -> int:
    """Check all claims, print each and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cells", type=int, default=20, help="light cells (default 20)"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of a long cell (default 20)"
    )
    parser.add_argument("--only", help="claims, such as failures,node (default all)")
    parser.add_argument("--output", type=Path, help="the JSON file")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        drive(given.drive, given.cells, given.output)
        return 0
    few = max(8, given.cells // 10)
    claims: dict[str, Callable[[Path], dict[str, Any]]] = {
        "failures": lambda folder: failures(given.cells, folder),
        "node": lambda folder: node(1000, folder),
        "driver": lambda folder: driver(few, folder),
        "two_drivers": lambda folder: two_drivers(few, folder),
        "overhead": lambda folder: overhead(given.cells, folder),
        "throughput": lambda folder: throughput(given.seconds, folder),
    }
    found: dict[str, Any] = {
        "ray": ray.__version__,
        "torch": torch.__version__,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    for name in given.only.split(",") if given.only else claims:
        with tempfile.TemporaryDirectory() as place:
            found[name] = claims[name](Path(place))
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    if given.output:
        text = json.dumps(found, indent=1)
        given.output.write_text(f"{text}\n", encoding="utf-8")
    return 0 if all(found[name]["holds"] for name in claims if name in found) else 1


if __name__ == "__main__":
    sys.exit(main())
