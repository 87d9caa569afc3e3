"""Random sequences of commands on one results folder, against each command alone.

Whatever came before (other runs, redone, killed, failed or interrupted ones, other
folders of the same name, changed data), three things hold after each command:

- a number that a command prints is the one that the same command prints in an empty
  results folder;
- every finished record and every set is still there, and a failure stands beside them;
- no file that dcbench did not make has changed.

Training takes no time here: an evaluation's accuracy is a hash of all that it is given.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from dcbench_bacon import store
from dcbench_bacon.cli.main import main
from dcbench_bacon.contract import Run, State
from dcbench_bacon.data.dataset import denormalize, split_validation
from dcbench_bacon.data.sets import class_order, set_identity, synthetic_file
from dcbench_bacon.data.splits import Split
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.distillation.class_batches import RealImages, in_class_order
from dcbench_bacon.exchange import conversion, image_folder
from dcbench_bacon.exchange.interpretation import values
from dcbench_bacon.methods.dm import DM
from dcbench_bacon.plugins import DATASETS
from dcbench_bacon.running import cell, failures, saved_sets, stages
from dcbench_bacon.running.grids import grid
from dcbench_bacon.runtime.seeds import stable_seed
from dcbench_bacon.schema import Cell, Evaluation, Record
from dcbench_bacon.store import Store
from dcbench_bacon.training.task import Task

NUMBER = re.compile(
    r"(?m)^(?:\[\d+/\d+\] )?(\S+?):? +\S+ +(\d+\.\d\d(?: ± \d+\.\d\d)?) %"
)
CLASSES = ("2", "9", "10")  # sorted as text, 10 would come first
LEVELS = (40, 120, 200)  # of the pixels of each class, before noise
FIXED = 12  # sequences from a fixed seed in each of the parametrised cases
CASES = 17


class Killed(BaseException):
    """A kill: nothing in the product catches it."""


@dataclass
class Sabotage:
    """What goes wrong in a command, and at which of its events.

    Attributes:
        kind: ``kill``, ``fail``, ``interrupt``, or empty for nothing.
        countdown: events until then; an event is a step, or a file taking its name.
    """

    kind: str = ""
    countdown: int = 0

    def event(self) -> None:
        """Counts down, and strikes once."""
        self.countdown -= 1
        if self.countdown != 0:
            return
        if self.kind == "kill":
            raise Killed
        if self.kind == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if self.kind == "fail":
            raise RuntimeError("sabotage")


@dataclass
class World:
    """Folders, files and what is known of them.

    Attributes:
        root: of all that is on disk.
        draws: decides the sequence.
        version: of the data; raised when they change.
        alone: numbers printed by commands in an empty folder, by command and version.
        facts: finished records seen so far.
        sets: digests of the sets seen so far.
        wrong: what stubs have found to be wrong.
    """

    root: Path
    draws: random.Random
    version: int = 0
    alone: dict[tuple[Any, ...], dict[str, str]] = field(default_factory=dict)
    facts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    sets: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    validations: dict[tuple[Any, ...], float] = field(default_factory=dict)
    sabotage: Sabotage = field(default_factory=Sabotage)

    @property
    def output(self) -> Path:
        """The results folder that all commands share."""
        return self.root / "results"


def fraction(*parts: Any) -> float:
    """A number in [0, 1) with four digits that depends on all parts."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            total.update(f"{part.dtype}{tuple(part.shape)}".encode())
            total.update(part.detach().cpu().contiguous().numpy().tobytes())
        else:
            total.update(repr(part).encode())
    return int.from_bytes(total.digest()[:4]) % 10_000 / 10_000


def agrees(task: Task) -> bool:
    """Whether labels name the classes that the images show."""
    found = task.synthetic
    if found.provenance.get("zca") or task.test.images.dtype != torch.uint8:
        return True  # whitened images show nothing
    levels = denormalize(found.images, task.info).mean((1, 2, 3)) * 255
    order = [int(name) for name in task.info.class_names]
    shown = torch.tensor([LEVELS[CLASSES.index(str(name))] for name in order])
    return bool(((levels - shown[found.labels.argmax(1)]).abs() < 35).all())


