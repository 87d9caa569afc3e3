"""Results that several cells need, such as a trained network: made once and kept."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from dcbench_bacon.contract import State
from dcbench_bacon.errors import RecordError
from dcbench_bacon.running.waiting import wait_for
from dcbench_bacon.runtime.disk import checkpoint
from dcbench_bacon.runtime.disk.files import slug
from dcbench_bacon.runtime.disk.locks import lock_of
from dcbench_bacon.runtime.policy import RunPolicy

logger = logging.getLogger(__name__)


def once(
    folder: Path, name: str, policy: RunPolicy, make: Callable[[Path], State]
) -> State:
    """Return the content of a file, which is made first if it cannot be read.

    Processes that ask for the same name at the same time wait for the first of them.
    The checkpoints of a process that was killed serve the next one.

    Args:
        folder: the folder of all such files.
        name: the name of the file, without its ending.
        policy: states, while waiting, whether to stop.
        make: makes the content; takes the folder of its checkpoints, which is removed
            afterwards.

    Raises:
        InterruptedRunError: the run was stopped while another process made the file.
    """
    path = folder / f"{slug(name)}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_of(folder / f".{slug(name)}.lock")
    wait_for(lock, policy, f"makes {name}")
    try:
        content = _read(path)
        if content is None:
            content = _made(path.with_suffix(""), make)
            checkpoint.write(path, content)
            content = dict(checkpoint.read(path))  # on the CPU, as for the next reader
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        return content
    finally:
        lock.release()


def _read(path: Path) -> State | None:
    """Return the content of a file; None if it does not exist or is damaged."""
    if not path.exists():
        return None
    try:
        return dict(checkpoint.read(path))
    except RecordError as error:
        logger.warning("made again: %s", error)
        return None


def _made(checkpoints: Path, make: Callable[[Path], State]) -> State:
    """Return what ``make`` makes, from the start if its checkpoint is damaged."""
    try:
        return make(checkpoints)
    except RecordError as error:
        logger.warning("begun again: %s", error)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return make(checkpoints)
