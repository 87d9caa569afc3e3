"""Steps that are counted, saved, stopped and shown; random streams by purpose."""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dcbench_bacon.contract import State
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DivergedError, InterruptedRunError, RecordError
from dcbench_bacon.running.clock import Clock, Schedule
from dcbench_bacon.runtime.disk import checkpoint
from dcbench_bacon.runtime.monitoring import progress
from dcbench_bacon.runtime.monitoring.progress import Reporter, Silent
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.runtime.seeds import stable_seed

CPU = torch.device("cpu")
ALWAYS = -1.0  # seconds between checkpoints: one after each step
STOPPED = r"^cell {}: stopped after step 1$"


class Counter:
    """A state that knows which steps it has seen."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def state_dict(self) -> State:
        return {"seen": self.seen}

    def load_state_dict(self, state: State) -> None:
        self.seen = list(state["seen"])

    def synthetic(self) -> SyntheticSet:
        images = torch.full((1, 1, 8, 8), float(len(self.seen)))
        return SyntheticSet(images, torch.ones(1, 1))


def count_to(
    runner: Clock, count: int, counter: Counter | None = None, stage: str = "match"
) -> list[int]:
    """Runs a stage; returns the indices of this run alone."""
    learner, yielded = counter or Counter(), []
    for index in runner.steps(stage, count, state=learner):
        learner.seen.append(index)
        yielded.append(index)
    return yielded


def saved_index(folder: Path, stage: str = "match") -> int:
    return int(checkpoint.read(folder / f"{stage}.safetensors")["index"])


class KilledError(Exception):
    """Stands for a kill."""


def test_steps_yield_their_indices() -> None:
    runner = Clock("cell", CPU)
    assert count_to(runner, 5) == [0, 1, 2, 3, 4]
    assert runner.timings["match"].steps == 5
    assert count_to(runner, 0, stage="empty") == []
    assert list(runner.steps("stateless", 2)) == [0, 1]
    assert list(runner.timings) == ["match", "empty", "stateless"]


@pytest.mark.parametrize("last", range(6))
def test_a_killed_stage_goes_on_at_the_step_it_was_in(
    last: int, tmp_path: Path
) -> None:
    policy = RunPolicy(folder=tmp_path, interval=ALWAYS)
    counter = Counter()

    def killed() -> None:
        for index in Clock("cell", CPU, policy).steps("match", 6, state=counter):
            if index == last:
                raise KilledError
            counter.seen.append(index)

    with pytest.raises(KilledError):
        killed()
    again = Counter()
    runner = Clock("cell", CPU, policy)
    assert count_to(runner, 6, again) == list(range(last, 6))
    assert again.seen == list(range(6))
    assert runner.timings["match"].steps == 6
    assert count_to(Clock("cell", CPU, policy), 6) == []  # finished: nothing runs


def test_stages_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    runner = Clock("cell", CPU, RunPolicy(folder=tmp_path))
    count_to(runner, 2, stage="one")
    count_to(runner, 3, stage="two/three")
    names = {"one.safetensors", "two-three.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert saved_index(tmp_path, "one") == 2
    assert saved_index(tmp_path, "two-three") == 3


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    count_to(Clock("cell", CPU, RunPolicy(interval=ALWAYS)), 3)
    assert not list(tmp_path.iterdir())


def test_checkpoints_come_at_the_interval(tmp_path: Path) -> None:
    now, written = [0.0], []
    policy = RunPolicy(folder=tmp_path, interval=2.5, now=lambda: now[0])

    def look() -> None:
        for path in tmp_path.iterdir():
            written.append(checkpoint.read(path)["index"])
            path.unlink()

    for _ in Clock("cell", CPU, policy).steps("match", 8):
        now[0] += 1.0
        look()
    look()
    assert written == [3, 6, 8]


def test_the_deadline_stops_after_the_step(tmp_path: Path) -> None:
    policy = RunPolicy(folder=tmp_path, deadline=time.monotonic() - 1)
    with pytest.raises(InterruptedRunError, match=STOPPED.format("match")):
        count_to(Clock("cell", CPU, policy), 5)
    assert saved_index(tmp_path) == 1
    counter = Counter()
    rested = replace(policy, deadline=time.monotonic() + 60)
    assert count_to(Clock("cell", CPU, rested), 5, counter) == [1, 2, 3, 4]
    assert counter.seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("after", [1, 3])
def test_a_stop_is_asked_for_after_each_step(after: int, tmp_path: Path) -> None:
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) == after

    policy = RunPolicy(folder=tmp_path, stop=stop)
    with pytest.raises(InterruptedRunError, match=f"after step {after}$"):
        count_to(Clock("cell", CPU, policy), 5)
    assert saved_index(tmp_path) == after
    assert len(asked) == after


def test_a_stop_at_the_last_step_stops_the_next_stage(tmp_path: Path) -> None:
    runner = Clock("cell", CPU, RunPolicy(folder=tmp_path, stop=lambda: True))
    assert list(runner.steps("single", 1)) == [0]
    with pytest.raises(InterruptedRunError, match=STOPPED.format("next")):
        count_to(runner, 2, stage="next")


def test_a_checkpoint_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    runner = Clock("cell", CPU, RunPolicy(folder=tmp_path))
    count_to(runner, 2)
    path = tmp_path / "match.safetensors"
    content = checkpoint.read(path)
    del content["stopwatch"]["images"]
    checkpoint.write(path, content)
    with pytest.raises(RecordError, match=r"another version.*'images'.*--fresh"):
        count_to(Clock("cell", CPU, RunPolicy(folder=tmp_path)), 2)


def watched(runner: Clock, *values: float) -> list[int]:
    done = []
    for index in runner.steps("match", len(values)):
        runner.watch("loss", torch.tensor(values[index], requires_grad=True))
        done.append(index)
    return done


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 2e4, -2e4])
def test_a_diverged_state_is_never_saved(bad: float, tmp_path: Path) -> None:
    runner = Clock("cell", CPU, RunPolicy(folder=tmp_path, interval=ALWAYS))
    with pytest.raises(DivergedError, match=r"^loss is .* \(it began at 1\).*--set$"):
        watched(runner, 1.0, 0.5, bad, 0.5)
    assert saved_index(tmp_path) == 2


def test_divergence_is_noticed_at_the_end_at_the_latest(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        runner = Clock("cell", CPU, RunPolicy(folder=folder))
        with pytest.raises(DivergedError):
            watched(runner, 1.0, float("nan"))
        assert "match" in runner.timings
    assert not list(tmp_path.iterdir())


def test_divergence_is_noticed_when_it_is_shown() -> None:
    done: list[int] = []
    runner = Clock("cell", CPU, RunPolicy(report=ALWAYS))

    def run() -> None:
        for index in runner.steps("match", 5):
            done.append(index)
            runner.watch("loss", torch.tensor([1.0, 2.0, float("nan"), 1, 1][index]))

    with pytest.raises(DivergedError):
        run()
    assert done == [0, 1, 2]


@pytest.mark.parametrize(
    "values", [(1.0, 9e3), (1e-6, 9e3), (-50.0, 4e5), (1e6, 9e9), (0.0, -9e3)]
)
def test_large_values_near_their_first_size_are_fine(
    values: tuple[float, ...],
) -> None:
    runner = Clock("cell", CPU, RunPolicy(report=ALWAYS))
    assert watched(runner, *values) == [0, 1]


def test_the_first_value_outlives_a_stop(tmp_path: Path) -> None:
    policy = RunPolicy(folder=tmp_path, interval=ALWAYS)
    asked = iter([True])
    stopping = replace(policy, stop=lambda: next(asked, False))
    with pytest.raises(InterruptedRunError):
        watched(Clock("cell", CPU, stopping), 1.0, 1e5)
    with pytest.raises(DivergedError, match=r"began at 1\)"):
        watched(Clock("cell", CPU, policy), 1.0, 1e5)


def test_scheduled_evaluations_see_the_set_of_their_step(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def look(step: int, made: SyntheticSet) -> None:
        assert saved_index(tmp_path) == step  # a kill now would find it
        seen.append((step, float(made.images[0, 0, 0, 0])))

    policy = RunPolicy(folder=tmp_path)
    count_to(Clock("cell", CPU, policy, Schedule(3, look)), 9)
    assert seen == [(3, 3.0), (6, 6.0), (9, 9.0)]


def test_a_kill_before_an_evaluation_does_not_lose_it(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(step: int, made: SyntheticSet) -> None:
        if step == 4 and 4 not in seen:
            seen.append(step)
            raise KilledError
        seen.append(step)

    def runner() -> Clock:
        return Clock("cell", CPU, RunPolicy(folder=tmp_path), Schedule(2, look))

    with pytest.raises(KilledError):
        count_to(runner(), 6)
    assert count_to(runner(), 6) == [4, 5]
    assert seen == [2, 4, 4, 6]


def test_states_without_a_set_are_not_evaluated() -> None:
    class Plain:
        def state_dict(self) -> State:
            return {}

        def load_state_dict(self, state: State) -> None:
            pass

    def look(step: int, made: SyntheticSet) -> None:
        raise AssertionError

    runner = Clock("cell", CPU, schedule=Schedule(1, look))
    assert list(runner.steps("plain", 2, state=Plain())) == [0, 1]
    assert list(runner.steps("none", 2)) == [0, 1]


def draws(runner: Clock, purpose: str, device: str | None = None) -> list[float]:
    stream = runner.generator(purpose, device)
    values: list[float] = torch.rand(4, generator=stream).tolist()
    return values


def test_a_purpose_has_one_stream() -> None:
    runner = Clock("cell", CPU)
    assert runner.generator("real") is runner.generator("real")
    assert runner.generator("real", "cpu") is runner.generator("real")
    assert runner.generator("real") is not runner.generator("noise")
    first, second = draws(runner, "real"), draws(runner, "real")
    assert first != second


def test_streams_depend_on_cell_and_purpose_alone() -> None:
    purposes = ["a", "b", "a/b", "ab"]
    forwards, backwards = Clock("cell", CPU), Clock("cell", CPU)
    one = {purpose: draws(forwards, purpose) for purpose in purposes}
    two = {purpose: draws(backwards, purpose) for purpose in reversed(purposes)}
    assert one == two
    assert len({tuple(values) for values in one.values()}) == len(purposes)
    assert draws(Clock("other", CPU), "a") != one["a"]


def test_seeds_are_stable_and_do_not_run_together() -> None:
    assert stable_seed("cell", "real") == 8870904131795621075
    parts = [("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), ("ab", 1), ("ab", 11)]
    seeds = {stable_seed(*each) for each in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_streams_resume_whether_they_exist_yet_or_not(tmp_path: Path) -> None:
    def run(runner: Clock, *, early: bool) -> list[float]:
        values = []
        if early:
            runner.generator("real")
        for _ in runner.steps("match", 5):
            values += draws(runner, "real")
        return values

    quiet = run(Clock("cell", CPU), early=True)
    for early in (True, False):
        folder = tmp_path / str(early)
        asked = iter([False, True])
        policy = RunPolicy(folder=folder, stop=lambda: next(asked))  # noqa: B023
        with pytest.raises(InterruptedRunError):
            run(Clock("cell", CPU, policy), early=early)
        rest = run(Clock("cell", CPU, RunPolicy(folder=folder)), early=early)
        assert rest == quiet[2 * 4 :]


def test_a_stream_asked_for_rarely_outlives_several_stops(tmp_path: Path) -> None:
    """A process may write a checkpoint without having asked for every stream."""

    def run(runner: Clock) -> list[float]:
        values = []
        for step in runner.steps("match", 9):
            values += draws(runner, "rare") if step % 4 == 0 else draws(runner, "real")
        return values

    quiet = run(Clock("cell", CPU))
    for _ in range(4):
        asked = iter([False, True])
        policy = RunPolicy(folder=tmp_path, stop=lambda: next(asked))  # noqa: B023
        with pytest.raises(InterruptedRunError):
            run(Clock("cell", CPU, policy))
    rest = run(Clock("cell", CPU, RunPolicy(folder=tmp_path)))
    assert rest == quiet[-len(rest) :]


def test_streams_resume_across_stages(tmp_path: Path) -> None:
    def run(runner: Clock) -> list[float]:
        for stage in ("one", "two"):
            for _ in runner.steps(stage, 3):
                draws(runner, "shared")
        return draws(runner, "shared")

    quiet = run(Clock("cell", CPU))
    asked = iter([False] * 4 + [True])
    stopping = RunPolicy(folder=tmp_path, stop=lambda: next(asked))
    with pytest.raises(InterruptedRunError, match="two: stopped after step 2"):
        run(Clock("cell", CPU, stopping))
    assert run(Clock("cell", CPU, RunPolicy(folder=tmp_path))) == quiet


def test_a_stage_within_a_stage_counts_apart() -> None:
    runner = Clock("cell", CPU)
    for _ in runner.steps("outer", 2):
        runner.count(1)
        for _ in runner.steps("inner", 3):
            runner.count(10)
            with runner.phase("work"):
                pass
        runner.count(100)
        with runner.phase("rest"):
            pass
    outer, inner = runner.timings["outer"], runner.timings["inner"]
    assert (outer.steps, outer.images, set(outer.phases)) == (2, 202, {"rest"})
    assert (inner.steps, inner.images, set(inner.phases)) == (3, 30, {"work"})


def test_watched_values_of_a_stage_within_end_with_it() -> None:
    runner = Clock("cell", CPU)
    for _ in runner.steps("outer", 1):
        runner.watch("loss", torch.tensor(1.0))
        for _ in runner.steps("inner", 1):
            runner.watch("loss", torch.tensor(1e9))
    for _ in runner.steps("after", 1):
        runner.watch("loss", torch.tensor(3.0))


def test_outside_of_a_stage_nothing_is_counted() -> None:
    runner = Clock("cell", CPU)
    runner.count(5)
    with runner.phase("work"):
        pass
    list(runner.steps("match", 1))
    assert runner.timings["match"].images == 0
    assert not runner.timings["match"].phases


class Told:
    """A reporter that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def start(self, title: str, index: int, count: int) -> None:
        self.calls.append(("start", title, index, count))

    def update(self, index: int, note: str) -> None:
        self.calls.append(("update", index, note))

    def stop(self) -> None:
        self.calls.append(("stop",))

    def tell(self, line: str) -> None:
        self.calls.append(("tell", line))


