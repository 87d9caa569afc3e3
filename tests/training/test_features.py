"""What distances are measured in, and the network that is trained once for all."""

import threading
import time
from pathlib import Path
from typing import Any

import commandline
import msgspec
import pytest
import torch
from clip_models import tiny_clip
from commandline import assert_same, run_killed, settable
from support import cell_run, dataset, method
from torch import Tensor

from dcbench_bacon.contract import State
from dcbench_bacon.data.dataset import Dataset, denormalize, normalize
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import InterruptedRunError, RecordError, UsageError
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.flat_parameters import FlatNetwork
from dcbench_bacon.running import made_once
from dcbench_bacon.running.run import CellRun, RunConfig, RunContext
from dcbench_bacon.runtime.disk import checkpoint
from dcbench_bacon.runtime.policy import RunPolicy
from dcbench_bacon.schema import Cell
from dcbench_bacon.training import features
from dcbench_bacon.training.features import FeatureSettings
from dcbench_bacon.training.task import accuracy

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "architecture": "ConvNetD1W8",
    "network_epochs": 3,
    "network_batch": 16,
    "network_lr": 0.05,
}
STEPS = 9  # three passes of three batches over 36 images


def run_of(
    folder: Path,
    *,
    name: str = "herding",
    ipc: int = 2,
    seed: int = 0,
    policy: RunPolicy | None = None,
    source: Dataset | None = None,
) -> CellRun:
    """A run whose results folder is ``folder``."""
    source = source or dataset()
    cell = Cell(name, source.info.name, ipc, seed)
    context = RunContext(RunConfig(CPU), policy or RunPolicy(interval=0.0))
    return CellRun(cell, source, context, folder / str(cell), folder / "shared")


def distil(folder: Path, name: str = "herding", **given: Any) -> SyntheticSet:
    """Chooses images of random data."""
    changes = {key: given.pop(key) for key in list(given) if key in SMALL}
    run = run_of(folder, name=name, **given)
    return method(name, {**SMALL, **changes}).distill(run)


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "shared").glob("*.safetensors"))


def weights_of(made: SyntheticSet) -> str:
    return str(made.provenance["features"]["weights_sha256"])


def test_pixels_are_normalised(tmp_path: Path) -> None:
    source = dataset(channels=3)
    run = cell_run(source, tmp_path)
    found = features.build(run, FeatureSettings(features="pixels"))
    pixels = source.train.images[:5]
    expected = (pixels / 255 - 0.5) / 0.3
    mine = found.embed(source.train.take(torch.arange(5)))
    assert torch.allclose(mine, expected.flatten(1), atol=1e-6)
    assert found.origin == {"kind": "pixels"}


def test_the_network_is_trained_once_for_all_cells(tmp_path: Path) -> None:
    made = [distil(tmp_path, "herding", ipc=1), distil(tmp_path, "k_means", ipc=3)]
    (path,) = kept(tmp_path)
    changed = path.stat().st_mtime_ns
    made.append(distil(tmp_path, "k_center", ipc=2))
    assert path.stat().st_mtime_ns == changed
    assert len({weights_of(each) for each in made}) == 1
    assert not path.with_suffix("").exists()  # the checkpoints are gone
    run = run_of(tmp_path, ipc=2)
    method("herding", SMALL).distill(run)
    assert run.timings["features"].steps == STEPS  # counts for every cell


@pytest.mark.slow
def test_who_asks_first_does_not_matter(tmp_path: Path) -> None:
    one = distil(tmp_path / "a", "herding", ipc=1)
    two = distil(tmp_path / "b", "k_means", ipc=3)
    assert weights_of(one) == weights_of(two)
    later = distil(tmp_path / "b", "herding", ipc=1)
    assert torch.equal(one.images, later.images)


