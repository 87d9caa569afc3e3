"""Runs dcbench until it gets through; each attempt kills itself at a file it writes.

    python write_killer.py SEED ARGUMENT...

An attempt is a forked process, so that torch is imported once. It dies by SIGKILL
before or after a file takes its final name, a few files after it began. Prints the
number of attempts that were killed.
"""

import os
import random
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # what the command imports late is imported before the forks

from dcbench_bacon import contract
from dcbench_bacon.cli.main import main
from dcbench_bacon.networks import builder
from dcbench_bacon.plugins import METHODS

MOST = 200
THREADS = torch.get_num_threads()


def attempt(arguments: list[str], fuse: int, *, before: bool) -> int:
    """Runs the command in a process that may be killed; its status as of ``wait``."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    torch.set_num_threads(THREADS)
    left = fuse
    replace = Path.replace

    def replace_or_die(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = replace(self, target)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Path.replace = replace_or_die  # type: ignore[method-assign, assignment]
    code: object = 70
    try:
        main(arguments)
    except SystemExit as error:
        code = error.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 70)


def until_done(seed: int, arguments: list[str]) -> int:
    """Tries again until the command ends by itself; how often it was killed."""
    draws = random.Random(seed)
    for killed in range(MOST):
        fuse, before = draws.randint(2, 6), draws.random() < 0.5
        status = attempt(arguments, fuse, before=before)
        if not os.WIFSIGNALED(status):
            if code := os.waitstatus_to_exitcode(status):
                raise SystemExit(f"attempt {killed} ended with status {code}")
            return killed
    raise SystemExit(f"killed {MOST} times without getting through")


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads of OpenMP do not live through a fork
    builder.build("ConvNet", channels=1, size=8, classes=2)
    for name in METHODS.names():
        contract.method_class(name)
    print("killed", until_done(int(sys.argv[1]), sys.argv[2:]))
