"""What images show of their scale, whitening and parts, and when that is refused."""

import pickle
from pathlib import Path
from typing import Any

import foreign_files as files
import pytest
import torch
from foreign_files import labels
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dcbench_bacon.data import dataset, loading, overlap
from dcbench_bacon.data.files.transparency import opaque
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UnstatedError
from dcbench_bacon.exchange import adopt, image_folder
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.interpretation import guesses
from dcbench_bacon.exchange.interpretation.content import Guess
from dcbench_bacon.exchange.interpretation.evidence import measure

DIGITS = adopt.facts("digits", None)


def read(path: Path, **stated: Any) -> SyntheticSet:
    return adopt.read(path, ReadingOptions(**{"dataset": "digits", **stated}))


def reading(found: SyntheticSet) -> dict[str, Any]:
    taken: dict[str, Any] = found.provenance["source"]["reading"]
    return taken


def smooth(count: int = 20, channels: int = 1, size: int = 8) -> Tensor:
    """Pixels in [0, 1] whose neighbours are alike, as in photographs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    return F.interpolate(coarse, (size, size), mode="bilinear")


def saved(values: Tensor, path: Path) -> Path:
    torch.save([values, labels()], path)
    return path


def test_a_pair_of_tensors_is_read_by_its_range(tmp_path: Path) -> None:
    """Values from -0.8 to 1.85 were once taken for pixels in four parts."""
    pixels = smooth()
    normal = dataset.standardize(pixels, DIGITS)
    for name, values, scale in (
        ("ones", pixels, "pixels 0..1"),
        ("bytes", (pixels * 255).round(), "pixels 0..255"),
        ("normal", normal, "normalised"),
    ):
        found = read(saved(values, tmp_path / f"{name}.pt"))
        assert reading(found)["scale"] == scale
        assert reading(found)["partition"] == 1, name
        torch.testing.assert_close(found.images, normal, atol=0.006, rtol=0)


@pytest.mark.parametrize(
    ("stated", "factor", "shift", "words"),
    [
        ({"pixels": True}, 2.65, -0.8, r"pixels from -0\.\d+ to 1\.\d+.*--normalized"),
        ({"format": "idc"}, 2.65, -0.8, r"pixels from -0\.\d+ to 1\.\d+.*--from"),
        ({"format": "idc"}, 255, 0, "not in"),
        ({}, 265, -3, "neither normalised images nor pixels.*clip"),
        ({"pixels": True}, 265, -3, "neither normalised images nor pixels.*clip"),
        ({"pixels": False}, 265, -3, "no normalised images have.*leave out --norm"),
        ({}, 2.5, 0, r"(?s)look like pixels 0..255, but.*0\.00.*digits\s+0\.31"),
        ({"pixels": False}, 1, 0, "no normalised images have.*--pixels"),
        ({"pixels": False}, 255, 0, "no normalised images have.*--pixels"),
        ({"zca": True}, 1, 0, "are pixels.*--zca"),
    ],
)
def test_what_contradicts_the_numbers_is_refused(
    stated: dict[str, Any], factor: float, shift: float, words: str, tmp_path: Path
) -> None:
    path = saved(smooth() * factor + shift, tmp_path / "a.pt")
    with pytest.raises((DataError, UnstatedError), match=words):
        read(path, **stated)


def test_bytes_are_pixels_whatever_is_said(tmp_path: Path) -> None:
    path = saved((smooth() * 255).to(torch.uint8), tmp_path / "a.pt")
    assert reading(read(path))["scale"] == "pixels 0..255"
    for stated, option in (
        ({"pixels": False}, "--normalized"),
        ({"zca": True}, "--zca"),
    ):
        with pytest.raises(DataError, match=option):
            read(path, **stated)


@pytest.mark.parametrize("place", ["file", "parent", "grandparent"])
def test_a_name_of_zca_sets_the_whitening(place: str, tmp_path: Path) -> None:
    names = ["one", "two", "a.pt"]
    index = {"grandparent": 0, "parent": 1, "file": 2}[place]
    names[index] = "digits_ZCA_" + names[index]
    path = tmp_path.joinpath(*names)
    path.parent.mkdir(parents=True)
    saved(files.images() * 0.5, path)
    assert reading(read(path))["scale"] == "whitened"
    assert reading(read(path, zca=False))["scale"] == "normalised"


def test_seams_tell_four_images_in_one() -> None:
    whole = smooth(64, 3, 32)
    quarters = F.interpolate(smooth(256, 3, 32), (16, 16), mode="area")
    four = quarters.view(64, 2, 2, 3, 16, 16).permute(0, 3, 1, 4, 2, 5)
    assert measure(whole).partition == 1
    assert measure(four.reshape(64, 3, 32, 32)).partition == 2
    margins = F.pad(quarters, (4, 4, 4, 4)).view(64, 2, 2, 3, 24, 24)
    dark = margins.permute(0, 3, 1, 4, 2, 5).reshape(64, 3, 48, 48)
    assert measure(dark).partition == 2
    assert measure(torch.zeros(4, 1, 8, 8)).partition is None
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert measure(noise).partition is None


def test_statistics_of_another_data_set_are_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = dataset.standardize(smooth(), DIGITS)
    own = (own - own.mean()) / own.std()
    for shift, doubt in ((0.0, "likely"), (0.8, "doubtful")):
        caplog.clear()
        found = read(saved(own + shift, tmp_path / "a.pt"), partition=1, zca=False)
        assert f"statistics digits: {doubt}" in caplog.text
        assert "--statistics" in caplog.text
        assert reading(found)["statistics"] == "digits"
    caplog.clear()
    read(tmp_path / "a.pt", statistics="digits")
    assert "statistics digits" not in caplog.text


def test_pixels_are_compared_with_those_of_the_data_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only normalised images were once compared."""
    plain = smooth()
    like_digits = (plain - plain.mean()) / plain.std() * DIGITS.std[0] + DIGITS.mean[0]
    fitting = like_digits.clamp(0, 1)
    for values, near in ((fitting, True), (fitting * 0.2 + 0.7, False)):
        for most in (1, 255):
            path = saved(values * most, tmp_path / "a.pt")
            caplog.clear()
            read(path, format="tuple")
            doubt = "likely" if near else "doubtful"
            table = " ".join(caplog.text.split())
            assert f"values pixels 0..{most}: {doubt}" in table
            assert "those of digits 0.31/0.38" in table
            caplog.clear()
            read(path, format="tuple", pixels=True)
            assert ("name the right data set" in caplog.text) == (not near)


