"""Seconds by hand, peak memory as the system sees it, and what a record carries."""

import mmap
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commandline import NETWORK, found, invoke, only_record, settable, tiny

from dcbench_bacon.contract import State
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.running.clock import Clock, Schedule
from dcbench_bacon.runtime.compute.memory import images_per_call, keep_freed_memory
from dcbench_bacon.runtime.environment import environment
from dcbench_bacon.runtime.monitoring import stopwatch
from dcbench_bacon.runtime.monitoring.stopwatch import Stopwatch, quartiles
from dcbench_bacon.schema import Phase, Record

CPU = torch.device("cpu")
MEGABYTE = 2**20
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="peak memory is reset through /proc, Linux only"
)


class Now:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def now() -> Now:
    """The time as stopwatches read it."""
    return Now()


def step(watch: Stopwatch, now: Now, data: float, update: float) -> None:
    """One step of two phases, the second in two parts, with a second between them."""
    with watch.step():
        with watch.phase("data"):
            now.wait(data)
        now.wait(1.0)
        for _ in range(2):
            with watch.phase("update"):
                now.wait(update / 2)


def test_seconds_by_hand(now: Now) -> None:
    watch = Stopwatch(CPU, now)
    for data, update in ((1.0, 2.0), (3.0, 4.0), (5.0, 8.0)):
        now.wait(50.0)  # between steps: nobody's
        step(watch, now, data, update)
        watch.images += 10
    result = watch.timing()
    assert (result.seconds, result.steps) == (4.0 + 8.0 + 14.0, 3)
    assert (result.median, result.iqr) == (8.0, 11.0 - 6.0)  # between 4, 8 and 14
    assert result.phases == {"data": Phase(9.0, 3), "update": Phase(14.0, 6)}
    assert result.images == 30
    assert result.peak_bytes > 0


def test_phases_within_phases_and_outside_of_steps(now: Now) -> None:
    watch = Stopwatch(CPU, now)
    with watch.step(), watch.phase("outer"):
        now.wait(1.0)
        with watch.phase("inner"):
            now.wait(2.0)
            with watch.phase("outer"):
                now.wait(4.0)
    with watch.phase("outer"):
        now.wait(8.0)
    result = watch.timing()
    assert result.phases == {"inner": Phase(6.0, 1), "outer": Phase(7.0 + 4.0 + 8.0, 3)}
    assert (result.seconds, result.steps) == (7.0, 1)


def test_a_step_that_fails_is_not_counted(now: Now) -> None:
    watch = Stopwatch(CPU, now)
    step(watch, now, 1.0, 1.0)

    def fail() -> None:
        with watch.step():
            now.wait(5.0)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert (watch.timing().seconds, watch.timing().steps) == (3.0, 1)


def test_reading_twice_counts_once(now: Now) -> None:
    watch = Stopwatch(CPU, now)
    step(watch, now, 1.0, 1.0)
    assert watch.timing().seconds == watch.timing().seconds == 3.0
    step(watch, now, 1.0, 1.0)
    assert watch.timing().phases["update"] == Phase(2.0, 4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (0.0, 0.0, 0.0)),
        ([3.0], (3.0, 3.0, 3.0)),
        ([4.0, 2.0], (2.5, 3.0, 3.5)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], (2.0, 3.0, 4.0)),
        ([1.0, 1.0, 1.0, 9.0], (1.0, 1.0, 3.0)),
    ],
)
def test_quartiles_by_hand(
    values: list[float], expected: tuple[float, float, float]
) -> None:
    assert quartiles(values) == expected


def test_an_empty_stopwatch_reads_zero() -> None:
    result = Stopwatch(CPU).timing()
    assert (result.seconds, result.steps, result.median, result.iqr) == (0, 0, 0, 0)
    assert result.phases == {}


def test_an_interrupted_stage_keeps_its_time(now: Now) -> None:
    first, whole = Stopwatch(CPU, now), Stopwatch(CPU, now)
    for watch in (first, whole):
        step(watch, now, 1.0, 2.0)
        watch.images += 5
    second = Stopwatch(CPU, now)
    second.load_state_dict(first.state_dict())
    for watch in (second, whole):
        step(watch, now, 0.1, 0.7)
        watch.images += 6
    resumed, quiet = second.timing(), whole.timing()
    assert resumed.steps == quiet.steps == 2
    assert resumed.seconds == quiet.seconds
    assert (resumed.median, resumed.iqr) == (quiet.median, quiet.iqr)
    assert resumed.phases == quiet.phases
    assert resumed.images == quiet.images == 11


