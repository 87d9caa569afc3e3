"""The README's example of a method is one."""

import re
from pathlib import Path

import pytest
import torch
from support import cell_run, dataset, method

from dcbench_bacon import recipe, work
from dcbench_bacon.registry import METHODS
from dcbench_bacon.schema import Cell

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example as a module of somebody else's package."""
    text = README.read_text(encoding="utf-8")
    for language, suffix in (("python", "py"), ("toml", "toml")):
        found = re.search(
            rf"`methods/mine.{suffix}`:\n\n```{language}\n(.*?)```", text, re.S
        )
        assert found
        (tmp_path / f"mine_of_the_readme.{suffix}").write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS._modules, "mine", "mine_of_the_readme")
    return "mine"


def test_its_recipe_lies_over_that_of_dm(mine: str) -> None:
    resolved = work.resolve(Cell(mine, "cifar10", 10), recipe.Request())
    settings = resolved.recipe.settings
    assert (settings["steps"], settings["image_lr"]) == (10_000, 0.5)
    assert settings["batch_real"] == 256
    assert resolved.origins["steps"].source == "section 4 of the paper"
    assert resolved.origins["batch_real"].table.startswith("dm.toml")


def test_it_distils(mine: str, tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path, method=mine)
    settings = {"steps": 2, "architecture": "ConvNetD1W8", "batch_real": 4}
    made = method(mine, settings).distill(run)
    assert made.images.shape == (6, 1, 8, 8)
    assert torch.isfinite(made.images).all()
