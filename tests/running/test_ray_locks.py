"""Locks where the file system has none that hold: an actor of Ray holds them."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from dcbench_bacon.errors import UsageError
from dcbench_bacon.running.grids import ray_locks
from dcbench_bacon.running.grids.ray_locks import LEASE_SECONDS, Keeper
from dcbench_bacon.runtime.disk import locks


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """Locks of files serve this process again afterwards."""
    yield
    ray_locks._clients.clear()
    locks.use(FileLock)


class Clock:
    """A clock that stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lock_has_one_holder_until_it_is_given_back_or_its_holder_is_silent() -> None:
    clock = Clock()
    keeper = Keeper(clock=clock)
    assert keeper.take("a cell", "one")
    assert not keeper.take("a cell", "two")
    assert keeper.take("another cell", "two")
    keeper.give("a cell", "two")  # it is not theirs
    assert not keeper.take("a cell", "two")
    keeper.give("a cell", "one")
    assert keeper.take("a cell", "two")
    clock.now += LEASE_SECONDS - 1
    keeper.renew(["a cell"], "two")
    clock.now += LEASE_SECONDS - 1
    assert not keeper.take("a cell", "one")
    clock.now += 2
    assert keeper.take("a cell", "one")
    keeper.renew(["a cell"], "two")  # too late
    assert not keeper.take("a cell", "two")


def test_holders_announce_their_locks_to_a_new_keeper() -> None:
    clock = Clock()
    keeper = Keeper(wait=10.0, clock=clock)
    assert not keeper.take("a cell", "two")
    keeper.renew(["a cell"], "one")
    clock.now += 11
    assert not keeper.take("a cell", "two")
    assert keeper.take("another cell", "two")


class OneActor:
    """Ray with an actor in this process, and another node."""

    exceptions = SimpleNamespace(RayError=RuntimeError, RayActorError=RuntimeError)

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def remote(self, _: Any) -> Any:
        def method(name: str) -> Any:
            return SimpleNamespace(remote=getattr(self.keeper, name))

        names = ("take", "give", "renew")
        actor = SimpleNamespace(**{name: method(name) for name in names})
        return SimpleNamespace(
            options=lambda **_: SimpleNamespace(remote=lambda: actor)
        )

    def get(self, answer: Any) -> Any:
        return answer


def test_every_lock_of_a_process_goes_to_the_actor(tmp_path: Path) -> None:
    keeper = Keeper()
    ray_locks.use_actor(OneActor(keeper))
    lock, same = (locks.lock_of(tmp_path / "a.lock") for _ in range(2))
    assert locks.acquire(lock, 0.0)
    assert not locks.acquire(same, 0.0)
    assert not keeper.take(lock.lock_file, "another process")
    lock.release()
    lock.release()  # as of a file, more often than it was taken
    assert keeper.take(lock.lock_file, "another process")
    assert not locks.acquire(same, 0.0)
    assert list(tmp_path.iterdir()) == []


def test_locks_of_files_are_tried_on_every_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"b": "held"}
    monkeypatch.setattr(ray_locks, "_tried_on", lambda *_: answers)
    assert ray_locks.hold_across_nodes(None, tmp_path)
    answers["c"] = "taken"
    assert not ray_locks.hold_across_nodes(None, tmp_path)
    answers["c"] = "absent"
    with pytest.raises(UsageError, match=r"the node c does not have this folder"):
        ray_locks.hold_across_nodes(None, tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []

    monkeypatch.setattr(ray_locks, "SEEN_SECONDS", 0.0)
    held = FileLock(tmp_path / "held.lock")
    assert ray_locks.attempt(Path(held.lock_file)) == "absent"
    with held:
        assert ray_locks.attempt(Path(held.lock_file)) == "held"
    assert ray_locks.attempt(Path(held.lock_file)) == "taken"


def test_a_file_system_without_locks_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refused)
    assert not ray_locks.hold_across_nodes(None, tmp_path)
