"""The README's examples run, and every command in it and in the docs can be typed."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from support import cell_run, dataset, method

from dcbench_bacon import api
from dcbench_bacon.plugins import DATASETS, METHODS
from dcbench_bacon.recipes import protocols
from dcbench_bacon.reporting import wording
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell

TREE = Path(__file__).resolve().parents[1]
README = TREE / "README.md"
PAGES = [README, *sorted((TREE / "docs").rglob("*.md")), TREE / "CHANGELOG.md"]
PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.")


def main() -> click.Group:
    """Return the command ``dcbench``, wherever it is defined."""
    command = resolve_name(PROJECT["scripts"]["dcbench"])
    assert isinstance(command, click.Group)
    return command


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def typed(text: str) -> Iterator[str]:
    """Yield the lines of a page's shell blocks, without comments and redirections."""
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            yield re.split(r" [#>]", line)[0].strip()


def named(text: str) -> Iterator[str]:
    """Yield the commands that the prose of a page names, whole or in part.

    A span of code with a placeholder is none.
    """
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for span in re.findall(r"`((?:dcbench|nox|mkdocs) [^`]+)`", prose):
        if not PLACEHOLDER.search(span):
            yield " ".join(span.split())


def check(line: str) -> None:
    """Make sure that a command of a page can be typed.

    Raises:
        click.UsageError: dcbench refuses it.
        AssertionError: it is of another program, with a name that does not exist.
    """
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    match words:
        case ["pip", "install", *rest] if "&&" not in rest:
            wanted = re.findall(r"\[(\w+)\]", line)
            assert set(wanted) <= set(PROJECT["optional-dependencies"])
        case ["nox", *rest]:
            names = [word for word in rest[: (*rest, "--").index("--")] if word != "-s"]
            nox = (TREE / "noxfile.py").read_text(encoding="utf-8")
            assert set(names) <= set(re.findall(r"^def (\w+)\(session", nox, re.M))
        case ["mkdocs" | "pytest" | "pytest-benchmark", *_]:
            pass
        case ["pip", *_]:
            for part in line.split(" && "):
                check(part)
        case ["dcbench", *rest]:
            check_dcbench(rest)
        case _:
            raise AssertionError(f"no test knows the command {line}")


def check_dcbench(words: list[str]) -> None:
    """Make sure that dcbench takes these words; nothing runs."""
    group = main()
    command: click.Command = group
    while isinstance(command, click.Group) and words:
        name, *words = words
        if name == "--help":
            return
        command = command.commands[name]
    if "--help" in words or isinstance(command, click.Group):  # a group of commands
        return
    # A parent: without one, a command would keep no -h for the rest of the process.
    parent = click.Context(group, **group.context_settings)
    context = command.make_context(str(words), words, parent)
    protocol = context.params.get("protocol") or "dc"
    assert protocol in protocols.protocol_names()


def test_every_command_can_be_typed(mine: str) -> None:
    lines = {
        (page.name, line, part)
        for page in PAGES
        for part, find in enumerate((typed, named))
        for line in find(page.read_text(encoding="utf-8"))
    }
    assert len({page for page, *_ in lines}) > 8
    problems = []
    for page, line, part in sorted(lines):
        try:
            check(line)
        except click.MissingParameter as error:
            if not part:
                problems.append(f"{page}: {line}: {error}")
        except (click.ClickException, AssertionError, KeyError, ValueError) as error:
            problems.append(f"{page}: {line}: {error}")
    assert not problems, "\n".join(problems)


def test_the_check_of_commands_finds_mistakes() -> None:
    for line in (
        "dcbench run --no-such-option",
        "dcbench no-such-command",
        "dcbench run --protocol no-such-protocol",
        "nox -s no_such_session",
        "pip install .[no_such_extra] && pytest",
        "no-such-program",
    ):
        with pytest.raises((click.ClickException, AssertionError, KeyError)):
            check(line)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The README's example as a module of somebody else's package."""
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
    resolved = planning.resolve(Cell(mine, "cifar10", 10), protocols.Request())
    settings = resolved.recipe.settings
    assert (settings["steps"], settings["image_lr"]) == (10_000, 0.5)
    assert settings["batch_real"] == 256
    assert resolved.origins["steps"].source == "section 4 of the paper"
    assert resolved.origins["batch_real"].table.startswith("dm.toml")


def test_titles_of_plug_ins_are_those_of_the_tables(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wording.title(mine) == "Mine"
    (tmp_path / "my_birds.py").write_text(
        'INFO = api.DatasetInfo(name="birds", title="My Birds", size=8)\n'
    )
    monkeypatch.setitem(DATASETS._modules, "birds", "my_birds")
    assert wording.title("birds") == "My Birds"  # without importing the module
    assert wording.title("no such thing") == "no such thing"


def test_it_distils(mine: str, tmp_path: Path) -> None:
    run = cell_run(dataset(), tmp_path, method=mine)
    settings = {"steps": 2, "architecture": "ConvNetD1W8", "batch_real": 4}
    made = method(mine, settings).distill(run)
    assert made.images.shape == (6, 1, 8, 8)
    assert torch.isfinite(made.images).all()


def test_tensors_of_ones_own_are_evaluated(
    digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    text = README.read_text(encoding="utf-8")
    code = next(block for block in blocks(text, "python") if "api.evaluate" in block)
    stream = np.random.default_rng(0)
    own: dict[str, Any] = {
        "images": stream.random((20, 1, 8, 8), np.float32),
        "labels": np.arange(20) % 10,
    }
    frames: list[pd.DataFrame] = []
    small: dict[str, Any] = {"architectures": "ConvNetD1W8", "networks": 1, "epochs": 1}

    def shortened(synthetic: Any, name: str, **said: Any) -> None:
        assert name == "cifar10"
        asked = {**small, "device": "cpu", "progress": False, **said}
        frames.append(evaluate(synthetic, "digits", **asked))

    evaluate = api.evaluate
    monkeypatch.setattr(api, "evaluate", shortened)
    exec(code, own)
    assert len(frames[0]) == 1
    for name in re.findall(r"`api\.(\w+)", text):
        assert name in api.__all__


def test_the_docs_name_every_protocol_and_format() -> None:
    for page, kind in (("protocols.md", "protocols"), ("formats.md", "formats")):
        text = (TREE / "docs" / page).read_text(encoding="utf-8")
        listed = CliRunner().invoke(main(), ["list", kind]).output
        names = {line.split()[0] for line in listed.splitlines()}
        assert set(re.findall(r"`(\w+)`", text)) >= names
