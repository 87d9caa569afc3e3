"""How a step's time and memory grow: ``pytest tests/test_scaling.py --benchmark-only``.

One axis at a time leaves the base, which is ten classes of 32-pixel images, ten of them
a class, against 64 real ones. Each point has a process of its own, so that its peak of
memory is its own; what it measured is in ``extra_info``. ``python tests/test_scaling.py
NAME.json`` draws the figure beside the file and prints the table.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from support import cell_run, dataset

from dcbench_bacon.distillation.distribution import DistributionMatching
from dcbench_bacon.distillation.improved import (
    ImprovedMatching,
    ImprovedMatchingSettings,
)
from dcbench_bacon.distillation.objectives import Bacon, SquaredMeanDistance
from dcbench_bacon.distillation.pipeline import MatchingSettings
from dcbench_bacon.runtime.compute.memory import keep_freed_memory
from dcbench_bacon.runtime.monitoring.stopwatch import peak_bytes, reset_peak

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WIDTH = {"cuda": "ConvNet", "cpu": "ConvNetW32"}[DEVICE]
STEPS = 3
AXES = {
    "classes": (10, 100, 200),
    "ipc": (1, 10, 50),
    "size": (28, 32, 64),
    "batch_real": (64, 256, 1024, 5000),
}
TITLES = {
    "classes": "Classes",
    "ipc": "Images per class",
    "size": "Image size (pixels)",
    "batch_real": "Real images a class",
}


class Point(NamedTuple):
    """The shape of a step."""

    method: str
    classes: int = 10
    ipc: int = 10
    size: int = 32
    batch_real: int = 64

    @property
    def images(self) -> int:
        """Real and decoded synthetic images of a step, the queue's left out."""
        parts = 4 if self.method == "bacon" else 1
        return self.classes * (self.batch_real + parts * self.ipc)


class Measured(NamedTuple):
    """Of a point: seconds of its steps, and bytes in all and before the first."""

    seconds: list[float]
    peak_bytes: int
    start_bytes: int


POINTS = [
    (axis, Point(method, **{axis: value}))
    for method in ("dm", "bacon")
    for axis, values in AXES.items()
    for value in values
]


def take(point: Point) -> Measured:
    """Runs a few steps; the first, which fills caches, is left out."""
    keep_freed_memory()
    device = torch.device(DEVICE)
    each = max(100, point.batch_real)
    source = dataset(classes=point.classes, per_class=each, channels=3, size=point.size)
    run = cell_run(source, Path(), method=point.method, ipc=point.ipc, device=DEVICE)
    shape: dict[str, Any] = {"architecture": WIDTH, "batch_real": point.batch_real}
    learner: DistributionMatching | ImprovedMatching
    if point.method == "dm":
        settings = MatchingSettings(**shape)
        learner = DistributionMatching(run, settings, SquaredMeanDistance())
    else:
        shape |= {"queue_batch": 128, "queue_train_steps": 3}
        improved = ImprovedMatchingSettings(**shape)
        learner = ImprovedMatching(run, improved, Bacon())
    start = peak_bytes(device)
    reset_peak(device)
    seconds = []
    for step in range(1 + STEPS):
        before = perf_counter()
        learner.step(step)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds.append(perf_counter() - before)
    return Measured(seconds[1:], peak_bytes(device), start)


@pytest.mark.slow
@pytest.mark.benchmark(group="scaling, in extra_info")
@pytest.mark.parametrize(
    ("axis", "point"),
    POINTS,
    ids=[f"{p.method}-{a}-{getattr(p, a)}" for a, p in POINTS],
)
def test_scaling(benchmark: Any, axis: str, point: Point) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        run = pool.submit(take, point).result
        found = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(
        axis=axis,
        point=point._asdict(),
        images=point.images,
        network=WIDTH,
        device=DEVICE,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        **found._asdict(),
    )


def rows(path: Path) -> list[dict[str, Any]]:
    """What a run of the benchmark measured."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return [each["extra_info"] for each in document["benchmarks"]]


def draw(path: Path) -> Figure:
    """A column an axis: seconds above, memory below, against the axis."""
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    panels = figure.subplots(2, len(AXES), squeeze=False)
    found = rows(path)
    for column, axis in enumerate(AXES):
        for method, colour in (("dm", "#0072b2"), ("bacon", "#d55e00")):
            line = [
                each
                for each in found
                if each["axis"] == axis and each["point"]["method"] == method
            ]
            across = [each["point"][axis] for each in line]
            seconds = [float(np.median(each["seconds"])) for each in line]
            memory = [each["peak_bytes"] / 1e9 for each in line]
            style: dict[str, Any] = {"marker": "o", "color": colour}
            panels[0, column].plot(across, seconds, label=method.upper(), **style)
            panels[1, column].plot(across, memory, **style)
            if axis != "size":
                images = np.array([each["images"] for each in line])
                linear = seconds[-1] * images / images[-1]
                panels[0, column].plot(across, linear, ":", color=colour, alpha=0.6)
        panels[1, column].set_xlabel(TITLES[axis])
        for row in (0, 1):
            panels[row, column].set_xscale("log")
            panels[row, column].set_xticks(AXES[axis], [str(v) for v in AXES[axis]])
            panels[row, column].minorticks_off()
            panels[row, column].grid(alpha=0.3)
        panels[0, column].set_yscale("log")
        panels[1, column].set_ylim(0, 1.1 * panels[1, column].get_ylim()[1])
    panels[0, 0].set_ylabel("Seconds a step")
    panels[1, 0].set_ylabel("Peak memory (GB)")
    panels[0, 0].legend(frameon=False)
    network, device = found[0]["network"], found[0]["device"]
    figure.suptitle(
        f"A step of {network} on the {device.upper()}; dotted: linear in the images of "
        "a step, through the last point",
        fontsize=11,
    )
    return figure


if __name__ == "__main__":
    _path = Path(sys.argv[1])
    draw(_path).savefig(_path.with_suffix(".png"), dpi=150)
    for _each in rows(_path):
        _seconds = np.median(_each["seconds"])
        print(
            f"{_each['point']['method']:6}{_each['axis']:12}"
            f"{_each['point'][_each['axis']]:>6}{_each['images']:>8} images"
            f"{_seconds:9.3f} s{1e6 * _seconds / _each['images']:8.1f} us an image"
            f"{_each['peak_bytes'] / 1e9:7.2f} GB"
        )
