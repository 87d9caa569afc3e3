"""Trackers: TensorBoard, Weights & Biases and MLflow, behind one small interface.

What is tracked goes through a queue to a thread, so that no step waits for a tracker,
and no error of a tracker ends a run.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dcbench_bacon.errors import UsageError

logger = logging.getLogger(__name__)

PROJECT = "dcbench"
MOST_WAITING = 1000  # entries; further ones are dropped rather than awaited
LAST_SECONDS = 30.0  # to write what is left at the end
Pixels = npt.NDArray[np.uint8]  # height, width, 3


class Backend(Protocol):
    """The runs of one tracking tool; one run per cell."""

    def scalars(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Keep numbers by name."""
        ...

    def image(self, run: str, name: str, pixels: Pixels) -> None:
        """Keep a picture."""
        ...

    def config(self, run: str, values: Mapping[str, Any]) -> None:
        """Keep the settings of a run."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Tracker:
    """A thread that hands entries to a backend.

    Args:
        make: makes the backend, in the thread.
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        """Start the thread."""
        self._make = make
        self._entries: queue.Queue[Callable[[Backend], None] | None]
        self._entries = queue.Queue(MOST_WAITING)
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="track", daemon=True)
        self._thread.start()

    def scalars(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Keep numbers by name; returns at once."""
        kept = dict(values)
        self._add(lambda backend: backend.scalars(run, kept, step))

    def image(self, run: str, name: str, pixels: Pixels) -> None:
        """Keep a picture; returns at once."""
        self._add(lambda backend: backend.image(run, name, pixels))

    def config(self, run: str, values: Mapping[str, Any]) -> None:
        """Keep the settings of a run; returns at once."""
        kept = dict(values)
        self._add(lambda backend: backend.config(run, kept))

    def close(self) -> None:
        """Wait until everything is written, for ``LAST_SECONDS`` at most."""
        if self._thread.is_alive():
            try:
                self._entries.put(None, timeout=LAST_SECONDS)
            except queue.Full:
                return
            self._thread.join(LAST_SECONDS)

    def _add(self, entry: Callable[[Backend], None]) -> None:
        """Queue an entry, or drop it if the tracker is broken or far behind."""
        if not self._broken:
            try:
                self._entries.put_nowait(entry)
            except queue.Full:
                return

    def _work(self) -> None:
        """Hand entries on until the end or the first error."""
        try:
            backend = self._make()
            while (entry := self._entries.get()) is not None:
                entry(backend)
            backend.close()
        except Exception as error:  # noqa: BLE001 - a tracker must not end a run
            self._broken = True
            logger.warning("tracking has ended (%s: %s)", type(error).__name__, error)
            while self._entries.qsize():
                self._entries.get_nowait()


class TensorBoard:
    """Event files, one folder per run.

    Args:
        folder: of all runs.
    """

    def __init__(self, folder: Path) -> None:
        """Open no file yet."""
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def scalars(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Keep numbers by name."""
        for name, value in values.items():
            self._writer(run).add_scalar(name, value, step)

    def image(self, run: str, name: str, pixels: Pixels) -> None:
        """Keep a picture."""
        self._writer(run).add_image(name, pixels, dataformats="HWC")

    def config(self, run: str, values: Mapping[str, Any]) -> None:
        """Keep the settings as a table."""
        lines = [f"| {key} | {value} |" for key, value in values.items()]
        table = "\n".join(["| setting | value |", "| --- | --- |", *lines])
        self._writer(run).add_text("recipe", table)

    def close(self) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, run: str) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        if run not in self._writers:
            path = self.folder / run.replace("/", "-")
            self._writers[run] = SummaryWriter(str(path))
        return self._writers[run]


class Wandb:
    """Runs of Weights & Biases; ``WANDB_MODE=offline`` keeps them on disk.

    Args:
        folder: of the files on disk.
    """

    def __init__(self, folder: Path) -> None:
        """Begin no run yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._name = ""
        self._run: Any = None

    def scalars(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Keep numbers by name; each has its own step."""
        self._of(run).log({**values, "step": step})

    def image(self, run: str, name: str, pixels: Pixels) -> None:
        """Keep a picture."""
        import wandb

        self._of(run).log({name: wandb.Image(pixels)})

    def config(self, run: str, values: Mapping[str, Any]) -> None:
        """Keep the settings of a run."""
        self._of(run).config.update(dict(values))

    def close(self) -> None:
        """Write what is left."""
        if self._run is not None:
            self._run.finish()

    def _of(self, run: str) -> Any:
        import wandb

        if run != self._name:
            self.close()
            self._run = wandb.init(project=PROJECT, name=run, dir=str(self.folder))
            self._name = run
        return self._run


class Mlflow:
    """Runs of MLflow, in ``MLFLOW_TRACKING_URI`` or a file store.

    Args:
        folder: of the file store.
    """

    def __init__(self, folder: Path) -> None:
        """Open the experiment."""
        # Version 3 asks for this before it writes to a folder without a server.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        where = os.environ.get("MLFLOW_TRACKING_URI") or folder.absolute().as_uri()
        self._client = MlflowClient(where)
        experiment = self._client.get_experiment_by_name(PROJECT)
        self._experiment = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(PROJECT)
        )
        self._runs: dict[str, str] = {}

    def scalars(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Keep numbers by name."""
        for name, value in values.items():
            self._client.log_metric(self._of(run), name, value, step=step)

    def image(self, run: str, name: str, pixels: Pixels) -> None:
        """Keep a picture."""
        self._client.log_image(self._of(run), pixels, f"{name}.png")

    def config(self, run: str, values: Mapping[str, Any]) -> None:
        """Keep the settings of a run."""
        for name, value in values.items():
            self._client.log_param(self._of(run), name, value)

    def close(self) -> None:
        """End the runs."""
        for run in self._runs.values():
            self._client.set_terminated(run)

    def _of(self, run: str) -> str:
        if run not in self._runs:
            created = self._client.create_run(self._experiment, run_name=run)
            self._runs[run] = created.info.run_id
        return self._runs[run]


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def tracker(name: str, output: Path) -> Tracker:
    """Return a tracker that keeps its files in a results folder.

    Args:
        name: ``tensorboard``, ``wandb`` or ``mlflow``.
        output: the results folder; the files go to a folder of that name in it.

    Raises:
        UsageError: the tool is not installed.
    """
    if find_spec(name) is None:
        raise UsageError(
            f"--track {name}: {name} is not installed; pip install {name}, or "
            "dcbench-bacon[track]"
        )
    return Tracker(lambda: BACKENDS[name](output / name))
