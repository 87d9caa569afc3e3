"""Work in a worker of Ray: what it is given, and how it reports."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from dcbench_bacon.errors import DcbenchError, InterruptedRunError, OutputError
from dcbench_bacon.running.failures import message_of
from dcbench_bacon.running.grids import ray_locks
from dcbench_bacon.running.grids.aside import (
    Aside,
    BoardReporter,
    RareQuestion,
    load_of_node,
)

Function = Callable[..., Any]


class Work(NamedTuple):
    """A piece of work in another process.

    Attributes:
        name: what the user sees.
        function: is called with the arguments and an ``Aside``, and returns the result.
        arguments: plain data.
    """

    name: str
    function: Function
    arguments: tuple[Any, ...]


class PartError(DcbenchError):
    """A part that several cells need could not be made."""


def do(
    board: Any, cores: int, tracked: bool, locked: bool, work: Work, *_parts: Any
) -> Any:
    """Do a piece of work in a worker of Ray; ``_parts`` have been made before."""
    import ray

    torch.set_num_threads(cores)
    if not locked:
        ray_locks.use_actor(ray)
    node = ray.get_runtime_context().get_node_id()

    def show(cell: str, text: str) -> None:
        board.show.remote(node, load_of_node() if text else "", cell, text)

    def stopping() -> bool:
        try:
            return bool(ray.get(board.is_stopping.remote()))
        except ray.exceptions.RayError:  # its node is gone; it begins anew
            return False

    def track(run: str, values: dict[str, float], step: int) -> None:
        board.track.remote(run, values, step)

    reporter = BoardReporter(work.name, board.tell.remote, show)
    aside = Aside(reporter, RareQuestion(stopping), track if tracked else None)
    return work.function(*work.arguments, aside)


def make(work: Work, aside: Aside) -> None:
    """Make a part.

    Raises:
        InterruptedRunError: the command was stopped.
        OutputError: results can no longer be written.
        PartError: the part cannot be made; the message starts with the reason.
    """
    try:
        work.function(*work.arguments, aside)
    except (InterruptedRunError, OutputError):
        raise
    except Exception as error:
        raise PartError(
            f"{message_of(error)} ({work.name}, which is shared)"
        ) from error
