"""Names are found without imports, in both folders and in entry points."""

import importlib.metadata
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import invoke, tiny

from dcbench_bacon import contract, plugins
from dcbench_bacon.errors import UsageError
from dcbench_bacon.plugins import DATASETS, METHODS, Registry, canonical

Declare = Callable[..., Registry]

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
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """A registry of the methods that sees given entry points."""

    def make(**entries: str) -> Registry:
        def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
            return [
                importlib.metadata.EntryPoint(name, value, group)
                for name, value in entries.items()
                if group == "some.group"
            ]

        monkeypatch.setattr(plugins, "entry_points", entry_points)
        return Registry("method", "dcbench_bacon.methods", "some.group")

    return make


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A third party's method, importable."""
    (tmp_path / "blank_plugin.py").write_text(PLUGIN)
    (tmp_path / "blank_plugin.toml").write_text('title = "Blank"\n[defaults]\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("blank_plugin", None)


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
    declare: Declare,
    plugin: Path,
    digits_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = declare(**{"blank-white": "blank_plugin"})
    assert "blank+white" in members.names()
    assert members.resolve("blank_white") == "blank+white"
    assert members.source("blank+white") == plugin / "blank_plugin.py"
    assert members.summary("blank+white") == "Blank: white images, for this test."
    assert "blank_plugin" not in sys.modules
    # The same through the command line, recipe included.
    monkeypatch.setattr(METHODS, "group", "some.group")
    monkeypatch.delitem(vars(METHODS), "_modules", raising=False)
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    try:
        assert "blank+white" in invoke("list", "methods").output
        assert "level  " in invoke("show", "blank+white", "mnist", 1).output
        options = [text for text in tiny() if text != "steps=6"]
        del options[options.index("--set")]
        run = ("run", "--methods", "blank+white,dm", "--ipc", 1, *options)
        result = invoke(*run, "--output", plugin / "results")
        assert result.exit_code == 0, result.output
    finally:
        vars(METHODS).pop("_modules", None)


def test_an_entry_point_may_not_take_a_name(declare: Declare) -> None:
    members = declare(**{"bacon-idm": "elsewhere.module"})
    with pytest.raises(UsageError, match=r"'bacon-idm' of elsewhere\.module"):
        members.names()


@pytest.mark.parametrize(("count", "source"), [(0, "x = 1"), (2, PLUGIN)])
def test_a_module_defines_one_method(
    count: int, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("several")
    exec(source, vars(module))
    if count == 2:
        blank = vars(module)["Blank"]
        vars(module)["Other"] = type("Other", (blank,), {"__module__": "several"})
    monkeypatch.setattr(METHODS, "module", lambda name: module)
    with pytest.raises(UsageError, match=f"several defines {count} methods, not one"):
        contract.method_class("several")
