"""Figures: their files, the lines in them, and names that no file system takes."""

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from records import record

from dcbench_bacon.reporting.figures import bars, curves, plots
from dcbench_bacon.reporting.figures.figure_files import looks, save
from dcbench_bacon.reporting.figures.pareto_figure import pareto
from dcbench_bacon.reporting.figures.points import with_lines
from dcbench_bacon.reporting.numbers import comparison, longform
from dcbench_bacon.schema import Cell, Evaluation, Record

PAPER = ("paper",)


def with_settings(found: Record, **settings: Any) -> Record:
    recipe = msgspec.structs.replace(found.recipe, settings=settings)
    return msgspec.structs.replace(found, recipe=recipe)


def swept() -> list[Record]:
    """One recipe at three values of a weight, and another recipe at one value."""
    found = [
        with_settings(
            record(
                Cell("bacon", "cifar10", 10),
                (0.5 + weight / 10, 0.5),
                digest=f"{number:08x}",
                overrides={"tv_weight": str(weight)} if weight != 0.8 else {},
            ),
            **{"steps": 100, "tv_weight": weight},
        )
        for number, weight in enumerate((0.0, 0.4, 0.8))
    ]
    other = record(Cell("dm", "cifar10", 10), (0.4,), digest="0000000f")
    return [*found, with_settings(other, steps=100, tv_weight=0.8)]


def watched() -> Record:
    """A record with accuracies on the way."""
    history = tuple(
        Evaluation(
            architecture="ConvNet",
            trial=trial,
            accuracy=0.1 + step / 1000,
            epoch=1,
            seconds=1.0,
            step=step,
        )
        for step in (0, 50)
        for trial in (0, 1)
    )
    return msgspec.structs.replace(
        record(Cell("dm", "../<b>", 10), (0.4, 0.5)), history=history
    )


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
@pytest.mark.slow
def test_every_figure_in_every_format(format: str, tmp_path: Path) -> None:
    found = [*swept(), watched()]
    drawings = [
        *curves.history(found, PAPER),
        *curves.ablation(found, PAPER),
        *bars.timing(found, PAPER),
        *pareto(found, PAPER),
    ]
    paths = save(drawings, tmp_path, format)
    kinds = {path.name.partition("-")[0] for path in paths}
    assert kinds == {"history", "ablation", "timing", "pareto"}
    for path in paths:
        assert path.parent == tmp_path  # whatever the name of the data set
        assert path.stat().st_size > 1000


def test_a_figure_of_the_same_records_is_the_same_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(curves.history([watched()], PAPER), tmp_path / folder, "svg")
    first, second = sorted(tmp_path.glob("*/*.svg"))
    assert first.read_bytes() == second.read_bytes()


def test_a_sweep_joins_recipes_that_differ_in_one_key_alone(tmp_path: Path) -> None:
    (path,) = save(curves.ablation(swept(), PAPER), tmp_path, "svg")
    assert path.name.startswith("ablation-tv_weight-cifar10")
    text = path.read_text(encoding="utf-8")
    assert "BACON" in text
    assert "DM" not in text  # it has one value
    assert not list(curves.ablation(swept(), PAPER, "steps"))


def test_reduced_presets_enter_only_when_asked() -> None:
    quick = [record(Cell("dm", "cifar10", 1), (0.4,), preset="quick")]
    for maker in (bars.timing, pareto):
        assert not list(maker(quick, PAPER))
        (drawing,) = maker(quick, ("quick",))
        assert (drawing.dataset, drawing.preset) == ("cifar10", "quick")


def test_a_page_leaves_out_figures_of_many_bars() -> None:
    found = [
        with_settings(
            record(Cell("dm", "cifar10", 1), (0.4,), digest=f"{number:08x}"),
            steps=number,
        )
        for number in range(5)
    ]
    assert len(list(bars.timing(found, PAPER, 5))) == 1
    assert not list(bars.timing(found, PAPER, 4))


def test_lines_name_what_was_overridden() -> None:
    rows = pd.DataFrame(
        {
            "method": ["dm", "dm"],
            "overrides": ["", "steps=7"],
            "architecture": ["ConvNet", "ConvNet"],
        }
    )
    assert list(with_lines(rows, str.upper)["line"]) == ["DM", "DM, steps=7"]


def text_of(drawings: Any, folder: Path) -> str:
    """The text of figures."""
    paths = save(drawings, folder, "svg")
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_settings_tell_bars_and_rows_apart_and_digests_do_not(tmp_path: Path) -> None:
    """Bars and rows of a sweep were once named by digests, in the order of these."""
    found = [
        msgspec.structs.replace(each, digest=f"{9 - number:08x}")
        for number, each in enumerate(swept())
    ]
    heat = plots.transfer(comparison.transfer(longform.frame(found), presets=PAPER))
    for drawings in (bars.timing(found, PAPER), heat):
        text = text_of(drawings, tmp_path)
        places = [text.index(f"tv_weight={weight}") for weight in ("0.0", "0.4")]
        assert places == sorted(places)
        assert not any(each.digest in text for each in found)


def test_every_line_looks_different() -> None:
    """Colours come again, but not with the same marker."""
    names = [str(number) for number in range(20)]
    networks = ["ConvNet", "MLP", "LeNet"]
    rows = pd.DataFrame(
        [
            {"line": f"{n} {a}", "method": n, "overrides": "", "architecture": a}
            for n in names
            for a in networks
        ]
    )
    for part in (rows, rows[rows["architecture"] == "MLP"]):
        seen = {tuple(map(str, look.values())) for look in looks(part).values()}
        assert len(seen) == len(part)


def test_networks_have_figures_of_costs_of_their_own(tmp_path: Path) -> None:
    one = record(Cell("dm", "cifar10", 1), (0.99, 1.0, 0.6))
    also = [
        msgspec.structs.replace(each, architecture="MLP") for each in one.evaluations
    ]
    both = msgspec.structs.replace(one, evaluations=[*one.evaluations, *also])
    drawings = list(pareto([both], PAPER))
    assert [each.name.split("-")[1] for each in drawings] == ["ConvNet", "MLP"]
    for drawing in drawings:
        assert all(axes.get_ylim()[1] <= 101 for axes in drawing.figure.axes)
    assert "MLP, protocol" in text_of(drawings[1:], tmp_path)


def test_few_values_of_a_setting_have_a_tick_each() -> None:
    """A whole number once had ticks at fractions."""
    for values, ticks in (((1, 2), [1, 2]), ((0.0, 0.2, 1.0), [0.0, 0.2, 1.0])):
        found = [
            with_settings(
                record(Cell("bacon", "cifar10", 10), (0.5, 0.4), digest=f"{n:08x}"),
                weight=value,
            )
            for n, value in enumerate(values)
        ]
        (drawing,) = curves.ablation(found, PAPER, "weight")
        assert [*drawing.figure.axes[0].get_xticks()] == ticks