def test_a_single_far_value_is_no_contradiction(tmp_path: Path) -> None:
    values = dataset.standardize(smooth(), DIGITS)
    values[0, 0, 0, 0] = 200
    found = read(saved(values, tmp_path / "a.pt"), pixels=False)
    assert reading(found)["scale"] == "normalised"


@pytest.mark.parametrize("name", ["acc_9.pkl", "data_best.pt", "res_IDM_2ipc.pt"])
def test_a_missing_seam_leaves_four_parts_in_doubt(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Digits with dark margins have none: 2 was once read as 1."""
    value = (smooth(), labels())
    path = tmp_path / name
    if name.endswith("pkl"):
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save({"data": [value]} if name.startswith("res") else value, path)
    assert reading(read(path))["partition"] == 2
    assert "partition 2: doubtful" in caplog.text


def test_the_data_set_decides_on_grey_or_colour(tmp_path: Path) -> None:
    """The first file once decided, and 16 bits were clipped to white."""
    for number in range(10):
        (tmp_path / "set" / str(number)).mkdir(parents=True)
        mode = "RGB" if number % 2 else "L"
        image = Image.new("L", (8, 8), 20 * number).convert(mode)
        image.save(tmp_path / "set" / str(number) / "a.png")
    found = read(tmp_path / "set")
    shades = dataset.denormalize(found.images, DIGITS)[:, 0, 0, 0] * 255
    torch.testing.assert_close(shades, torch.arange(10.0) * 20)
    again = image_folder.ImageFiles(
        [tmp_path / "set" / str(number) / "a.png" for number in range(10)]
    )
    assert again.in_channels(3).read().shape == (10, 3, 8, 8)
    last = tmp_path / "set" / "9" / "a.png"
    Image.new("RGB", (8, 8), (1, 2, 30)).save(last)
    with pytest.raises(DataError, match=r"a\.png: a coloured image.*--dataset"):
        read(tmp_path / "set")
    Image.new("I;16", (8, 8), 1000).save(last)
    with pytest.raises(DataError, match=r"a\.png.*8 bits"):
        read(tmp_path / "set")


def test_the_table_fits_a_narrow_terminal() -> None:
    said: list[str] = []
    reason = "from its name; " * 20
    known = {"zca": Guess(True, reason), "format": Guess("vico", "so", "certain")}
    path = Path("a.pt")

    def say(text: str, *given: object) -> None:
        said.append(text % given)

    guesses.tell(path, known, ["a note"], say)
    lines = said[0].splitlines()
    assert max(map(len, lines)) <= guesses.WIDTH
    assert lines[1] == "  format vico: certain (so)"
    assert "state it with --zca or --no-zca" in said[0]
    assert said[1] == "a.pt: a note"


def test_sets_of_one_file_share_a_table(tmp_path: Path) -> None:
    said: list[str] = []
    told: set[Any] = set()

    def say(text: str, *given: object) -> None:
        said.append(text % given)

    for value, reason in (
        (True, "deviation 0.5"),
        (True, "deviation 0.6"),
        (False, ""),
    ):
        guesses.tell(tmp_path, {"zca": Guess(value, reason)}, [], say, told)
    assert len(said) == 2
    path = files.res(tmp_path / "res_DM_digits.pt")
    told.clear()
    for index in range(5):
        adopt.read(path, ReadingOptions(dataset="digits", index=index), None, told)
    assert len(told) == 1


def test_a_set_that_lacks_something_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """95 of 100 images are no set of IPC 9."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(95, 1, 8, 8, generator=generator)
    ordered = torch.arange(10).repeat_interleave(10)[:95]
    torch.save([values, ordered], tmp_path / "a.pt")
    assert read(tmp_path / "a.pt").provenance["cell"]["ipc"] == 10


def test_images_in_train_and_test_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "cache"))
    shades = {"train": (10, 60), "test": (60, 90)}
    for split, values in shades.items():
        for name in ("a", "b"):
            folder = tmp_path / "mine" / split / name
            folder.mkdir(parents=True)
            for shade in values:
                image = Image.new("L", (8, 8), shade + (name == "b"))
                image.save(folder / f"{shade}.png")
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        loading.load(f"folder:{tmp_path / 'mine'}")
        assert "2 of 4 test images are in train as well" in caplog.text


def test_shared_images_are_found_pixel_for_pixel() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (3000, 3, 4, 4)
    train = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).numpy()
    test = train[::-3].copy()
    assert overlap.count_shared(train, test) == len(test)
    test[:, 1, 2, 3] ^= 1
    assert overlap.count_shared(train, test) == 0


def test_transparent_images_are_shown_on_white(tmp_path: Path) -> None:
    """A drawing whose content is all in alpha would be black without it."""
    drawing = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    drawing.putpixel((3, 4), (0, 0, 0, 255))
    shown = opaque(drawing)
    assert shown.mode == "RGB"
    assert shown.getpixel((3, 4)) == (0, 0, 0)
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    plain = Image.new("RGB", (8, 8), (1, 2, 3))
    assert opaque(plain) is plain
    white = Image.new("LA", (8, 8), (255, 0))
    white.putpixel((3, 4), (255, 255))
    with pytest.raises(ValueError, match="without transparency"):
        opaque(white)
    for name in "01":
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
        drawing.save(tmp_path / "train" / name / "a.png")
        white.save(tmp_path / "test" / name / "a.png")
    with pytest.raises(DataError, match=r"a\.png.*without transparency"):
        loading.load(f"folder:{tmp_path}", cache=tmp_path / "cache")
