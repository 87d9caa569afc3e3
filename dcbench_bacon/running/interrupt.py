"""Ctrl-C as a request that steps look at."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C and a polite kill into a request that steps look at.

    A second Ctrl-C ends the program at once.
    """
    requested = False

    def request(number: int, frame: Any) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        logger.warning("stopping after this step; once more to stop at once")

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request) for number in signals]
    try:
        yield lambda: requested
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
