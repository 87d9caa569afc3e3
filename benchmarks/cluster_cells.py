"""Light cells that fail on purpose, on clusters of Ray on this machine."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray import cloudpickle
from ray.cluster_utils import Cluster as Nodes

from dcbench_bacon.contract import Run, method_class
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.recipes.overlay import request_of
from dcbench_bacon.running.grids import ray_executor
from dcbench_bacon.running.grids.ray_cluster import Cluster
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.plans.planning_of_grids import Grid, plan
from dcbench_bacon.running.run import RunConfig
from dcbench_bacon.store import Store

# Workers cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

CPU = torch.device("cpu")
STORE_MEMORY = 80 * 2**20  # bytes of each node for objects
KINDS = ("exception", "kill", "memory")
REASONS = {
    "exception": "RuntimeError: it fails on purpose",
    "kill": "WorkerCrashedError",
    "memory": "MemoryError",
}
FATES = "DCBENCH_PROOF"  # the variable that names the folder of fates and of the log
NETWORK = "ConvNetD1W8"


def jobs(method: str, seeds: int, **settings: object) -> list[CellJob]:
    """Return cells on the digits, one per seed."""
    protocol = {"protocol.epochs": 1, "protocol.networks": 1}
    request = request_of(
        "demo",
        preset="demo",
        overrides=tuple(f"{k}={v}" for k, v in {**settings, **protocol}.items()),
        architectures=(NETWORK,),
    )
    asked = Grid(
        methods=(method,),
        datasets=("digits",),
        ipc=(1,),
        seeds=tuple(range(seeds)),
        request=request,
    )
    return plan(asked)


def fates(count: int) -> dict[int, str]:
    """Return how cells fail, by seed: 5 % for good, and 1 % once."""
    bad = max(len(KINDS), count // 20)
    found = {(2 * i + 1) * count // (2 * bad): KINDS[i % 3] for i in range(bad)}
    left = [seed for seed in range(count) if seed not in found]
    once = max(1, count // 100)
    return found | {left[i * len(left) // once]: "once" for i in range(once)}


def fail_on_purpose() -> None:
    """Make cells of random images fail as they should, in a worker that starts."""
    folder = Path(os.environ[FATES])
    decided = json.loads((folder / "fates.json").read_text())
    kind_of_method: Any = method_class("random")
    plain = kind_of_method.distill

    def distill(self: Any, run: Run) -> SyntheticSet:
        fate = decided.get(str(run.cell.seed))
        marker = folder / f"killed-{run.cell.seed}"
        if fate == "kill" or (fate == "once" and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "memory":
            raise MemoryError
        if fate == "exception":
            raise RuntimeError("it fails on purpose")
        made: SyntheticSet = plain(self, run)
        with (folder / "made.txt").open("a") as log:  # one write, at the end
            log.write(f"{run.cell.seed}\n")
        return made

    kind_of_method.distill = distill


@contextmanager
def nodes(*cores: int, folder: Path | None = None) -> Iterator[Nodes]:
    """Yield a cluster of a head without cores and of nodes, and connect to it.

    Args:
        cores: of each node.
        folder: of fates; None for cells that do not fail.
    """
    shared: dict[str, Any] = {"object_store_memory": STORE_MEMORY}
    cluster = Nodes(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, **shared},
    )
    try:
        for each in cores:
            cluster.add_node(num_cpus=each, **shared)
        connect(cluster.address, folder)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def connect(address: str, folder: Path | None) -> None:
    """Connect to a cluster, whose workers look for fates in a folder."""
    environment: dict[str, Any] = {}
    if folder:
        environment["env_vars"] = {FATES: str(folder)}
        environment["worker_process_setup_hook"] = fail_on_purpose
    ray.init(
        address=address,
        runtime_env=environment,
        log_to_driver=False,
        logging_level="ERROR",
    )


def ends(cells: Sequence[CellJob], output: Path, **config: Any) -> Counter[str]:
    """Run cells on the connected cluster, a core each; count how they ended."""
    context = RunConfig(CPU, **config).here()
    found = ray_executor.results(
        ray, cells, Store(output).open(), context, Cluster(cores=1)
    )
    return Counter(result.outcome for result in found)


def made(folder: Path) -> list[int]:
    """Return the seeds of the sets that were made, sorted; twice if made twice."""
    return sorted(map(int, (folder / "made.txt").read_text().split()))