def test_an_interrupted_stage_keeps_its_peak() -> None:
    watch = Stopwatch(CPU)
    watch.load_state_dict({**watch.state_dict(), "peak_bytes": 2**60})
    assert watch.timing().peak_bytes == 2**60


def touch(megabytes: int) -> None:
    """Takes pages of the system's, uses them and gives them back at once."""
    with mmap.mmap(-1, megabytes * MEGABYTE) as pages:
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1


@linux
@pytest.mark.slow
def test_the_peak_grows_and_starts_anew() -> None:
    stopwatch.reset_peak(CPU)
    before = stopwatch.peak_bytes(CPU)
    touch(300)
    grown = stopwatch.peak_bytes(CPU)
    assert 290 * MEGABYTE < grown - before < 320 * MEGABYTE
    assert stopwatch.peak_bytes(CPU) == grown  # until it is reset
    stopwatch.reset_peak(CPU)
    assert stopwatch.peak_bytes(CPU) < grown - 250 * MEGABYTE


@linux
@pytest.mark.slow
def test_a_stopwatch_sees_the_peak_of_its_own_steps() -> None:
    touch(300)
    watch = Stopwatch(CPU)
    quiet = watch.timing().peak_bytes
    with watch.step():
        touch(200)
    loud = watch.timing().peak_bytes
    assert 190 * MEGABYTE < loud - quiet < 220 * MEGABYTE
    stopwatch.reset_peak(CPU)
    assert watch.timing().peak_bytes == loud  # the largest of all that were read
    assert Stopwatch(CPU).timing().peak_bytes < loud - 150 * MEGABYTE


class Nothing:
    """The state of a stage that learns nothing."""

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass

    def synthetic(self) -> SyntheticSet:
        return SyntheticSet(torch.zeros(1, 1, 8, 8), torch.ones(1, 1))


@linux
@pytest.mark.slow
def test_the_peak_of_a_scheduled_evaluation_is_not_the_stage_s() -> None:
    def evaluate(step: int, synthetic: SyntheticSet) -> None:
        inner = Clock("inner", CPU)
        for _ in inner.steps("evaluate", 1):
            touch(400)

    def peak(*, evaluations: bool, own: int) -> int:
        clock = Clock("cell", CPU)
        if evaluations:
            clock.schedule = Schedule(2, evaluate)
        for index in clock.steps("match", 3, state=Nothing()):
            if index == 0:
                touch(own)
        return clock.timings["match"].peak_bytes

    small = peak(evaluations=False, own=1)
    assert peak(evaluations=True, own=1) < small + 50 * MEGABYTE
    large = peak(evaluations=True, own=200)  # seen, though what followed reset it
    assert 150 * MEGABYTE < large - small < 250 * MEGABYTE


def test_the_peak_without_proc_is_that_of_the_process(tmp_path: Path) -> None:
    direct, absent = stopwatch.peak_bytes(CPU), tmp_path / "proc"
    stopwatch.reset_peak(CPU, absent)
    assert stopwatch.peak_bytes(CPU, absent) > direct / 2


def test_the_environment_says_where_and_with_what() -> None:
    made = environment(CPU)
    assert made.torch == torch.__version__
    assert made.python == ".".join(map(str, sys.version_info[:3]))
    assert made.dcbench
    assert made.cuda is None
    assert "cores)" in made.device
    assert made.threads == torch.get_num_threads()
    assert made.platform
    utc = datetime.fromisoformat(made.utc)
    assert utc.utcoffset() is not None
    assert abs((datetime.now(utc.tzinfo) - utc).total_seconds()) < 60
    assert made.git_commit is None or 12 <= len(made.git_commit) <= 13


@pytest.fixture
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


def check_stage(record: Record, stage: str, phases: set[str], images: int) -> None:
    """Every step, phase and image of a stage was counted."""
    cost = {**record.distillation, **record.evaluation}[stage]
    assert set(cost.phases) == phases
    inside = sum(phase.seconds for phase in cost.phases.values())
    assert 0 < inside <= cost.seconds
    assert all(phase.seconds > 0 for phase in cost.phases.values())
    every = {name: phase for name, phase in cost.phases.items() if name != "test"}
    assert all(phase.calls >= cost.steps for phase in every.values())
    assert 0 < cost.median <= cost.seconds
    assert cost.iqr >= 0
    assert cost.images == images
    assert cost.peak_bytes > 50 * MEGABYTE


