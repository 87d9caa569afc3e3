"""Locks across nodes whose file system has none: an actor of Ray holds them.

Whether the locks of files hold is tried out: this process takes one in the results
folder, and a task on each other node must not get it. Where a node gets it, or the file
system has no locks, one actor per cluster holds those of all commands. A holder renews
its locks every few seconds; those of a worker or a node that has died become free.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dcbench_bacon.errors import UsageError
from dcbench_bacon.runtime.disk import locks

NAME, NAMESPACE = "locks", "dcbench"
LEASE_SECONDS = 60.0  # without a sign of life, after which a lock is free
RENEW_SECONDS = 5.0  # between two signs of life
IDLE_SECONDS = 300.0  # without a lock, after which the actor ends itself
PROBE_SECONDS = 60.0  # that nodes have to try a lock
SEEN_SECONDS = 5.0  # after which a new file is seen on all nodes, as with NFS
POLL_SECONDS = 0.2  # between two attempts to take a lock


def hold_across_nodes(ray: Any, folder: Path) -> bool:
    """Return whether the locks of files in a folder hold on all nodes.

    Args:
        ray: the module, connected to a cluster.
        folder: the results folder.

    Raises:
        UsageError: a node does not have the folder under this path.
    """
    path = folder.absolute() / "checkpoints" / f".probe-{uuid.uuid4().hex}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except OSError:  # the file system has no locks
        return False
    try:
        answers = _tried_on(ray, path)
    finally:
        lock.release()
        path.unlink(missing_ok=True)
    for node, answer in answers.items():
        if answer == "absent":
            raise UsageError(
                f"--output {folder}: the node {node} does not have this folder; give "
                "one that all nodes share under one path"
            )
    return "taken" not in answers.values()


def _tried_on(ray: Any, path: Path) -> dict[str, str]:
    """Return what each other node answers, by its name; busy ones may be left out."""
    here = ray.get_runtime_context().get_node_id()
    others = [n for n in ray.nodes() if n["Alive"] and n["NodeID"] != here]
    if not others:
        return {}
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(attempt)
    asked = {}
    for node in others:
        on = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        started = task.options(scheduling_strategy=on).remote(path)
        asked[started] = node["NodeManagerHostname"]
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    answers = {}
    for question in done:
        with suppress(ray.exceptions.RayError):  # the node has gone
            answers[asked[question]] = ray.get(question)
    return answers


def attempt(path: Path) -> str:
    """Try to take a lock that another process has.

    Returns:
        ``held`` if it cannot be taken, as it should be; ``taken`` if it can, or if the
        file system has no locks; ``absent`` if there is no such file.
    """
    end = time.monotonic() + SEEN_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            return "absent"
        time.sleep(POLL_SECONDS)
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return "held"
    except OSError:
        return "taken"
    lock.release()
    return "taken"


class Keeper:
    """The locks of all commands on a cluster, in an actor.

    Args:
        wait: seconds without new locks at the start. Meanwhile, holders whose keeper
            has died announce theirs.
        clock: returns the time in seconds.
    """

    def __init__(
        self, wait: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Hold no lock."""
        self._clock = clock
        self._from = clock() + wait
        self._used = clock()
        self._holders: dict[str, tuple[str, float]] = {}  # and until when, by path

    def take(self, path: str, holder: str) -> bool:
        """Return whether a holder gets a lock now."""
        now = self._clock()
        if now < self._from:
            return False
        owner, until = self._holders.get(path, ("", 0.0))
        if owner not in ("", holder) and now < until:
            return False
        self.renew([path], holder)
        return True

    def renew(self, paths: list[str], holder: str) -> None:
        """Note that a holder lives, and has these locks."""
        self._used = self._clock()
        for path in paths:
            owner, until = self._holders.get(path, (holder, 0.0))
            if owner == holder or self._used >= until:
                self._holders[path] = holder, self._used + LEASE_SECONDS

    def give(self, path: str, holder: str) -> None:
        """Free a lock, if the holder still has it."""
        if self._holders.get(path, ("", 0.0))[0] == holder:
            del self._holders[path]

    def idle(self) -> float:
        """Return the seconds since a holder last took or renewed a lock."""
        return self._clock() - self._used


class _Actor(Keeper):
    """A keeper that ends its process when nobody uses it."""

    def __init__(self) -> None:
        super().__init__(wait=2 * RENEW_SECONDS)
        threading.Thread(target=self._end_when_idle, daemon=True).start()

    def _end_when_idle(self) -> None:
        import ray

        while self.idle() < IDLE_SECONDS:
            time.sleep(RENEW_SECONDS)
        actor = ray.get_actor(NAME, namespace=NAMESPACE)
        ray.kill(actor, no_restart=True)


def keeper(ray: Any) -> Any:
    """Return the actor that holds the locks of a cluster, started if need be."""
    options = {
        "name": NAME,
        "namespace": NAMESPACE,
        "lifetime": "detached",  # it serves the commands that come later, too
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": -1,
        "num_cpus": 0,
    }
    return ray.remote(_Actor).options(**options).remote()


class _Client:
    """The locks of this process, which it renews.

    Args:
        ray: the module.
    """

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.name = uuid.uuid4().hex
        self.held: set[str] = set()
        self._asking = ThreadPoolExecutor()
        self._keeper = keeper(ray)
        threading.Thread(target=self._renew, daemon=True).start()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what the actor answers; one that has ended is started again."""
        while True:
            answer = getattr(self._keeper, method).remote(*arguments)
            try:
                # Ray would give the cores of a task whose main thread waits to another.
                return self._asking.submit(self.ray.get, answer).result()
            except self.ray.exceptions.RayActorError:
                time.sleep(POLL_SECONDS)
                self._keeper = keeper(self.ray)

    def _renew(self) -> None:
        while True:
            time.sleep(RENEW_SECONDS)
            if self.held:
                with suppress(self.ray.exceptions.RayError):
                    self.ask("renew", sorted(self.held), self.name)


class ActorLock:
    """A lock that the actor holds for this process.

    Args:
        client: of this process.
        path: of the file that would be locked.
    """

    def __init__(self, client: _Client, path: Path) -> None:
        """Take nothing yet."""
        self.client = client
        self.lock_file = os.fspath(path.absolute())

    def acquire(self, timeout: float = -1) -> None:
        """Take the lock.

        Raises:
            Timeout: another process has it for longer than ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        while self.lock_file in self.client.held or not self.client.ask(
            "take", self.lock_file, self.client.name
        ):
            if timeout >= 0 and time.monotonic() >= end:
                raise Timeout(self.lock_file)
            time.sleep(POLL_SECONDS)
        self.client.held.add(self.lock_file)

    def release(self) -> None:
        """Give the lock back."""
        if self.lock_file in self.client.held:
            self.client.held.discard(self.lock_file)
            self.client.ask("give", self.lock_file, self.client.name)


_clients: list[_Client] = []


def use_actor(ray: Any) -> None:
    """Let the actor hold the locks of this process from now on."""
    if not _clients:
        _clients.append(_Client(ray))
        locks.use(partial(ActorLock, _clients[0]))
