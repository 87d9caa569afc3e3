"""The README's example of a method is one, and its commands can be typed."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from support import cell_run, dataset, method

from dcbench_bacon import recipe, work
from dcbench_bacon.cli import main
from dcbench_bacon.registry import METHODS
from dcbench_bacon.schema import Cell

README = Path(__file__).parent.parent / "README.md"


def typed() -> Iterator[str]:
    """The commands of dcbench in blocks of shell lines, without comments."""
    text = README.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            if line.startswith("dcbench "):
                yield re.split(r" [#>]", line)[0].strip()


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


@pytest.mark.parametrize("line", list(typed()))
def test_its_commands_are_understood(line: str) -> None:
    command: click.Command = main
    words = shlex.split(line)
    while isinstance(command, click.Group):
        name = words.pop(0)
        command = command if name == "dcbench" else command.commands[name]
    # A parent: without one, a command would keep no -h for the rest of the process.
    parent = click.Context(main, **main.context_settings)
    context = command.make_context(line, words, parent)  # refuses what it does not know
    protocol = context.params.get("protocol") or "dc"
    assert protocol in recipe.protocol_names()


def test_it_names_every_protocol() -> None:
    text = README.read_text(encoding="utf-8")
    table = text.partition("## Protocols")[2].partition("## ")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(recipe.protocol_names())
