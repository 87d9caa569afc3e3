"""The description of the software and the machine for records."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch

from dcbench_bacon import __version__
from dcbench_bacon.schema import Environment


def environment(device: torch.device) -> Environment:
    """Return the software and the machine that this process runs on."""
    cuda = device.type == "cuda"
    return Environment(
        dcbench=__version__,
        git_commit=_git_commit(),
        python=platform.python_version(),
        torch=str(torch.__version__),
        device=torch.cuda.get_device_name(device) if cuda else _processor(),
        cuda=torch.version.cuda if cuda else None,
        threads=torch.get_num_threads(),
        platform=platform.platform(),
        utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@cache
def _processor() -> str:
    """Return the processor's name and the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(
            x.split(":")[1].strip() for x in lines if x.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({cores or os.cpu_count()} cores)"


@cache
def _git_commit() -> str | None:
    """Return the commit of this package's checkout, with ``+`` if files changed."""
    folder = Path(__file__).parent
    try:
        # This fails where the package is installed inside another project's checkout.
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        code = (":/dcbench_bacon", ":/methods", ":/datasets")
        changed = _git(folder, "status", "--porcelain", "--", *code)
        return commit + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()
