"""Names are found without imports, in both folders and in entry points."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import invoke, tiny

from dcbench_bacon import contract
from dcbench_bacon.errors import UsageError
from dcbench_bacon.plugins import DATASETS, METHODS, Registry, canonical

Install = Callable[..., None]
GROUP = "some.group"

PLUGIN = '''
"""Blank: white images, for this test."""

import torch

from dcbench_bacon.contract import Method, Settings
from dcbench_bacon.data.synthetic import SyntheticSet

NAME = "blank+white"


class Blank(Method):
    """All the same."""

    class Settings(Settings, frozen=True, kw_only=True):
        """One key."""

        level: float = 1.0

    def distill(self, run):
        count, info = run.cell.ipc * run.info.classes, run.info
        shape = (count, info.channels, info.size, info.size)
        labels = torch.eye(info.classes).repeat_interleave(run.cell.ipc, 0)
        return SyntheticSet(torch.full(shape, self.settings.level), labels)
'''


@pytest.fixture
def members() -> Registry:
    """The methods, and those of another group of entry points."""
    return Registry("method", METHODS.package, GROUP)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A third party's method, importable."""
    (tmp_path / "blank_plugin.py").write_text(PLUGIN)
    (tmp_path / "blank_plugin.toml").write_text('title = "Blank"\n[defaults]\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("bacon", "bacon"),
        ("bacon+idm", "bacon+idm"),
        ("bacon-idm", "bacon+idm"),
        ("bacon_idm", "bacon+idm"),
        ("bacon_dm", "bacon+dm"),
    ],
)
def test_plus_minus_and_underscore_are_one(typed: str, name: str) -> None:
    assert METHODS.resolve(typed) == name
    assert METHODS.module(typed) is METHODS.module(name)
    assert METHODS.source(typed).stem == canonical(typed)


def test_all_modules_of_the_folders_are_there() -> None:
    for members in (METHODS, DATASETS):
        assert members.names() == sorted(members.names())
        folder = members.source(members.names()[0]).parent
        files = {path.stem for path in folder.glob("[!_]*.py")}
        assert {canonical(name) for name in members.names()} == files
    assert {"random", "dm", "idm", "bacon", "bacon+idm", "bacon+dm"} <= {
        *METHODS.names()
    }


@pytest.mark.parametrize(
    ("members", "typed", "near"),
    [
        (METHODS, "bacn", "bacon"),
        (METHODS, "bacon+idn", "bacon+idm"),
        (METHODS, "randm", "random"),
        (DATASETS, "fashionmnist", "fashion_mnist"),
        (DATASETS, "cifar_100", "cifar100"),
        (DATASETS, "tinyimagenet", "tiny_imagenet"),
    ],
)
def test_near_misses_are_guessed(members: Registry, typed: str, near: str) -> None:
    with pytest.raises(UsageError, match=members.kind) as caught:
        members.resolve(typed)
    message = str(caught.value)
    assert f"Did you mean {near!r}?" in message
    assert message.endswith("There are: " + ", ".join(members.names()))


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UsageError) as caught:
        METHODS.resolve("qqqqqq")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["__init__", "../methods/dm", "", "dm.py"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="unknown method"):
        METHODS.module(name)


def test_names_and_summaries_need_no_import() -> None:
    code = (
        "import sys\n"
        "from dcbench_bacon.plugins import DATASETS, METHODS\n"
        "for members in METHODS, DATASETS:\n"
        "    assert all(map(members.summary, members.names()))\n"
        "loaded = [m for m in sys.modules if m.startswith(('dcbench_bacon.methods.',"
        " 'dcbench_bacon.datasets.'))]\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_an_entry_point_is_a_method(
    install: Install,
    plugin: Path,
    digits_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(METHODS.group, **{"blank-white": "blank_plugin"})
    members = METHODS
    assert "blank+white" in members.names()
    assert members.resolve("blank_white") == "blank+white"
    assert members.source("blank+white") == plugin / "blank_plugin.py"
    assert members.summary("blank+white") == "Blank: white images, for this test."
    assert "blank_plugin" not in sys.modules
    # The same through the command line, recipe included.
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    assert "blank+white" in invoke("list", "methods").output
    assert "level  " in invoke("show", "blank+white", "mnist", 1).output
    options = [text for text in tiny() if text != "steps=6"]
    del options[options.index("--set")]
    run = ("run", "--methods", "blank+white,dm", "--ipc", 1, *options)
    result = invoke(*run, "--output", plugin / "results")
    assert result.exit_code == 0, result.output


def test_entry_points_of_another_group_are_no_members(
    install: Install, plugin: Path, members: Registry
) -> None:
    install("another.group", **{"blank-white": "blank_plugin"})
    assert "blank+white" not in members.names()


def test_an_entry_point_may_not_take_a_name(
    install: Install, members: Registry
) -> None:
    install(GROUP, **{"bacon-idm": "elsewhere.module"})
    with pytest.raises(UsageError, match=r"'bacon-idm' of elsewhere\.module"):
        members.names()


@pytest.mark.parametrize(("count", "source"), [(0, "x = 1"), (2, PLUGIN)])
def test_a_module_defines_one_method(
    count: int, source: str, install: Install, plugin: Path
) -> None:
    other = "class Other(Blank):\n    ...\n" if count == 2 else ""
    (plugin / "several.py").write_text(f"{source}\n{other}")
    install(METHODS.group, several="several")
    with pytest.raises(UsageError, match=f"several defines {count} methods, not one"):
        contract.method_class("several")