MATCHING = {"queue", "data", "augmentation", "real forward", "synthetic", "update"}


@pytest.mark.usefixtures("cache")
@pytest.mark.slow
def test_every_record_says_what_it_cost(tmp_path: Path) -> None:
    steps, epochs, trained, queue = 4, 4, 2, 8
    result = invoke(
        *("run", "--methods", "dm,idm,random", "--ipc", 2, "--output", tmp_path),
        *tiny(steps=steps, epochs=epochs),
        *settable("queue_trained", trained),
        *settable("queue_train_steps", 1),
        *settable("queue_batch", queue),
        *settable("partition", 2),
        *settable("protocol.batch_size", 64),
    )
    assert result.exit_code == 0, result.output
    records = {record.cell.method: record for record in found(tmp_path)}
    real, own = 10 * 16, 10 * 2  # batch_real and ipc of each class
    assert list(records["dm"].distillation) == ["match"]
    check_stage(records["dm"], "match", MATCHING, steps * (real + own))
    assert list(records["idm"].distillation) == ["match"]
    idm = steps * (real + 4 * own + trained * queue)
    check_stage(records["idm"], "match", MATCHING, idm)
    assert records["random"].distillation == {}
    for method, record in records.items():
        stages = [f"evaluate/{NETWORK}/{trial}" for trial in range(2)]
        assert list(record.evaluation) == stages
        seen = epochs * own * (4 if method == "idm" else 1)
        for stage, each in zip(stages, record.evaluations, strict=True):
            assert record.evaluation[stage].steps == epochs
            check_stage(record, stage, {"augmentation", "train", "test"}, seen)
            assert each.seconds >= record.evaluation[stage].seconds


@pytest.mark.usefixtures("cache")
@pytest.mark.slow
def test_evaluation_on_the_way_is_not_distillation(tmp_path: Path) -> None:
    result = invoke(
        *("run", "--methods", "dm", "--ipc", 1, "--output", tmp_path),
        *tiny(steps=4, epochs=40),
        *settable("protocol.evaluate_every", 2),
    )
    assert result.exit_code == 0, result.output
    record = only_record(tmp_path)
    assert {entry.step for entry in record.history} == {2, 4}
    (cost,) = record.distillation.values()
    assert "train" not in cost.phases
    assert cost.images == 4 * 10 * (16 + 1)


def test_more_images_fit_when_they_are_smaller() -> None:
    counts = [images_per_call(CPU, size) for size in (16, 32, 64)]
    assert counts[0] == 4 * counts[1] == 16 * counts[2]
    assert images_per_call(CPU, 4096) >= 1


def test_a_larger_gpu_takes_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def fits(gigabytes: int, size: int) -> int:
        properties = SimpleNamespace(total_memory=gigabytes * 2**30)
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device: properties
        )
        return images_per_call(torch.device("cuda"), size)

    assert fits(80, 32) == pytest.approx(10 * fits(8, 32), rel=0.01)
    assert fits(80, 32) == pytest.approx(4 * fits(80, 64), rel=0.01)
    assert 100 < fits(8, 32) < 8 * 2**30 / (128 * 32 * 32 * 4)


class Library:
    """A C library with an allocator."""

    def __init__(self, mallopt: Callable[[int, int], int]) -> None:
        self.mallopt = mallopt


def test_the_allocator_is_told_once() -> None:
    told: list[tuple[int, int]] = []

    def mallopt(key: int, value: int) -> int:
        told.append((key, value))
        return 1

    library = Library(mallopt)
    assert keep_freed_memory(library) is True
    assert keep_freed_memory(library) is True
    assert sorted(told) == [(-3, 2**31 - 1), (-1, 2**31 - 1)]


@pytest.mark.parametrize("refused", [-3, -1])
def test_the_allocator_is_not_set_by_half(refused: int) -> None:
    """Older glibc refuses the large threshold of mmap, and trimming alone is slow."""
    settings = {-3: 128 * 1024, -1: 128 * 1024}
    before = dict(settings)

    def mallopt(key: int, value: int) -> int:
        if key == refused and value > 2**25:
            return 0
        settings[key] = value
        return 1

    assert keep_freed_memory(Library(mallopt)) is False
    assert settings == before


def test_other_allocators_are_left_alone() -> None:
    assert keep_freed_memory(object()) is False
