"""Ctrl-C and the time budget as requests to stop, which are met within seconds.

A request is met at the end of the step in progress if that comes soon. Otherwise the
step is left: an exception rises in it, and if even that does not end it, because the
main thread is inside compiled code, the process ends. Files are written completely or
not at all, and a checkpoint is never made of a step that was left, so the same command
continues from the last complete checkpoint with the same bits.
"""

import logging
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from dcbench_bacon.runtime.policy import PATIENCE

logger = logging.getLogger(__name__)

LAST_PATIENCE = 3.0  # seconds that an exception has to end the step after that
AGAIN = 1.0  # seconds between two exceptions, as a destructor may swallow one
LOOK = 0.25  # seconds between two looks at what the main thread does
# Frames of these modules are on the stack while torch compiles, and not afterwards.
COMPILERS = ("torch._dynamo.convert_frame", "torch._inductor.compile_fx")
INTERRUPTED = 130  # the exit status after Ctrl-C
SIGNALS = (signal.SIGINT, signal.SIGTERM)

CTRL_C = "interrupted"
BUDGET = "the time budget is spent"


class LeftStepError(KeyboardInterrupt):
    """A step was left before its end; its message says why.

    It is no ``Exception``, so that neither a compiler nor a method takes it for an
    error of its own.
    """


class Stopper:
    """A thread that turns signals and a deadline into the end of the work.

    A signal reaches the thread even while the main thread is inside compiled code.

    Args:
        deadline: the value of ``time.monotonic()`` at which the work is to stop.
        tell: shows a line to the user.
        farewell: is called with the reason before the process ends at once.
        patience: the seconds that a step in progress has to end after a request.
    """

    def __init__(
        self,
        deadline: float,
        tell: Callable[[str], None],
        farewell: Callable[[str], None],
        patience: float,
    ) -> None:
        """Keep the arguments; nothing is watched yet."""
        self.deadline = deadline
        self.tell = tell
        self.farewell = farewell
        self.patience = patience
        self.reason = ""
        self._leaving = False
        self._ours, self._theirs = socket.socketpair()
        for end in (self._ours, self._theirs):
            end.setblocking(False)
        self._main = threading.main_thread().ident
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    def requested(self) -> bool:
        """Return whether the work is to stop after the step in progress."""
        return bool(self.reason)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch within the context, which the main thread must open."""
        before = [signal.signal(number, self._handle) for number in SIGNALS]
        wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            signal.set_wakeup_fd(wakeup)
            self._theirs.send(b"\0")
            self._thread.join()
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)
            self._ours.close()
            self._theirs.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Leave the step in progress if the thread has decided so."""
        if self._leaving and not self._ended.is_set():
            raise LeftStepError(f"{self.reason}, and the step in progress was left")

    def _watch(self) -> None:
        """Wait for a request, then see to it that the work stops."""
        signalled = self._signalled(self.deadline)
        if self._ended.is_set():
            return
        self.reason = CTRL_C if signalled else BUDGET
        if not self._compiling():
            at_most = self.patience + LAST_PATIENCE
            self._say(
                f"{self.reason}: stopping after this step, in {at_most:.0f} s at most; "
                "press Ctrl-C again to stop at once"
            )
            self._wait_for_the_step()
        else:
            self._say(f"{self.reason}: stopping the compilation")
        self._leave()

    def _say(self, line: str) -> None:
        """Show a line; a closed terminal does not keep the work from stopping."""
        with suppress(OSError, ValueError):
            self.tell(line)

    def _wait_for_the_step(self) -> None:
        """Return when the patience or that of the user is spent, or all has ended."""
        until = time.monotonic() + self.patience
        while not self._ended.is_set() and time.monotonic() < until:
            # A step that begins to compile does not end soon.
            if self._signalled(time.monotonic() + LOOK) or self._compiling():
                return

    def _leave(self) -> None:
        """Raise an exception in the main thread until the work ends."""
        self._leaving = True
        until = time.monotonic() + LAST_PATIENCE
        while not self._ended.is_set():
            if time.monotonic() > until:
                with suppress(OSError, ValueError):
                    self.farewell(f"{self.reason}, and the step in progress was left")
                os._exit(INTERRUPTED)
            assert self._main is not None
            signal.pthread_kill(self._main, signal.SIGINT)
            self._ended.wait(AGAIN)

    def _signalled(self, until: float) -> bool:
        """Return whether a signal came before a time; do not wait after the end."""
        while not self._ended.is_set() and (now := time.monotonic()) < until:
            # The longest wait that select takes is shorter than infinity.
            ready, _, _ = select.select([self._ours], [], [], min(until - now, 3600))
            if ready and any(byte in SIGNALS for byte in self._ours.recv(64)):
                return True
        return False

    def _compiling(self) -> bool:
        """Return whether the main thread compiles.

        A compilation is left at once: Ctrl-C in a terminal also reaches the compiler's
        processes, and the step would go on without them, with other rounding.
        """
        frame = sys._current_frames().get(self._main or 0)
        while frame is not None:
            if frame.f_globals.get("__name__") in COMPILERS:
                return True
            frame = frame.f_back
        return False


@contextmanager
def stoppable(
    deadline: float = math.inf,
    tell: Callable[[str], None] = logger.warning,
    farewell: Callable[[str], None] = logger.error,
    patience: float = PATIENCE,
) -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C, SIGTERM and a deadline into a request that is met within seconds.

    A second Ctrl-C stops at once.

    Args:
        deadline: the value of ``time.monotonic()`` at which the work is to stop.
        tell: shows a line to the user.
        farewell: is called with the reason before the process ends at once, which
            happens if the main thread is inside compiled code for long.
        patience: the seconds that a step in progress has to end after a request.

    Yields:
        A function that returns whether a stop was requested.
    """
    stopper = Stopper(deadline, tell, farewell, patience)
    with stopper.watching():
        yield stopper.requested
