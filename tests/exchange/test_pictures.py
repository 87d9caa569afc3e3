"""Pictures of sets: what is where, what fits a page, and where the sets are found."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from commandline import invoke
from foreign_files import MAKERS
from msgspec import structs
from PIL import Image
from records import record
from torch.nn import functional as F

from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.pictures.figure import Choice, Shown, draw
from dcbench_bacon.exchange.pictures.layout import PAGE, SMALLEST, layout
from dcbench_bacon.exchange.pictures.mosaic import mosaic
from dcbench_bacon.recipes.digests import distillation_digest
from dcbench_bacon.schema import Cell, DatasetInfo, Record
from dcbench_bacon.store import Store

DIGITS = adopt.facts("digits", None)
ALL = Choice(classes=tuple(range(10)))


def shades(order: list[int], values: list[float]) -> SyntheticSet:
    """A set of digits, each image of one shade."""
    pixels = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    images = (pixels - DIGITS.mean[0]) / DIGITS.std[0]
    labels = F.one_hot(torch.tensor(order), 10).float()
    provenance = {"dataset": structs.asdict(DIGITS)}
    return SyntheticSet(images.contiguous(), labels, provenance=provenance)


def of_digits(ipc: int, partition: int = 1) -> SyntheticSet:
    """A set of digits in which image i of class c has the shade c / 10 + i / 100."""
    order = [label for label in range(10) for _ in range(ipc)]
    values = [label / 10 + i / 100 for label in range(10) for i in range(ipc)]
    return replace(shades(order, values), partition=partition)


def drawn(
    *sets: SyntheticSet, info: DatasetInfo = DIGITS, choice: Choice = ALL
) -> Image.Image:
    shown = [Shown(f"set {i}", each, info) for i, each in enumerate(sets)]
    return Image.open(BytesIO(draw(shown, choice)))


def test_each_image_is_in_its_row_in_its_own_colour() -> None:
    made = shades([2, 0, 1, 0, 2, 2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = mosaic(made, DIGITS, [0, 2, 1, 7], 2)
    assert found.shape == (4 * 9 - 1, 2 * 9 - 1, 3)
    expected = [51, 102, 26, 128, 76, 255, 255, 255]  # white where none is
    centres = found[4::9, 4::9, 0].flatten().tolist()
    assert centres == pytest.approx(expected, abs=1)


def test_a_whitened_set_is_stretched_to_its_own_range() -> None:
    made = shades([0], [0.5])
    made.images[0, 0, 0] = 1e6
    found = mosaic(replace(made, provenance={"zca": {"eps": 0.1}}), DIGITS, [0], 1)
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("classes", [10, 43, 100, 200])
@pytest.mark.parametrize("counts", [(1,), (1, 1, 1, 1), (10, 50), (50, 50, 50, 50)])
def test_a_picture_fits_a_page_and_its_images_can_be_seen(
    classes: int, counts: tuple[int, ...]
) -> None:
    found = layout(classes, counts, names=1.1, heading=0.3)
    assert found.side >= SMALLEST
    assert found.size[0] <= PAGE[0] + 1e-6
    assert found.size[1] <= PAGE[1] + 1e-6
    assert found.classes >= min(classes, 100)
    assert (found.blocks - 1) * found.rows < found.classes


def test_what_is_asked_for_may_be_more_than_a_page() -> None:
    found = layout(200, (10, 10), names=1.1, heading=0.3, every=True, images=10)
    assert (found.classes, found.columns) == (200, (10, 10))
    assert found.size[1] > PAGE[1]


@pytest.mark.parametrize("changes", [{"classes": 2001}, {"classes": 99, "size": 9000}])
def test_a_picture_of_too_much(changes: dict[str, int]) -> None:
    info = structs.replace(DIGITS, class_names=("a",) * changes["classes"], **changes)
    every = Choice(classes=tuple(range(info.classes)))
    with pytest.raises(UsageError, match="--to folder"):
        drawn(of_digits(10), info=info, choice=every)


def test_sets_stand_side_by_side() -> None:
    one, two = of_digits(1), of_digits(2)
    alone, both = drawn(one), drawn(one, two)
    assert both.width > alone.width
    assert both.height == pytest.approx(alone.height, rel=0.2)
    assert both.tobytes() == drawn(one, two).tobytes()
    fewer = drawn(one, two, choice=Choice(classes=(3, 4), images=1))
    assert fewer.height < both.height / 2


@pytest.mark.parametrize("format", ["svg", pytest.param("pdf", marks=pytest.mark.slow)])
def test_vectors_hold_the_names_as_text(format: str) -> None:
    info = structs.replace(DIGITS, class_names=("$x_1$ <b>", *DIGITS.class_names[1:]))
    content = draw([Shown("DM & co", of_digits(1), info)], ALL, format)
    assert content == draw([Shown("DM & co", of_digits(1), info)], ALL, format)
    if format == "svg":
        assert b"$x_1$ &lt;b&gt;" in content
        assert b"DM &amp; co" in content


OVERRIDES: dict[str, dict[str, str]] = {"dm": {}, "idm": {"partition": "2"}}


def kept_sets(folder: Path) -> list[Record]:
    """A results folder with two methods, of one of which there are two seeds."""
    store, records = Store(folder), []
    for method, seed in (("dm", 0), ("dm", 1), ("idm", 0)):
        made = of_digits(2, partition=2 if method == "idm" else 1)
        found = structs.replace(
            record(
                Cell(method, "digits", 2, seed),
                (0.5,),
                preset="demo",
                overrides={"protocol.epochs": "3", **OVERRIDES[method]},
            ),
            synthetic_sha256=synthetic_file.digest(made),
        )
        digest = distillation_digest(found.recipe)
        synthetic_file.write(store.synthetic_path(found.cell, digest, None), made)
        store.write(found)
        records.append(found)
    return records


@pytest.mark.slow
def test_the_sets_of_a_results_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept_sets(tmp_path)
    command = ("plot", "images", "--output", tmp_path)
    result = invoke(*command, "--preset", "demo", "--format", "svg")
    assert result.exit_code == 0, result.output
    path = tmp_path / "figures" / "images-digits-ipc2-demo.svg"
    assert result.stdout.split() == [str(path)]
    text = path.read_text(encoding="utf-8")
    assert text.count("<image") == 2  # a set per method
    assert ">DM<" in text  # an override of the evaluation is not of the set
    assert ">IDM, partition=2<" in text
    assert "2x2 in each" in text
    result = invoke(
        *(*command, "--preset", "demo", "--format", "svg", "--methods", "idm"),
        *("--decode", "--show-classes", "3,8"),
    )
    assert result.exit_code == 0, result.output
    text = path.read_text(encoding="utf-8")
    assert text.count("<image") == 1
    assert "2x2 in each" not in text
    assert "8 images per class, 2 of 10 classes" in text
    invoke(*command)
    assert "--preset demo" in caplog.text


def test_a_picture_is_of_the_set_that_the_record_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (found, *_) = kept_sets(tmp_path)
    path = Store(tmp_path).synthetic_path(
        found.cell, distillation_digest(found.recipe), None
    )
    old = path.with_name(f"{path.stem}-{str(found.synthetic_sha256)[:8]}{path.suffix}")
    path.rename(old)
    command = (
        *("plot", "images", "--output", tmp_path, "--preset", "demo"),
        *("--methods", "dm", "--format", "svg"),
    )
    before = invoke(*command)
    shown = Path(before.stdout.strip()).read_bytes()
    synthetic_file.write(path, of_digits(3))  # another set in its place
    assert Path(invoke(*command).stdout.strip()).read_bytes() == shown
    old.unlink()
    assert invoke(*command).stdout == ""
    assert "dcbench plot images FILE" in caplog.text


def test_files_of_dcbench_and_of_other_tools(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    synthetic_file.write(own, of_digits(2))
    other = MAKERS["vico"](tmp_path)
    result = invoke(
        *("plot", "images", own, other, "--dataset", "digits", "--index", "0"),
        *("--output", tmp_path, "--format", "svg"),
    )
    assert result.exit_code == 2
    assert "leave out --index" in result.stderr
    result = invoke(
        *("plot", "images", other, "--dataset", "digits", "--index", "all"),
        *("--output", tmp_path, "--format", "svg"),
    )
    assert result.exit_code == 0, result.output
    (path,) = map(Path, result.stdout.split())
    assert path == tmp_path / "figures" / "images-digits.svg"
    assert "ipc.pt [0]" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--show-classes", "3,tree"), "--show-classes tree: Digits has no such class"),
        (("--methods", "dm"), "--methods does not go with sets of FILES"),
    ],
)
def test_what_does_not_fit_is_named(
    options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    synthetic_file.write(path, of_digits(1))
    result = invoke("plot", "images", path, "--output", tmp_path, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    result = invoke("plot", "images", "--output", tmp_path, "--zca")
    assert "--zca does not go with sets of the results folder" in result.stderr
