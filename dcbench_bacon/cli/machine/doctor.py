"""The examination of this machine by ``dcbench doctor``."""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from dcbench_bacon import __version__
from dcbench_bacon.cli.arguments.options import PAPER_DATASETS
from dcbench_bacon.cli.sizes import size
from dcbench_bacon.data import loading
from dcbench_bacon.errors import DcbenchError, OutputError
from dcbench_bacon.plugins import DATASETS
from dcbench_bacon.runtime.compute import compilation, cuda_graphs
from dcbench_bacon.runtime.compute.devices import choose_device
from dcbench_bacon.runtime.disk.caches import CACHES
from dcbench_bacon.runtime.disk.files import (
    cache_root,
    existing,
    free_bytes,
    temporary_name,
    write_atomically,
)
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.runtime.monitoring.pace import contention

LIBRARIES = ("torch", "torchvision", "kornia", "numpy")


class Finding(NamedTuple):
    """A finding about one part of this machine, with its remedy.

    Attributes:
        name: the part of the machine.
        text: the state it is in.
        remedy: what to do about it; empty if all is well.
    """

    name: str
    text: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.remedy

    @property
    def line(self) -> str:
        """The line for the user."""
        mark, rest = ("ok", "") if self.ok else ("BAD", f"; remedy: {self.remedy}")
        return f"{mark:<4} {self.name}: {self.text}{rest}"


@dataclass(frozen=True)
class Needs:
    """What a run needs of a machine, and how it is looked for.

    Attributes:
        obstacle: returns why torch.compile does not work on a device; None if it does.
        contention: returns a line about other processes on the processor; empty if
            there are none.
        datasets: one of these data sets should be on disk.
        free: bytes; a run writes sets and checkpoints of some hundred MB.
    """

    obstacle: Callable[[torch.device], str | None] = compilation.broken
    contention: Callable[[], str] = contention
    datasets: Sequence[str] = PAPER_DATASETS
    free: int = 2 * 10**9


def examined(
    device: str, data_root: Path | None, output: Path, needs: Needs | None = None
) -> Iterator[Finding]:
    """Yield the findings about this machine, each as soon as it is known.

    Args:
        device: ``auto`` or a device name.
        data_root: the folder of data sets; None for the default one.
        output: the results folder, which is not made.
        needs: what the machine should have; None for what runs need.
    """
    needs = needs or Needs()
    checks: dict[str, Callable[[], Finding]] = {
        "versions": _versions,
        "device": partial(_device, device),
        "compiler": partial(_compiler, device, needs),
        "CUDA graphs": partial(_graphs, device),
        "threads": partial(_threads, needs),
        "caches": _caches,
        "data": partial(_data, data_root, needs),
        "results": partial(_writable, "results", output),
        "disk": partial(_disk, output, needs),
    }
    for name, check in checks.items():
        try:
            yield check()
        except DcbenchError as error:
            yield Finding(name, "not usable", str(error))
        except Exception as error:  # noqa: BLE001 - one check must not end the others
            what = f"{type(error).__name__}: {error}"
            yield Finding(name, "could not be examined", what)


def _versions() -> Finding:
    """Return the versions of the software."""
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    python = platform.python_version()
    return Finding("versions", f"dcbench {__version__}, Python {python}, {libraries}")


def _device(name: str) -> Finding:
    """Return the device, and whether a GPU of this machine is out of reach."""
    chosen = choose_device(name)
    where = environment(chosen).device
    if chosen.type == "cpu" and name == "auto" and Path("/dev/nvidia0").exists():
        return Finding(
            "device",
            f"{where}, although this machine has a GPU",
            "install the PyTorch that fits the driver (see pytorch.org), and check "
            "nvidia-smi",
        )
    return Finding("device", f"{chosen}, {where}")


