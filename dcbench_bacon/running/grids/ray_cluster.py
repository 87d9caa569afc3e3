"""Clusters of Ray, and what each cell gets of them."""

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from dcbench_bacon.errors import UsageError


class Cluster(NamedTuple):
    """Where cells run, and what each of them gets.

    Attributes:
        address: ``auto`` for the running cluster that Ray finds, ``ray://HOST:PORT``
            for that of a Ray client server; None starts Ray on this machine alone.
        cores: processor cores per cell; None divides those of the cluster by the cells
            that run at once.
        gpus: GPUs per cell, of which a fraction lets several cells share one.
        retries: how often a cell whose worker or node has died is run again.
    """

    address: str | None = None
    cores: int | None = None
    gpus: float = 1.0
    retries: int = 2


class Share(NamedTuple):
    """The share of one cell: processor cores, and GPUs or a fraction of one."""

    cores: int
    gpus: float


def address_of(executor: str) -> str | None:
    """Return the address of the cluster for the value of ``--executor``.

    Args:
        executor: ``ray``, ``ray:auto`` or ``ray://HOST:PORT``.

    Raises:
        UsageError: it is none of these.
    """
    if executor == "ray":
        return None
    if executor == "ray:auto":
        return "auto"
    if executor.startswith("ray://") and executor.rpartition(":")[2].isdecimal():
        return executor
    raise UsageError(
        f"--executor {executor}: write process, ray, ray:auto or ray://HOST:PORT"
    )


def asked(executor: str, **per_cell: Any) -> Cluster | None:
    """Return the cluster that the options ask for; None for the process itself.

    Args:
        executor: ``process``, or one of ``address_of``.
        per_cell: the other fields of ``Cluster``.

    Raises:
        UsageError: there is no such executor, or Ray is not installed.
    """
    if executor == "process":
        return None
    load()  # told before anything else takes time
    return Cluster(address_of(executor), **per_cell)


def load() -> Any:
    """Return the module of Ray.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"--executor ray needs the package ray ({error}): "
            "pip install 'dcbench-bacon[ray]'"
        ) from error
    return ray


@contextmanager
def connected(
    ray: Any, address: str | None, tell: Callable[[str], None]
) -> Iterator[None]:
    """Connect to a cluster; leave one that was connected before as it is.

    Raises:
        UsageError: the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    local: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    tell("starting Ray on this machine" if address is None else f"Ray at {address}")
    named = {key: os.environ[key] for key in os.environ if key.startswith("DCBENCH_")}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",  # without it, Ray may find another cluster
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": named} if named else None,
            **local,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"--executor: no cluster of Ray can be reached at {address} ({reason}); "
            "start one with `ray start --head`, or use --executor ray. If it asks for "
            "a token, set RAY_AUTH_MODE=token and copy its ~/.ray/auth_token"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray has put its own in its place
    try:
        yield
    finally:
        ray.shutdown()


def share(
    cluster: Cluster, resources: dict[str, float], device: torch.device, count: int
) -> Share:
    """Return what each cell gets.

    Args:
        cluster: what the user has asked for.
        resources: ``CPU`` and ``GPU`` of the whole cluster.
        device: of the configuration; ``cuda`` gives cells GPUs.
        count: the number of cells.

    Raises:
        UsageError: the cluster has less than one cell is to get.
    """
    cores, gpus = int(resources.get("CPU", 1)), resources.get("GPU", 0.0)
    on_gpu = device.type == "cuda"
    if on_gpu and cluster.gpus > gpus:
        raise UsageError(
            f"--gpus-per-cell {cluster.gpus:g}: the cluster has {gpus:g} GPUs; give "
            "fewer, or --device cpu"
        )
    if cluster.cores and cluster.cores > cores:
        raise UsageError(
            f"--cores-per-cell {cluster.cores}: the cluster has {cores} cores; give "
            "fewer"
        )
    at_once = math.floor(gpus / cluster.gpus) if on_gpu else cores
    cores_per_cell = cluster.cores or max(1, cores // max(1, min(count, at_once)))
    return Share(cores_per_cell, cluster.gpus if on_gpu else 0.0)


def whole_node(nodes: Sequence[dict[str, Any]], least: Share) -> Share:
    """Return all that the smallest node has which can run a cell."""
    sizes = [
        node["Resources"]
        for node in nodes
        if node.get("Alive") and node["Resources"].get("CPU", 0) >= least.cores
    ]
    cores = min((int(size["CPU"]) for size in sizes), default=least.cores)
    return Share(cores, math.ceil(least.gpus))
