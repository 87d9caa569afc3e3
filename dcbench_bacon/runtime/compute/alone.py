"""Measurements that have their device to themselves, as far as dcbench goes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from filelock import FileLock

from dcbench_bacon.errors import UsageError
from dcbench_bacon.runtime.disk.files import cache_root, slug
from dcbench_bacon.runtime.disk.locks import acquire, holder


@contextmanager
def alone_on(device: torch.device) -> Iterator[None]:
    """Keep other measurements of this user away from a device of this machine.

    Raises:
        UsageError: there is one already.
    """
    number = device.index if device.index is not None else 0
    name = f"{device.type}-{number}" if device.type == "cuda" else device.type
    path = cache_root() / f"timing-{slug(socket.gethostname())}-{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    if not acquire(lock, 0.0):
        raise UsageError(
            f"--device {device}: {holder(lock)} times steps on it; two at once would "
            "measure each other, so give the command again when that has ended"
        )
    try:
        yield
    finally:
        lock.release()
