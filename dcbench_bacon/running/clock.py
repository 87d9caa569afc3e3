"""The harness's clock: it times, shows, saves, resumes and stops steps."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from dcbench_bacon.contract import Learner
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DivergedError, InterruptedRunError, RecordError
from dcbench_bacon.runtime.compute.cuda_graphs import Function, GraphedFunction, P, T
from dcbench_bacon.runtime.disk import checkpoint
from dcbench_bacon.runtime.monitoring.notice import noticed
from dcbench_bacon.runtime.monitoring.pace import Pace
from dcbench_bacon.runtime.monitoring.stopwatch import Stopwatch, reset_peak
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.runtime.seeds import stable_seed
from dcbench_bacon.schema import Timing

DIVERGED = 1e4  # a loss of this many times its first value has diverged
SAVE_SHARE = 20  # least wait before the next checkpoint, in durations of the last one


@dataclass(frozen=True)
class Schedule:
    """Evaluations while a set is being distilled.

    Attributes:
        every: steps between two evaluations.
        evaluate: takes the number of steps done and the set in its present state.
    """

    every: int
    evaluate: Callable[[int, SyntheticSet], None]


class Clock:
    """The random streams and timed stages of one cell.

    Args:
        key: the name of the cell, from which every random stream derives.
        device: the device that the work runs on.
        policy: checkpoints, progress, compilation and stopping.
        schedule: evaluations during the stages whose state has ``synthetic``.
    """

    def __init__(
        self,
        key: str,
        device: torch.device,
        policy: RunPolicy | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """Start with no random stream and no stage."""
        self.key = key
        self.device = device
        self.policy = policy or RunPolicy()
        self.schedule = schedule
        self.timings: dict[str, Timing] = {}
        self._generators: dict[str, torch.Generator] = {}
        self._restored: dict[str, Tensor] = {}
        self._stopwatch: Stopwatch | None = None
        self._watched: dict[str, Tensor] = {}
        self._first: dict[str, float] = {}
        self._compilation = ""
        self._launches = 0

    def generator(self, purpose: str, device: str | None = None) -> torch.Generator:
        """Return the stream of one purpose; the same object on every call."""
        where = torch.device(device) if device else self.device
        name = f"{purpose}@{where.type}"
        if name not in self._generators:
            stream = torch.Generator(where)
            if name in self._restored:
                stream.set_state(self._restored[name])
            else:
                stream.manual_seed(stable_seed(self.key, purpose))
            self._generators[name] = stream
        return self._generators[name]

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Time a part of the step in progress."""
        return self._stopwatch.phase(name) if self._stopwatch else nullcontext()

    def count(self, images: int) -> None:
        """Add to the number of images that went through a network."""
        if self._stopwatch:
            self._stopwatch.images += images

    def watch(self, name: str, value: Tensor) -> None:
        """Register a value that must stay finite and near its first size."""
        self._watched[name] = value.detach()

    def compiled(self, function: Callable[P, T], flops: float) -> Callable[P, T]:
        """See ``Run.compiled``; the decision is part of the next stage's timing."""
        compiler = self.policy.compiler
        line = f"{self.key}: trying whether torch.compile works (once, some seconds)"
        with noticed(self.policy.reporter.tell, line):
            obstacle = compiler.obstacle(self.device, flops)
        self._compilation = f"no: {obstacle}" if obstacle else "yes"
        return function if obstacle else compiler.wrap(function)

    def graphed(self, function: Function) -> Function:
        """See ``Run.graphed``; the timing of a stage counts its launches."""
        if recorder := self.policy.compiler.recorder(self.device):
            return GraphedFunction(function, recorder, self._launched)
        return function

    def _launched(self) -> None:
        """Count one launch of a graph."""
        self._launches += 1

    def steps(
        self, stage: str, count: int, state: Learner | None = None
    ) -> Iterator[int]:
        """See ``Run.steps``."""
        launches = self._launches
        outer = self._stopwatch, self._watched, self._first
        self._stopwatch, self._watched, self._first = Stopwatch(self.device), {}, {}
        index = self._resume(stage, state)
        title = f"{self.key} {stage}"
        if 0 < index < count:
            line = f"{title}: goes on after step {index:,} of {count:,}"
            self.policy.reporter.tell(line)
        self.policy.reporter.start(title, index, count)
        pace = self._pace(title, count)
        saved = looked = self.policy.now()
        cost = warm_up = 0.0
        try:
            if self._due(index, state):  # killed between checkpoint and evaluation
                self._evaluate(index, state)
                self.policy.reporter.start(title, index, count)
            while index < count:
                if 0 < index == self.policy.warm_up:
                    warm_up = self._stopwatch.timing().seconds
                    launches = self._launches
                    self._stopwatch = self._stopwatch.anew()
                pace.begin()
                with self._stopwatch.step():
                    yield index
                index += 1
                # A step this long may be left, so the one before it must not be lost.
                long = pace.end() > self.policy.patience
                wait = 0.0 if long else self.policy.interval
                now = self.policy.now()
                stop = self.policy.stop() or now > self.policy.deadline
                due = self._due(index, state)
                if self.policy.interval > 0:  # a large state is not saved all the time
                    wait = max(wait, SAVE_SHARE * cost)
                if stop or due or now - saved > wait:
                    self._save(stage, index, count, state)
                    saved = self.policy.now()
                    cost = saved - now
                if now - looked > self.policy.report or index == 1:
                    self.policy.reporter.update(index, self._look(stage, index))
                    looked = now
                if stop and index < count:
                    raise InterruptedRunError(f"{title}: stopped after step {index}")
                if due:
                    self._evaluate(index, state)
                    self.policy.reporter.start(title, index, count)
            self._save(stage, index, count, state)
            self.policy.reporter.update(index, self._look(stage, index))
        finally:
            pace.close()
            self.timings[stage] = msgspec.structs.replace(
                self._stopwatch.timing(),
                warm_up=warm_up,
                compilation=self._compilation,
                graphs=self._launches - launches,
            )
            self._stopwatch, self._watched, self._first = outer
            self.policy.reporter.stop()

    def _pace(self, title: str, count: int) -> Pace:
        """Return what watches the pace of a stage's steps."""
        return Pace(
            title,
            count,
            self.device,
            self.policy.reporter.tell,
            compiles=self._compilation == "yes",
        )

    def spent(self, stage: str, seconds: float) -> None:
        """See ``Run.spent``."""
        timing = self.timings[stage]
        if seconds > timing.seconds:
            self.timings[stage] = msgspec.structs.replace(timing, seconds=seconds)

    def _due(self, index: int, state: Learner | None) -> bool:
        """Return whether an evaluation is scheduled after ``index`` steps."""
        return (
            self.schedule is not None
            and hasattr(state, "synthetic")
            and index > 0
            and index % self.schedule.every == 0
        )

    def _evaluate(self, index: int, state: Any) -> None:
        """Run a scheduled evaluation; its time and memory are not the stage's."""
        assert self.schedule is not None
        assert self._stopwatch is not None
        self.policy.reporter.stop()
        self._stopwatch.collect()  # the evaluation starts peak memory anew
        self.schedule.evaluate(index, state.synthetic())
        reset_peak(self.device)

    def _look(self, stage: str = "", index: int = 0) -> str:
        """Return the watched values as text; raise if one has diverged.

        Args:
            stage: for the tracker; empty to tell it nothing.
            index: number of steps done.
        """
        values = {name: float(value) for name, value in self._watched.items()}
        for name, value in values.items():
            first = self._first.setdefault(name, value)
            if not math.isfinite(value) or abs(value) > DIVERGED * max(abs(first), 1.0):
                raise DivergedError(
                    f"{name} is {value:g} (it began at {first:g}); try a smaller "
                    "learning rate with --set"
                )
        if stage and values and self.policy.track:
            named = {f"{stage}/{name}": value for name, value in values.items()}
            self.policy.track(self.key, named, index)
        return "  ".join(f"{name} {value:.4g}" for name, value in values.items())

    def _save(self, stage: str, index: int, count: int, state: Learner | None) -> None:
        """Write the stage's checkpoint, unless its values have diverged."""
        assert self._stopwatch is not None
        self._look()
        if self.policy.folder is None:
            return
        content = {
            "index": index,
            "count": count,
            "device": self.device.type,
            "state": state.state_dict() if state else None,
            # A stream that was not asked for since the resumption stays where it was.
            "generators": self._restored
            | {name: stream.get_state() for name, stream in self._generators.items()},
            "stopwatch": self._stopwatch.state_dict(),
            "first": self._first,
        }
        checkpoint.write(self._path(stage), content)

    def _resume(self, stage: str, state: Learner | None) -> int:
        """Restore the stage's checkpoint; return the index of the next step."""
        assert self._stopwatch is not None
        if self.policy.folder is None or not self._path(stage).exists():
            return 0
        saved = checkpoint.read(self._path(stage))
        if saved.get("device", self.device.type) != self.device.type:
            raise RecordError(
                f"{self._path(stage)} was made on {saved['device']}: go on with "
                f"--device {saved['device']}, or start anew with --fresh"
            )
        try:
            return self._restore(saved, state)
        except KeyError as error:
            raise RecordError(
                f"{self._path(stage)} is from another version of dcbench (it has no "
                f"{error}); start the cell anew with --fresh"
            ) from error

    def _restore(self, saved: dict[str, Any], state: Learner | None) -> int:
        """Restore the content of a checkpoint; return the index of the next step."""
        assert self._stopwatch is not None
        if state is not None:
            state.load_state_dict(saved["state"])
        self._restored |= saved["generators"]
        for name, stream in self._generators.items():
            if name in self._restored:
                stream.set_state(self._restored[name])
        self._stopwatch.load_state_dict(saved["stopwatch"])
        self._first = saved["first"]
        return int(saved["index"])

    def _path(self, stage: str) -> Path:
        assert self.policy.folder is not None
        return self.policy.folder / (stage.replace("/", "-") + ".safetensors")