def stub_evaluate(world: World) -> Callable[..., list[Evaluation]]:
    """An evaluation whose accuracies are hashes of the question."""

    def evaluate(
        run: Any, task: Task, prefix: str = "evaluate", **_: Any
    ) -> list[Evaluation]:
        protocol = task.protocol
        if not agrees(task):
            world.wrong.append(f"labels of {run.key} do not fit its images")
        held_out = None
        if task.validation is not None:
            held_out = fraction(task.validation.images, task.validation.labels)
            where = (task.info.name, fraction(task.test.images), world.version)
            key = (*where, run.key.rpartition("-s")[2], protocol.validation)
            if world.validations.setdefault(key, held_out) != held_out:
                world.wrong.append(f"{run.key} has a validation split of its own")
        question = fraction(
            task.synthetic.images,
            task.synthetic.labels,
            task.synthetic.partition,
            task.test.images,
            task.test.labels,
            held_out,
            msgspec.json.encode(protocol),
        )
        found = []
        for architecture in protocol.architectures:
            for trial in range(protocol.networks):
                for _ in run.steps(f"{prefix}/{architecture}/{trial}", 2):
                    world.sabotage.event()
                accuracy = fraction(question, architecture, trial)
                found.append(
                    Evaluation(
                        architecture=architecture,
                        trial=trial,
                        accuracy=accuracy,
                        epoch=0,
                        seconds=0.0,
                        validation=held_out,
                    )
                )
        return found

    return evaluate


class Drift:
    """A learner: real images that drift a little with every step."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.images = RealImages(run).initial(1, run.generator("init"))

    def step(self) -> None:
        noise = torch.randn(self.images.shape, generator=self.run.generator("noise"))
        self.images = self.images + 0.01 * noise

    def state_dict(self) -> State:
        return {"images": self.images}

    def load_state_dict(self, state: State) -> None:
        self.images = state["images"]


def stub_distill(world: World) -> Callable[[DM, Run], SyntheticSet]:
    """A distillation of three steps."""

    def distill(method: DM, run: Run) -> SyntheticSet:
        learner = Drift(run)
        for _ in run.steps("match", 3, state=learner):
            world.sabotage.event()
            learner.step()
        return in_class_order(learner.images.flatten(0, 1), run.info)

    return distill


# The world's folders and files


def picture(path: Path, label: int, draws: random.Random) -> None:
    """A grey image of a class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(draws.randrange(2**32)).integers(-20, 20, (8, 8))
    Image.fromarray((LEVELS[label] + noise).astype(np.uint8)).save(path)


def make_files(root: Path, draws: random.Random) -> None:
    """Two data sets of one name, sets of other tools, and a stranger's file."""
    for parent in ("a", "b"):
        for split, count in (("train", 4), ("test", 2)):
            for label, name in enumerate(CLASSES):
                for index in range(count):
                    place = root / parent / "images" / split / name
                    picture(place / f"{index}.png", label, draws)
    for label, name in enumerate(CLASSES):
        picture(root / "foreign" / name / "0.png", label, draws)
    labels = torch.arange(3)
    shades = torch.tensor(LEVELS)[:, None, None, None] / 255
    entries = [
        [(shades + 0.05 * torch.rand(3, 1, 8, 8) - 0.47) / 0.26, labels]
        for _ in range(2)
    ]
    torch.save({"data": entries}, root / "res_DC_images_ConvNet_1ipc.pt")
    kept = root / "kept" / "a.pt"
    kept.parent.mkdir()
    kept.write_text("the user's")
    stranger = root / "results" / ".git" / ".index.tmp"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("not dcbench's")
    os.utime(stranger, (time.time() - 1e6,) * 2)


def snapshot(world: World) -> dict[Path, bytes]:
    """The content of all files that dcbench did not make."""
    places = [world.root / name for name in ("a", "b", "foreign", "kept")]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    files += [*world.root.glob("*.pt"), *(world.output / ".git").iterdir()]
    return {file: file.read_bytes() for file in files}


# Commands


