"""Commands of dcbench that are killed, alone and on a cluster of Ray."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster_cells import FATES, NETWORK, nodes

AGENTS = (b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
PATIENCE = 300.0  # seconds


def wait(happened: Callable[[], bool]) -> None:
    """Wait until something has happened.

    Raises:
        TimeoutError: it has not happened within ``PATIENCE`` seconds.
    """
    end = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"{happened.__qualname__} did not happen")
        time.sleep(0.05)


def command(count: int, output: Path, executor: str, **variables: str) -> Any:
    """Start ``dcbench run`` of light cells in a process of its own."""
    words = f"""
        run --methods random --datasets digits --ipc 1 --preset demo --device cpu
        --architectures {NETWORK} --set protocol.epochs=1 --set protocol.networks=1
        --seeds {",".join(map(str, range(count)))} --no-download --cores-per-cell 1
        --executor {executor} --output {output}
    """
    return subprocess.Popen(
        [Path(sys.executable).with_name("dcbench"), *words.split()],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def driver(count: int, folder: Path) -> dict[str, Any]:
    """Kill the command on a Ray of its own, and on a cluster, and start it again."""
    alone = killed(count, folder / "alone", "ray")
    with nodes(1, 1) as cluster:
        address = {"RAY_ADDRESS": cluster.address}
        shared = killed(count, folder / "cluster", "ray:auto", **address)
    found = {"alone": alone, "cluster": shared}
    return {**found, "holds": all(each["holds"] for each in found.values())}


def killed(count: int, output: Path, executor: str, **variables: str) -> dict[str, Any]:
    """Kill the command when some cells have ended, and start it again."""
    words = {**variables, FATES: str(output)}
    first = command(count, output, executor, **words)
    wait(lambda: len(records(output)) > count // 4 or first.poll() is not None)
    first.kill()
    first.wait()
    start = time.monotonic()
    wait(lambda: not running(output))
    gone, before = time.monotonic() - start, records(output)
    time.sleep(2.0)
    silent = records(output) == before
    status = command(count, output, executor, **words).wait()
    after = records(output)
    return {
        "cells": count,
        "ended_before": len(before),
        "seconds_until_nothing_runs": gone,
        "holds": silent
        and status == 0
        and len(before) < len(after) == count
        and before.items() <= after.items(),
    }


def records(output: Path) -> dict[str, int]:
    """Return the records of a folder and when each was written."""
    found = (output / "records").glob("*.json")
    return {path.name: path.stat().st_mtime_ns for path in found}


def running(output: Path) -> list[int]:
    """Return the processes that a command with this folder has left.

    Ray's agents are left out, which do no work and end by themselves within a minute.
    """
    mark = f"{FATES}={output}".encode()
    left = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "environ").read_bytes().split(b"\0")
            title = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if mark in words and not title.startswith(AGENTS):
            left.append(int(place.name))
    return left


def parents_of(title: str) -> list[int]:
    """Return the parents of the processes with a title."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
            state = (place / "stat").read_text().rpartition(") ")[2]
        except OSError:  # it has ended
            continue
        if words.startswith(title.encode()):
            found.append(int(state.split()[1]))
    return found