@pytest.mark.slow
def test_what_decides_the_network_names_it(tmp_path: Path) -> None:
    source = dataset()
    fewer = source.train.subset(torch.arange(len(source.train) - 1))
    other = Dataset(source.info, fewer, source.test, source.fingerprint)
    made = [
        distil(tmp_path),
        distil(tmp_path, seed=1),
        distil(tmp_path, architecture="ConvNetD1W4"),
        distil(tmp_path, network_epochs=2),
        distil(tmp_path, network_lr=0.01),
        distil(tmp_path, source=other),  # a fingerprint says nothing of what is left
    ]
    assert len(kept(tmp_path)) == len({weights_of(each) for each in made}) == 6


def test_the_record_of_the_network_is_true(tmp_path: Path) -> None:
    source = dataset()
    made = distil(tmp_path, source=source)
    origin = made.provenance["features"]
    (path,) = kept(tmp_path)
    assert origin["file"] == path.stem
    assert origin["kind"] == "network"
    assert origin["training"]["architecture"] == "ConvNetD1W8"
    assert origin["training"]["augmentation"]
    content = checkpoint.read(path)["content"]
    network = builder.build("ConvNetD1W8", channels=1, size=8, classes=3)
    FlatNetwork(network).attach(content["vector"])
    assert origin["train_accuracy"] == accuracy(network, source.train, source.info)
    run = run_of(tmp_path)
    found = features.build(run, msgspec.convert(SMALL, FeatureSettings))
    with torch.no_grad():
        mine = found.embed(source.train.take(torch.arange(4)))
        theirs = network.embed(normalize(source.train.images[:4], source.info))
    assert torch.equal(mine, theirs)


def test_running_statistics_are_kept(tmp_path: Path) -> None:
    settings = msgspec.convert(
        {**SMALL, "architecture": "ConvNetD1W8BN"}, FeatureSettings
    )
    images = dataset().train.images
    both = []
    for count in (36, 1):
        found = features.build(run_of(tmp_path), settings)
        with torch.no_grad():
            both.append(found.embed(normalize(images[:count], dataset().info)))
    assert torch.allclose(both[0][:1], both[1], atol=1e-5)  # not those of a batch
    content = checkpoint.read(kept(tmp_path)[0])["content"]
    network = builder.build("ConvNetD1W8BN", channels=1, size=8, classes=3)
    FlatNetwork(network).attach(content["vector"])
    for name, buffer in network.named_buffers():
        buffer.copy_(content["buffers"][name])
    network.eval()
    with torch.no_grad():
        expected = network.embed(normalize(images, dataset().info))
    assert torch.allclose(both[0], expected, atol=1e-6)