def run_command(world: World) -> list[str]:
    """A run of one or two cells."""
    draws = world.draws
    arguments = ["run", "--methods", draws.choice(["dm", "random", "random,dm"])]
    arguments += ["--datasets", f"folder:{world.root / draws.choice('ab') / 'images'}"]
    arguments += ["--ipc", draws.choice(["1", "2", "1,2"]), "--no-download"]
    if draws.random() < 0.3:
        arguments += ["--selection", "best_val", "--set", "protocol.validation=0.4"]
    if draws.random() < 0.2:
        arguments += ["--set", "protocol.epochs=7"]
    return arguments


def evaluate_command(world: World) -> list[str]:
    """An evaluation of one set, read in one of several ways."""
    draws, root = world.draws, world.root
    folder = f"folder:{root / draws.choice('ab') / 'images'}"
    own = sorted((world.output / "synthetic").glob("*.safetensors"))
    kind = draws.choice(["vico", "vico", "folder", *(["own"] if own else [])])
    if kind == "own":
        name = draws.choice(own)
        kept = root / "kept" / name.name
        if not kept.exists():
            shutil.copy(name, kept)
        return ["evaluate", str(kept), "--dataset", folder]
    file = root / ("res_DC_images_ConvNet_1ipc.pt" if kind == "vico" else "foreign")
    arguments = ["evaluate", str(file), "--dataset", folder, "--from", kind]
    if kind == "vico":
        arguments += draws.choice([[], ["--no-zca"], ["--zca"]])
        arguments += draws.choice([[], ["--index", "1"]])
        rate = draws.choice(["", "0.3", "0.001"])
        if rate:
            arguments += ["--learned-rate", rate]
            arguments += ["--set", "protocol.use_learned_rate=true"]
    return arguments


def convert_command(world: World) -> list[str]:
    """A conversion onto something new, something there, or its own input."""
    draws, root = world.draws, world.root
    file = root / "res_DC_images_ConvNet_1ipc.pt"
    target = draws.choice([file, *(root / "kept" / name for name in ("a.pt", "b.pt"))])
    arguments = ["convert", str(file), "--to", "vico", "--output", str(target)]
    return [*arguments, "--dataset", f"folder:{root / 'a' / 'images'}"]


def change_data(world: World) -> None:
    """Adds or removes an image, which makes another data set of the same name."""
    draws = world.draws
    split = draws.choice(["train", "test"])
    label = draws.randrange(3)
    folder = world.root / draws.choice("ab") / "images" / split / CLASSES[label]
    extra = folder / "extra.png"
    if extra.exists():
        extra.unlink()
    else:
        picture(extra, label, draws)
    world.version += 1


# Running them


def invoke(arguments: list[str], output: Path) -> tuple[str, int | None]:
    """The output of a command and its status; none if it was killed."""
    fast = ("--device", "cpu", "--preset", "demo") if arguments[0] != "convert" else ()
    place = ("--output", str(output)) if arguments[0] != "convert" else ()
    try:
        result = CliRunner().invoke(main, [*arguments, *fast, *place])
    except Killed:
        return "", None
    ended = (SystemExit, *((RuntimeError,) if "evaluate" in arguments else ()))
    if result.exception and not isinstance(result.exception, ended):
        raise result.exception
    return result.output, result.exit_code


def printed(text: str) -> dict[str, str]:
    """The numbers in an output, by cell or file."""
    return dict(NUMBER.findall(text))


def numbers_alone(world: World, arguments: list[str]) -> dict[str, str]:
    """What the command prints in an empty results folder."""
    key = (world.version, *arguments)
    if key not in world.alone:
        output = world.root / f"alone-{len(world.alone)}"
        before, world.sabotage = world.sabotage, Sabotage()
        world.alone[key] = printed(invoke(arguments, output)[0])
        world.sabotage = before
        shutil.rmtree(output, ignore_errors=True)
    return world.alone[key]


def key_of(record: Record) -> str:
    """All that tells a record from others."""
    content = msgspec.json.encode(
        [record.cell, record.recipe, record.dataset_sha256, record.synthetic_sha256]
    )
    return hashlib.sha256(content).hexdigest()