def test_progress_is_told(tmp_path: Path) -> None:
    told = Told()
    asked = iter([False, True])
    policy = RunPolicy(
        folder=tmp_path,
        reporter=told,
        stop=lambda: next(asked, False),
        report=ALWAYS,
    )
    with pytest.raises(InterruptedRunError):
        watched(Clock("cell", CPU, policy), 1.0, 2.0, 3.0)
    assert told.calls == [
        ("start", "cell match", 0, 3),
        ("update", 1, "loss 1"),
        ("update", 2, "loss 2"),
        ("stop",),
    ]
    told.calls.clear()
    watched(Clock("cell", CPU, policy), 1.0, 2.0, 3.0)
    assert told.calls == [
        ("tell", "cell match: goes on after step 2 of 3"),
        ("start", "cell match", 2, 3),
        ("update", 3, "loss 3"),
        ("update", 3, "loss 3"),
        ("stop",),
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_progress_stops_when_a_step_fails(error: type[BaseException]) -> None:
    told = Told()
    runner = Clock("cell", CPU, RunPolicy(reporter=told))

    def run() -> None:
        for _ in runner.steps("match", 3):
            raise error

    with pytest.raises(error):
        run()
    assert told.calls == [("start", "cell match", 0, 3), ("stop",)]
    assert runner.timings["match"].steps == 0


def test_progress_comes_back_after_an_evaluation(tmp_path: Path) -> None:
    told = Told()
    policy = RunPolicy(folder=tmp_path, reporter=told)

    def look(step: int, made: SyntheticSet) -> None:
        count_to(Clock("inner", CPU, RunPolicy(reporter=told)), 1, stage="evaluate")

    count_to(Clock("cell", CPU, policy, Schedule(2, look)), 4)
    starts = [call[1:] for call in told.calls if call[0] == "start"]
    assert starts == [
        *(("cell match", 0, 4), ("inner evaluate", 0, 1), ("cell match", 2, 4)),
        *(("inner evaluate", 0, 1), ("cell match", 4, 4)),
    ]
    order = [call[0] for call in told.calls if call[0] != "update"]
    assert order == ["start", "stop"] * 5  # and nothing of going on
    told.calls.clear()
    again = Clock("cell", CPU, policy, Schedule(2, look))
    count_to(again, 4)  # finished, but a kill may have come before the evaluation
    starts = [call[1:] for call in told.calls if call[0] == "start"]
    assert starts == [
        *(("cell match", 4, 4), ("inner evaluate", 0, 1), ("cell match", 4, 4))
    ]
    assert not any(call[0] == "tell" for call in told.calls)


def reporters() -> Iterator[Reporter]:
    console = Console(file=io.StringIO())
    yield from (Silent(), Told(), progress.Bar(console), progress.Lines(console))


def test_reporters_are_reporters() -> None:
    assert all(isinstance(each, Reporter) for each in reporters())
    runner = Clock("cell", CPU)
    assert isinstance(runner.policy.reporter, Silent)


def console(*, terminal: bool, width: int = 120) -> tuple[Console, Callable[[], str]]:
    """A console of a test's own, and what was printed to it."""
    text = io.StringIO()
    made = Console(
        file=text, force_terminal=terminal, width=width, color_system=None, _environ={}
    )
    return made, text.getvalue


def test_lines_come_now_and_then() -> None:
    now = [1000.0]
    made, printed = console(terminal=False)
    assert isinstance(progress.reporter(made), progress.Lines)
    lines = progress.Lines(made, now=lambda: now[0])
    lines.start("digits-ipc1-dm-s0 match", 0, 50)
    for index in range(1, 51):
        now[0] += 2.0
        lines.update(index, f"loss {index} [red]")
    lines.stop()
    assert printed().splitlines() == [
        "digits-ipc1-dm-s0 match 16/50 loss 16 [red]",
        "digits-ipc1-dm-s0 match 32/50 loss 32 [red]",
        "digits-ipc1-dm-s0 match 48/50 loss 48 [red]",
    ]
    line = "digits-ipc1-dm-s0 match: goes on " + "and on " * 20 + "[red]"
    lines.tell(line)
    assert printed().splitlines()[-1] == line
    lines.start("evaluate", 0, 5)  # the clock starts anew with the stage
    lines.update(1, "")
    assert "evaluate" not in printed()


def test_a_bar_shows_where_it_is_and_leaves_nothing() -> None:
    made, printed = console(terminal=True)
    bar = progress.reporter(made)
    assert isinstance(bar, progress.Bar)
    bar.update(1, "before the start")
    bar.stop()
    assert printed() == ""
    bar.start("digits[red] match", 3, 7)
    bar.tell("digits[red]: a line")
    bar.update(5, "loss 0.25")
    bar.stop()
    bar.stop()
    shown = printed()
    assert "digits[red] match" in shown
    assert "digits[red]: a line\n" in shown
    assert "3/7" in shown
    assert "5/7" in shown
    assert "loss 0.25" in shown
    assert "\x1b[?25h" in shown  # the cursor is back
    assert shown.endswith("\x1b[2K")  # and the line is clear
    assert "before the start" not in shown


def test_a_narrow_terminal_has_room_for_the_grid_and_for_the_cell() -> None:
    """The cell's own time was once squeezed out by that of the grid."""
    made, printed = console(terminal=True, width=80)
    bar = progress.Bar(made)
    title = "[2/6, 11 h left] fashion_mnist-ipc1-random-s0 evaluate/ConvNet/0"
    bar.start(title, 0, 1001)
    bar.update(500, "loss 0.0004972")
    bar.stop()
    for part in (title, " 500/1001", "--:--", "loss 0.0004972"):
        assert part in printed(), part


def test_a_bar_follows_nested_stages_and_failures() -> None:
    made, printed = console(terminal=True)
    bar = progress.Bar(made)

    def run() -> None:
        runner = Clock("cell", CPU, RunPolicy(reporter=bar))
        for _ in runner.steps("outer", 2):
            for _ in runner.steps("inner", 3):
                pass
            raise KilledError

    with pytest.raises(KilledError):
        run()
    assert "outer" in printed()
    assert "3/3" in printed()
    assert made._live_stack == []  # nothing draws on
