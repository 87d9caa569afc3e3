"""Start a command in the background, where it outlives the terminal."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dcbench_bacon.errors import OutputError

_PROGRAM = "from dcbench_bacon.cli.main import main; main()"


def start(arguments: Sequence[str], output: Path) -> str:
    """Start the same command without ``--detach``, and return what to tell the user.

    Args:
        arguments: the arguments of the command line.
        output: the results folder, whose ``logs`` receive what the command prints.

    Raises:
        OutputError: the log cannot be written.
    """
    log = output / "logs" / time.strftime("run-%Y%m%d-%H%M%S.log")
    words = [word for word in arguments if word != "--detach"]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise OutputError.of(log, error) from error
    return (
        f"process {process.pid} works in the background and prints to {log}\n"
        f"  dcbench status --output {output} --watch    shows what it does\n"
        f"  kill -INT {process.pid}    stops it; the same command continues later"
    )