def _compiler(name: str, needs: Needs) -> Finding:
    """Return whether torch.compile works."""
    chosen = choose_device(name)
    obstacle = needs.obstacle(chosen)
    if obstacle is None:
        return Finding("compiler", "torch.compile works")
    packages = "a C++ compiler (apt-get install g++)"
    if chosen.type == "cuda":
        packages += " and the headers of Python (apt-get install python3-dev)"
    return Finding(
        "compiler", obstacle, f"install {packages}; runs work without, slower"
    )


def _graphs(name: str) -> Finding:
    """Return whether CUDA graphs can be recorded."""
    chosen = choose_device(name)
    recorder = cuda_graphs.recorder(chosen)
    if recorder is None:
        return Finding("CUDA graphs", "not used on a CPU")
    one = torch.ones(1, device=chosen)

    def double(x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * 2,)

    recorder.rehearse(double, (one,))
    try:
        replay, (result,) = recorder.record(double, (one,))
        replay()
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        return Finding("CUDA graphs", first, "update the driver, or use --compile off")
    if float(result) != 2.0:
        return Finding("CUDA graphs", "a replay is wrong", "use --compile off")
    return Finding("CUDA graphs", "work")


def _threads(needs: Needs) -> Finding:
    """Return the threads, and whether they fight with those of other processes."""
    count, cores = torch.get_num_threads(), environment(torch.device("cpu")).device
    text = f"PyTorch uses {count} on {cores}"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    if count > usable:
        return Finding("threads", text, f"set OMP_NUM_THREADS={usable}")
    if crowd := needs.contention():
        what, _, advice = crowd.partition("; OMP")
        remedy = f"OMP{advice}" if advice else "wait for them, or stop them"
        return Finding("threads", f"{text}; {what}", remedy)
    return Finding("threads", text)


def _caches() -> Finding:
    """Return the sizes of the caches, and whether they can be written to."""
    sizes = ", ".join(f"{cache.name} {size(cache.size)}" for cache in CACHES)
    finding = _writable("caches", cache_root())
    if not finding.ok:
        return finding._replace(remedy="set DCBENCH_CACHE to a folder of yours")
    return Finding("caches", f"{cache_root()} ({sizes})")


def _data(root: Path | None, needs: Needs) -> Finding:
    """Return which data sets are on disk."""
    there, missing = [], []
    for name in DATASETS.names():
        if not hasattr(DATASETS.module(name), "INFO"):
            continue
        source = loading.find(name, root)
        try:
            loading.sources(source)
        except DcbenchError:
            missing.append(name)
        else:
            there.append(name)
    folder = loading.find(needs.datasets[0], root).folder
    text = f"{', '.join(there) or 'none'} found ({folder})"
    if not set(there) & set(needs.datasets):
        return Finding(
            "data",
            text,
            "dcbench data get NAME, or name their folder with --data-root or "
            "DCBENCH_DATA",
        )
    rest = f"; not on disk: {', '.join(missing)}" if missing else ""
    return Finding("data", text + rest)


def _writable(name: str, folder: Path) -> Finding:
    """Return whether files can be written to a folder, or to the one it will be in."""
    probe = temporary_name(existing(folder) / "probe")
    try:
        write_atomically(probe, b"probe")
        probe.unlink()
    except (OSError, OutputError) as error:
        return Finding(name, f"{folder} ({error})", "choose another with --output")
    return Finding(name, f"{folder.absolute()} can be written to")


def _disk(output: Path, needs: Needs) -> Finding:
    """Return the free space of the disks of the results and of the caches."""
    free = {
        name: free_bytes(folder)
        for name, folder in (("results", output), ("caches", cache_root()))
    }
    text = ", ".join(f"{size(count)} free for {name}" for name, count in free.items())
    if min(free.values()) < needs.free:
        return Finding(
            "disk",
            text,
            f"make room for {size(needs.free)}: dcbench cache clear, another --output "
            "or DCBENCH_CACHE",
        )
    return Finding("disk", text)
