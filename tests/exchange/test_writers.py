"""What is written for other tools is what they write, and comes back bit by bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import invoke
from foreign_files import MAKERS, REPEATABLE, SOFT, images, labels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from dcbench_bacon.data import dataset
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import OutputError, UsageError
from dcbench_bacon.exchange import adopt, writers
from dcbench_bacon.exchange.formats import FORMATS, ReadingOptions
from dcbench_bacon.exchange.writers import WRITERS

DIGITS = adopt.facts("digits", None)
EXACT = ("dcbench", "vico", "mtt", "dd_ranking", "npz")


def example(tmp_path: Path, **stated: Any) -> SyntheticSet:
    """A set that came from a file."""
    path = MAKERS["vico"](tmp_path)
    return adopt.read(path, ReadingOptions(dataset="digits", index=0, **stated))


def back(path: Path, format: str, **stated: Any) -> SyntheticSet:
    """What importers read."""
    if format == "dcbench":
        return adopt.read(path, ReadingOptions(format=format))
    return adopt.read(path, ReadingOptions(format=format, dataset="digits", **stated))


def test_every_format_has_its_writer() -> None:
    assert set(WRITERS) == {name for name, each in FORMATS.items() if each.writes}


@pytest.mark.parametrize("format", EXACT)
def test_round_trips_are_exact(format: str, tmp_path: Path) -> None:
    original = example(tmp_path)
    odd = torch.tensor([1e-45, -0.0, 3.4e38, -3.4e38])
    original.images[3, 0, 0, :4] = odd
    writers.write(tmp_path / "out", format, original, DIGITS)
    found = back(tmp_path / "out", format)
    assert torch.equal(
        found.images.view(torch.int32), original.images.view(torch.int32)
    )
    assert torch.equal(found.labels, original.labels)


@pytest.mark.parametrize("format", ["dcbench", "mtt", "dd_ranking", "npz"])
def test_soft_labels_are_kept(format: str, tmp_path: Path) -> None:
    order = SOFT.argmax(1).argsort(stable=True)
    original = replace(example(tmp_path), labels=SOFT[order])
    writers.write(tmp_path / "out", format, original, DIGITS)
    found = back(tmp_path / "out", format)
    assert torch.equal(found.labels, SOFT[order])
    assert torch.equal(found.images, original.images)


@settings(REPEATABLE, max_examples=25)
@given(
    bits=st.binary(min_size=4 * 64, max_size=4 * 64),
    partition=st.sampled_from([1, 2, 4]),
    formats=st.lists(st.sampled_from(EXACT), min_size=1, max_size=4),
)
@pytest.mark.slow
def test_chains_of_conversions(
    bits: bytes,
    partition: int,
    formats: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pixels = torch.frombuffer(bytearray(bits), dtype=torch.float32).clone()
    pixels = pixels.nan_to_num(0, 1, -1).view(1, 1, 8, 8).repeat(20, 1, 1, 1)
    root = tmp_path_factory.mktemp("chain")
    start = replace(example(root), images=pixels, partition=partition)
    current = start
    for number, format in enumerate(formats):
        path = root / f"step {number}"
        writers.write(path, format, current, DIGITS)
        said = {} if format in ("dcbench", "npz") else {"partition": partition}
        current = back(path, format, **said)
    assert current.images.view(torch.int32).equal(start.images.view(torch.int32))
    assert current.labels.equal(start.labels)
    assert current.partition == partition


def load(path: Path) -> Any:
    """As the other tools load their files."""
    return torch.load(path, weights_only=True)


def test_vico_as_vico_writes_it(tmp_path: Path) -> None:
    writers.write(tmp_path / "a.pt", "vico", example(tmp_path), DIGITS)
    found = load(tmp_path / "a.pt")
    assert list(found) == ["data", "accs_all_exps"]
    ((syn, target),) = found["data"]
    assert (syn.dtype, target.dtype) == (torch.float32, torch.int64)
    assert torch.equal(syn, images())
    assert torch.equal(target, labels())


@pytest.mark.parametrize(
    ("format", "pattern"), [("mtt", "{}_best"), ("dd_ranking", "{}")]
)
def test_folders_of_tensors(format: str, pattern: str, tmp_path: Path) -> None:
    made = example(tmp_path, learning_rate=0.02)
    writers.write(tmp_path / "a", format, made, DIGITS)
    names = [pattern.format(name) + ".pt" for name in ("images", "labels", "lr")]
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(names)
    syn, target, rate = (load(tmp_path / "a" / name) for name in names)
    assert torch.equal(syn, images())
    assert torch.equal(target, labels())
    assert rate.item() == 0.02
    assert back(tmp_path / "a", format).provenance["learning_rate"] == 0.02


def test_dd_ranking_is_in_the_order_of_classes(tmp_path: Path) -> None:
    shuffle = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    made = example(tmp_path)
    mixed = replace(made, images=made.images[shuffle], labels=made.labels[shuffle])
    writers.write(tmp_path / "a", "dd_ranking", mixed, DIGITS)
    target = load(tmp_path / "a" / "labels.pt")
    assert torch.equal(target, labels())
    syn = load(tmp_path / "a" / "images.pt")
    for index, image in enumerate(syn):
        assert any(image.equal(made.images[2 * (index // 2) + k]) for k in (0, 1))


def test_npz_says_what_it_is(tmp_path: Path) -> None:
    made = example(tmp_path, partition=2, zca=True, learning_rate=0.5)
    writers.write(tmp_path / "a", "npz", made, DIGITS)
    with np.load(tmp_path / "a") as found:
        assert found["images"].dtype == np.float32
        assert (int(found["partition"]), bool(found["zca"])) == (2, True)
    again = back(tmp_path / "a", "npz")
    assert again.partition == 2
    assert again.provenance["zca"] == {"assumed": "MTT"}
    assert again.provenance["learning_rate"] == 0.5


def test_pictures_of_every_image(tmp_path: Path) -> None:
    pixels = images().sigmoid()
    made = replace(example(tmp_path), images=(pixels - DIGITS.mean[0]) / DIGITS.std[0])
    writers.write(tmp_path / "a", "folder", made, DIGITS)
    first = sorted((tmp_path / "a").rglob("*.png"))[0]
    with Image.open(first) as image:
        assert image.mode == "L"
        expected = (pixels[0, 0] * 255).round().to(torch.uint8)
        assert torch.equal(torch.from_numpy(np.array(image)), expected)
    found = back(tmp_path / "a", "folder")
    seen = dataset.denormalize(found.images, DIGITS)
    assert float((seen - pixels).abs().max()) <= 0.5 / 255 + 1e-6
    assert torch.equal(found.labels, made.labels)


@pytest.mark.parametrize("format", ["vico", "folder"])
def test_soft_labels_that_do_not_fit(format: str, tmp_path: Path) -> None:
    made = replace(example(tmp_path), labels=SOFT)
    with pytest.raises(UsageError, match="--to mtt"):
        writers.write(tmp_path / "a", format, made, DIGITS)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_what_a_format_does_not_say_is_said(
    format: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stated = {"zca": True} if format != "folder" else {}
    made = example(tmp_path, partition=2, learning_rate=0.25, **stated)
    caplog.clear()
    writers.write(tmp_path / "a", format, made, DIGITS)
    says = format in ("dcbench", "npz", "picture")
    assert ("--partition 2" in caplog.text) == (not says)
    assert ("--zca" in caplog.text) == (not says and format != "folder")
    lost = format in ("vico", "folder")
    assert ("--learned-rate 0.25" in caplog.text) == lost


def test_whitened_images_are_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--to"):
        writers.write(tmp_path / "a", "folder", example(tmp_path, zca=True), DIGITS)


@pytest.mark.parametrize("format", ["mtt", "dd_ranking", "folder"])
def test_a_full_folder_is_left_alone(format: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    with pytest.raises(UsageError, match="--output"):
        writers.write(tmp_path / "a", format, example(tmp_path), DIGITS)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_a_place_that_cannot_be_written(format: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((OutputError, UsageError), match="--output"):
        writers.write(tmp_path / "file" / "a", format, example(tmp_path), DIGITS)


def test_convert_and_decode(tmp_path: Path) -> None:
    path = MAKERS["best"](tmp_path)
    own = tmp_path / "own.safetensors"
    options = ("--dataset", "digits", "--to", "dcbench", "--output")
    result = invoke("convert", path, *options, own)
    assert result.exit_code == 0, result.output
    assert "20 images of Digits, 1x8x8, 4 smaller ones in each" in result.stdout
    whole = tmp_path / "res.pt"
    result = invoke("convert", own, "--to", "vico", "--output", whole, "--decode")
    assert result.exit_code == 0, result.output
    expected = adopt.read(own, ReadingOptions()).decode()
    ((syn, target),) = load(whole)["data"]
    assert torch.equal(syn, expected.images)
    assert torch.equal(F.one_hot(target, 10).float(), expected.labels)
    shown = tmp_path / "a.png"
    result = invoke("convert", own, "--to", "picture", "--output", shown, "--decode")
    assert result.exit_code == 0
    assert shown.read_bytes().startswith(b"\x89PNG")


def test_convert_refuses_the_ending_of_another_format(tmp_path: Path) -> None:
    result = invoke(
        *("convert", tmp_path / "x.npz", "--to", "picture"),
        *("--output", tmp_path / "x.jpg"),
    )
    assert result.exit_code == 2
    assert "--to picture writes .png files" in result.stderr


def test_convert_without_a_data_set(tmp_path: Path) -> None:
    path = MAKERS["best"](tmp_path / "..")
    result = invoke("convert", path, "--to", "npz", "--output", tmp_path / "a.npz")
    assert result.exit_code == 2
    assert "--dataset" in result.stderr
    path.unlink()


@pytest.mark.parametrize("command", ["convert", "evaluate"])
def test_help_has_examples(command: str) -> None:
    output = invoke(command, "--help").output
    examples = output.partition("Examples:")[2]
    assert examples.count(f"dcbench {command}") >= 3
    for option in ("--from", "--index", "--partition", "--zca", "--pixels"):
        assert option in output