def check(world: World, arguments: list[str], before: dict[Path, bytes]) -> None:
    """What holds after each command."""
    told = " ".join(arguments)
    assert not world.wrong, (told, world.wrong)
    after = snapshot(world)
    for path, content in before.items():
        assert after.get(path) == content, f"{told}: changed {path}"
    records = list(Store(world.output).records([]))
    done = {
        key_of(each): tuple(entry.accuracy for entry in each.evaluations)
        for each in records
        if each.status == "done"
    }
    for name, accuracies in world.facts.items():
        assert done.get(name) == accuracies, f"{told}: a finished record is lost"
    world.facts = done
    kept = {
        synthetic_file.digest(synthetic_file.read(path))
        for path in (world.output / "synthetic").glob("*.safetensors")
    }
    assert world.sets <= kept, f"{told}: a set is lost"
    world.sets = kept


def act(world: World) -> None:
    """One command of a sequence, disturbed or not, and what holds after it."""
    draws = world.draws
    if draws.random() < 0.15:
        change_data(world)
    makers = (run_command, run_command, evaluate_command, evaluate_command)
    arguments = draws.choice((*makers, convert_command))(world)
    if arguments[0] == "convert":
        before = snapshot(world)
        invoke(arguments, world.output)
        check(world, arguments, before)
        return
    alone = numbers_alone(world, arguments)
    kind = draws.choice(["", "", "", "kill", "fail", "interrupt"])
    world.sabotage = Sabotage(kind, draws.randint(1, 14))
    fresh = ["--fresh"] if draws.random() < 0.25 else []
    before = snapshot(world)
    text, status = invoke([*arguments, *fresh], world.output)
    struck = world.sabotage.countdown <= 0 and kind
    world.sabotage = Sabotage()
    for name, number in printed(text).items():
        told = f"{' '.join([*arguments, *fresh])}: {name} is {number}"
        assert alone.get(name) == number, f"{told}, alone {alone.get(name)}"
    if not struck and status == 0:
        assert printed(text).keys() == alone.keys(), text
    if struck == "fail" and arguments[0] == "run" and status == 1:
        kept = [each.traceback or "" for each in Store(world.output).records([])]
        assert any("sabotage" in each for each in kept), "no traceback is kept"
    check(world, [*arguments, *fresh], before)


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    """Makes worlds, one at a time, in which training takes no time."""
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here
    replace = Path.replace
    current: list[World] = []

    def counted(self: Path, target: Path) -> Path:
        if current and current[0].sabotage.kind != "fail":
            current[0].sabotage.event()
        return replace(self, target)

    def make(seed: int) -> World:
        root = tmp_path / f"world-{seed}"
        shutil.rmtree(root, ignore_errors=True)
        world = World(root, random.Random(seed))
        make_files(root, random.Random(0))
        monkeypatch.setattr(cell, "evaluate", stub_evaluate(world))
        monkeypatch.setattr(DM, "distill", stub_distill(world))
        current[:] = [world]
        return world

    monkeypatch.setattr(Path, "replace", counted)
    return make


def run_sequence(world: World) -> None:
    """Three to eight commands."""
    try:
        for _ in range(world.draws.randint(3, 8)):
            act(world)
    except AssertionError as error:
        raise AssertionError(f"{world.root.name}: {error}") from error


def run_sequences(worlds: Callable[[int], World], seeds: Iterable[int]) -> None:
    """One sequence for each seed, in a world of its own."""
    for seed in seeds:
        run_sequence(worlds(seed))


@pytest.mark.slow
@pytest.mark.parametrize("case", range(CASES))
def test_sequences_of_commands(case: int, worlds: Callable[[int], World]) -> None:
    for seed in range(FIXED * case, FIXED * (case + 1)):
        try:
            run_sequence(worlds(seed))
        except AssertionError as error:
            raise AssertionError(f"sequence of seed {seed}: {error}") from error


@pytest.mark.slow
def test_sequences_from_a_new_seed(worlds: Callable[[int], World]) -> None:
    seed = random.SystemRandom().randrange(10**6, 10**9)
    print(f"seed {seed}")
    for offset in range(10):
        try:
            run_sequence(worlds(seed + offset))
        except AssertionError as error:
            raise AssertionError(
                f"sequence of seed {seed + offset}: {error}"
            ) from error


