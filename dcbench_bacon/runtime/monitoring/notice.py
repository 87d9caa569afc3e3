"""Lines about work that turns out to take long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SILENCE = 1.0  # seconds of work before a line about it appears


class Notice:
    """A line that appears if the work it is about has not ended after a silence.

    Args:
        tell: shows a line to the user.
        line: the line.
        silence: the seconds before it appears.
    """

    def __init__(
        self, tell: Callable[[str], None], line: str, silence: float = SILENCE
    ) -> None:
        """Start to wait."""
        self._timer = threading.Timer(silence, tell, [line])
        self._timer.daemon = True
        self._timer.start()

    def withdraw(self) -> None:
        """Do not show the line any more; the work has ended."""
        self._timer.cancel()


@contextmanager
def noticed(tell: Callable[[str], None], line: str) -> Iterator[None]:
    """Show a line if what is done within the context takes longer than ``SILENCE``."""
    notice = Notice(tell, line)
    try:
        yield
    finally:
        notice.withdraw()