@pytest.mark.parametrize("after", [1, 3, 4, 8])
def test_training_goes_on_where_it_was_stopped(after: int, tmp_path: Path) -> None:
    """Even by another cell, also in the middle of a pass."""
    quiet = distil(tmp_path / "quiet")
    asked = iter(range(1, 99))
    policy = RunPolicy(stop=lambda: next(asked) == after)
    with pytest.raises(
        InterruptedRunError, match=f"features: stopped after step {after}"
    ):
        distil(tmp_path, "k_means", ipc=1, policy=policy)
    assert not kept(tmp_path)
    (folder,) = [path for path in (tmp_path / "shared").iterdir() if path.is_dir()]
    assert checkpoint.read(folder / "features.safetensors")["index"] == after
    asked = iter(range(1, 99))
    run = run_of(
        tmp_path, policy=RunPolicy(stop=lambda: next(asked) > STEPS - after + 2)
    )
    made = method("herding", SMALL).distill(run)  # no more steps than were left
    assert torch.equal(made.images, quiet.images)
    assert weights_of(made) == weights_of(quiet)
    assert run.timings["features"].steps == STEPS


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    quiet = distil(tmp_path)
    (path,) = kept(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    assert weights_of(distil(tmp_path)) == weights_of(quiet)
    assert checkpoint.read(path)["content"]["vector"].numel()


def test_a_damaged_checkpoint_is_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "shared"

    def make(checkpoints: Path) -> State:
        if checkpoints.exists():
            raise RecordError("of another version")
        return {"a": 1}

    (folder / "x").mkdir(parents=True)
    assert made_once.once(folder, "x", RunPolicy(), make) == {"a": 1}


CHOSEN = (
    *("run", "--datasets", "digits", "--preset", "demo", "--device", "cpu"),
    *("--no-download", "--architectures", commandline.NETWORK),
    *settable("architecture", commandline.NETWORK),
    *settable("network_epochs", 2),
    *settable("protocol.epochs", 6),
    *settable("protocol.networks", 2),
    *("--checkpoint-every", "0"),
)


@pytest.mark.slow
def test_killed_at_every_kind_of_write(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def arguments(output: Path) -> list[str]:
        return [*CHOSEN, "--methods", "k_means", "--ipc", "1", "--output", str(output)]

    quiet, disturbed = tmp_path / "quiet", tmp_path / "disturbed"
    run_killed(*arguments(disturbed))
    assert commandline.run(*arguments(quiet))[0] == 0
    assert_same(disturbed, quiet)


@pytest.mark.slow
def test_two_processes_train_one_network(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    fixed = [*CHOSEN, "--output", str(tmp_path), "--ipc", "1", "--methods"]
    both = [commandline.start(*fixed, name) for name in ("herding", "k_center")]
    ends = [commandline.finish(process) for process in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert len(kept(tmp_path)) == 1
    sets = [synthetic_file.read(path) for path in (tmp_path / "synthetic").iterdir()]
    assert len(sets) == 2
    assert weights_of(sets[0]) == weights_of(sets[1])


def test_two_that_ask_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[int] = []
    found: list[State] = []

    def make(checkpoints: Path) -> State:
        made.append(1)
        time.sleep(0.3)
        return {"value": torch.ones(3)}

    def ask() -> None:
        found.append(made_once.once(tmp_path, "slow one", RunPolicy(), make))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 3
    assert all(torch.equal(each["value"], torch.ones(3)) for each in found)


def test_waiting_for_another_process_can_be_stopped(tmp_path: Path) -> None:
    stopped = RunPolicy(stop=lambda: True, look=0.01)

    def make(checkpoints: Path) -> State:
        with pytest.raises(InterruptedRunError, match="another process makes x"):
            made_once.once(tmp_path, "x", stopped, make)
        return {}

    assert made_once.once(tmp_path, "x", RunPolicy(), make) == {}


def clip_images(model: Any, images: Tensor) -> Tensor:
    """The definition, image by image."""
    rows = []
    side = model.visual.image_size
    for image in images:
        pixels = denormalize(image[None], dataset(channels=3).info).clamp(0, 1)
        resized = torch.nn.functional.interpolate(pixels, size=side, mode="bicubic")
        mean, std = (
            torch.tensor(each).view(3, 1, 1)
            for each in (model.visual.image_mean, model.visual.image_std)
        )
        row = model.encode_image((resized - mean) / std)[0]
        rows.append(row / row.norm())
    return torch.stack(rows)


def test_clip_gives_unit_vectors(
    registered: str,
    weights: Path,
    tmp_path: Path,
) -> None:
    import open_clip

    source = dataset(channels=3)
    settings = FeatureSettings(
        features="clip", clip_model=registered, clip_weights=str(weights)
    )
    found = features.build(cell_run(source, tmp_path), settings)
    model = open_clip.create_model(registered, pretrained=str(weights)).eval()
    with torch.no_grad():
        mine = found.embed(source.train.take(torch.arange(5)))
        pixels = normalize(source.train.images[:5], source.info)
        assert torch.allclose(mine, clip_images(model, pixels), atol=1e-5)
    assert torch.allclose(mine.norm(dim=1), torch.ones(5))
    assert found.origin["model"] == registered
    changed = {**tiny_clip().state_dict()}
    changed["visual.proj"] = changed["visual.proj"] + 1
    torch.save(changed, weights)
    other = features.build(cell_run(source, tmp_path), settings)
    assert other.origin["weights_sha256"] != found.origin["weights_sha256"]


def test_clip_without_weights_says_which_option(tmp_path: Path) -> None:
    settings = FeatureSettings(features="clip")
    with pytest.raises(UsageError, match=r"features='clip' needs .*clip_weights=FILE"):
        features.build(cell_run(dataset(), tmp_path), settings)
