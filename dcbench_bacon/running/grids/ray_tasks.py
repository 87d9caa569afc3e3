"""Work as tasks of Ray, which places it, retries it and survives lost nodes.

The work is any function of a module that takes plain data. Ray makes the parts that
several pieces of work need first, each in a task of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from dcbench_bacon.errors import InterruptedRunError, OutputError
from dcbench_bacon.running.failures import message_of
from dcbench_bacon.running.grids import ray_locks
from dcbench_bacon.running.grids.board import Board, view
from dcbench_bacon.running.grids.ray_cluster import (
    Cluster,
    Share,
    share,
    whole_node,
)
from dcbench_bacon.running.grids.ray_work import Work, do, make
from dcbench_bacon.running.run import RunConfig, RunContext

LOOK_SECONDS = 0.5  # between two looks at what has happened
LAST_STEP_SECONDS = 2.0  # that tasks have to end a step before they are cancelled
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")

Item = TypeVar("Item")


class _Pending(NamedTuple, Generic[Item]):
    """A task in flight: what it is for, its work, and whether it has a node alone."""

    item: Item
    work: Work
    alone: bool = False


class RayTasks(Generic[Item]):
    """The tasks of a command.

    Args:
        ray: the module.
        context: the configuration in this process.
        cluster: what each task gets.
        count: the number of tasks, without their parts.
        unit: the word for them in the plural, such as ``cells``.
        folder: the results folder.
    """

    def __init__(
        self,
        ray: Any,
        context: RunContext,
        cluster: Cluster,
        count: int,
        unit: str,
        folder: Path,
    ) -> None:
        """Start the board; no task runs yet.

        Raises:
            UsageError: the cluster has less than one task is to get, or a node does not
                have the results folder.
        """
        self.ray = ray
        self.context = context
        self.count = count
        self.unit = unit
        self.share = share(cluster, ray.cluster_resources(), context.device, count)
        self.board = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
        self.locked = ray_locks.hold_across_nodes(ray, folder)
        if not self.locked:
            context.tell(
                f"the locks of files in {folder} do not hold on all nodes, so an actor "
                "of Ray holds them; let no process without Ray work there meanwhile"
            )
        self.task = ray.remote(do)
        self.retries = cluster.retries
        self.pending: dict[Any, _Pending[Item]] = {}
        self.parts: dict[str, Any] = {}

    @property
    def config(self) -> RunConfig:
        """The configuration of each task."""
        config = self.context.config
        return replace(
            config,
            device=torch.device("cuda" if self.share.gpus else "cpu"),
            data_root=config.data_root and config.data_root.absolute(),
            fresh=False,
        )

    def start(self, item: Item, work: Work, needs: Sequence[Any] = ()) -> None:
        """Start a task.

        Args:
            item: is returned with its result.
            work: what to do.
            needs: the tasks of its parts; it fails if one of them fails.
        """
        self.pending[self._task(work, self.share, needs)] = _Pending(item, work)

    def part(self, key: str, work: Work, needs: Sequence[Any] = ()) -> Any:
        """Return the task of a part, which is started once.

        Args:
            key: identifies the part.
            work: makes it.
            needs: the tasks of the parts that it is made from.
        """
        if key not in self.parts:
            making = Work(work.name, make, (work,))
            self.parts[key] = self._task(making, self.share, needs)
        return self.parts[key]

    def ended(
        self, error_of: Callable[[Any], str | None]
    ) -> Iterator[tuple[Item, Any]]:
        """Yield the result of each task when it has ended, or the error that it raised.

        A task that runs out of memory runs once more, alone on its node, and makes what
        it needs itself.

        Args:
            error_of: returns the error that a result states, if any.

        Raises:
            InterruptedRunError: the user or a time budget stopped the command.
            OutputError: results can no longer be written.
        """
        reporter, done = self.context.policy.reporter, 0
        reporter.start(self.unit, 0, self.count)
        while self.pending:
            ended, _ = self.ray.wait(list(self.pending), timeout=LOOK_SECONDS)
            self._show(done)
            if self.context.policy.stopped():
                raise InterruptedRunError(
                    f"stopped after {done} of {self.count} {self.unit}"
                )
            for task in ended:
                pending, result = self.pending.pop(task), self._result(task)
                message = (
                    message_of(cause_of(result))
                    if isinstance(result, Exception)
                    else error_of(result) or ""
                )
                if message.startswith(OUT_OF_MEMORY) and not pending.alone:
                    self._again(pending)
                    continue
                done += 1
                reporter.stop()
                yield pending.item, result
                reporter.start(self.unit, done, self.count)

    def end(self) -> None:
        """Let the tasks in flight end their step, and cancel what is left."""
        if self.context.policy.track:
            self._show(self.count)  # what the last task has sent
        self.context.policy.reporter.stop()
        waiting = [*self.pending, *self.parts.values()] if self.pending else []
        if not waiting:
            return
        self.board.stop.remote()
        for task in waiting:
            self.ray.cancel(task)  # those that have not begun
        self.ray.wait(waiting, num_returns=len(waiting), timeout=LAST_STEP_SECONDS)
        for task in waiting:
            self.ray.cancel(task, force=True)

    def _task(self, work: Work, given: Share, needs: Sequence[Any]) -> Any:
        return self.task.options(
            num_cpus=given.cores,
            num_gpus=given.gpus,
            max_retries=self.retries,
            name=work.name,
        ).remote(
            self.board,
            given.cores,
            self.context.policy.track is not None,
            self.locked,
            work,
            *needs,
        )

    def _again(self, pending: "_Pending[Item]") -> None:
        """Run a task that was out of memory again, alone on its node."""
        work = pending.work
        self.context.tell(f"{work.name}: out of memory, so it runs again alone")
        whole = whole_node(self.ray.nodes(), self.share)
        self.pending[self._task(work, whole, ())] = pending._replace(alone=True)

    def _result(self, task: Any) -> Any:
        """Return the result of a task, or its error.

        Raises:
            InterruptedRunError: the task was stopped.
            OutputError: results can no longer be written.
        """
        try:
            return self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            cause = cause_of(error)
            if isinstance(cause, (InterruptedRunError, OutputError)):
                raise cause from error
            return error

    def _show(self, done: int) -> None:
        """Show the lines and the progress that tasks have sent; track their values."""
        try:
            lines, nodes, tracked = self.ray.get(self.board.take.remote())
        except self.ray.exceptions.RayError:  # its node is gone; it begins anew
            return
        for line in lines:
            self.context.tell(line)
        if self.context.policy.track:
            for values in tracked:
                self.context.policy.track(*values)
        self.context.policy.reporter.update(done, view(nodes))


def cause_of(error: Exception) -> Exception:
    """Return what a function has raised for an error of Ray, or the error."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error