# Each fault that the sequences are there for, put back


def delete_beforehand(patch: pytest.MonkeyPatch) -> None:
    """``--fresh`` deletes the records and sets of all cells before the first runs."""

    def ask_anew(self: Any, jobs: Any) -> None:
        for job in jobs:
            place = (job.cell, job.digest, self._fingerprint(job))
            self.store.record_path(*place).unlink(missing_ok=True)
            self.store.clear(*place)

    patch.setattr(grid._Runner, "ask_anew", ask_anew)


def sweep_everything(patch: pytest.MonkeyPatch) -> None:
    """Opening a results folder removes old ``.*.tmp`` files wherever they lie."""

    def sweep(self: Store) -> None:
        for path in self.root.rglob(".*.tmp"):
            if path.stat().st_mtime < time.time() - store.STALE_SECONDS:
                path.unlink()

    patch.setattr(Store, "_sweep", sweep)


def overwrite_by_failures(patch: pytest.MonkeyPatch) -> None:
    """A failure takes the place of the result."""
    write = Store.write
    patch.setattr(
        Store,
        "write",
        lambda self, record, folder="records": write(self, record, folder),
    )


def overwrite_by_conversion(patch: pytest.MonkeyPatch) -> None:
    """``convert`` replaces what there is, its own input too."""
    patch.setattr(conversion, "_check_output", lambda *_, **__: None)


def forget_tracebacks(patch: pytest.MonkeyPatch) -> None:
    """A failure keeps no traceback."""
    patch.setattr(failures, "traceback_of", lambda _: "")


def know_sets_by_content(patch: pytest.MonkeyPatch) -> None:
    """How a file was read is no part of its identity."""

    def settings_of(synthetic: SyntheticSet) -> dict[str, Any]:
        return {"sha256": synthetic_file.digest(synthetic)}

    patch.setattr(set_identity, "settings_of", settings_of)


def know_data_by_name(patch: pytest.MonkeyPatch) -> None:
    """The images of a data set are no part of a result's identity."""
    name = store._name
    patch.setattr(store, "_name", lambda cell, digest, _: name(cell, digest, None))
    patch.setattr(
        Store, "find", lambda self, cell, digest, _: Store.only(self, cell, digest)
    )


def sort_classes_as_text(patch: pytest.MonkeyPatch) -> None:
    """Class 10 comes before class 2."""

    def folders(inside: Iterable[Path]) -> list[Path]:
        return sorted(path for path in inside if path.is_dir())

    for module in (DATASETS.module("folder"), image_folder):
        patch.setattr(module, "visible_folders", folders)


def pair_classes_by_position(patch: pytest.MonkeyPatch) -> None:
    """The classes of a file, sorted as text, are taken for those of the data set."""

    def match(_: Any, names: Any, known: Any, __: Any = ()) -> class_order.Order:
        order = sorted(names) or list(range(len(known)))
        return class_order.Order(
            tuple(order.index(name) for name in names or order), "in order"
        )

    patch.setattr(values, "match", match)


def hold_out_by_cell(patch: pytest.MonkeyPatch) -> None:
    """The validation split depends on method and images per class."""

    def hold_out(cell: Cell, train: Split, share: float) -> tuple[Split, Split]:
        stream = torch.Generator().manual_seed(stable_seed(str(cell), "validation"))
        return split_validation(train, share, stream)

    for module in (stages, saved_sets):
        patch.setattr(module, "hold_out", hold_out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "put_back",
    [
        delete_beforehand,
        sweep_everything,
        overwrite_by_failures,
        overwrite_by_conversion,
        forget_tracebacks,
        know_sets_by_content,
        know_data_by_name,
        sort_classes_as_text,
        pair_classes_by_position,
        hold_out_by_cell,
    ],
)
def test_a_fault_put_back_is_noticed(
    put_back: Callable[[pytest.MonkeyPatch], None],
    worlds: Callable[[int], World],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_back(monkeypatch)
    with pytest.raises(AssertionError, match=r"world-\d+: "):
        run_sequences(worlds, range(FIXED * CASES))
