"""Waiting for another process, which can be stopped and which the user is told of."""

from dcbench_bacon.errors import InterruptedRunError
from dcbench_bacon.runtime.disk.locks import Lock, acquire, holder
from dcbench_bacon.runtime.policy import RunPolicy


def wait_for(lock: Lock, policy: RunPolicy, purpose: str) -> None:
    """Acquire a lock; tell the user after ``policy.look`` seconds who holds it.

    Args:
        lock: the lock.
        policy: states, while waiting, whether to stop; its reporter tells the user.
        purpose: the work that the holder of the lock is doing, such as ``evaluates
            cifar10-ipc1-dm-s0``.

    Raises:
        InterruptedRunError: the run was stopped before the lock was free.
        OutputError: the lock file cannot be written.
    """
    told = False
    while not acquire(lock, policy.look):
        if policy.stopped():
            raise InterruptedRunError(f"stopped while another process {purpose}")
        if not told:
            policy.reporter.tell(
                f"waiting for {holder(lock)}, which {purpose} ({lock.lock_file})"
            )
            told = True
