from typing import Any

import msgspec
import pytest
from commandline import invoke

from dcbench_bacon.cli.main import main
from dcbench_bacon.downstream_store import SetIdentity
from dcbench_bacon.protocol import Protocol
from dcbench_bacon.recipes import digests, toml_tables
from dcbench_bacon.schema import Cell, Recipe


def test_the_former_option_is_hidden_and_works_with_a_note() -> None:
    for name, command in main.commands.items():
        shown = invoke(name, "--help").stdout
        assert "profile" not in shown
        known = {option for each in command.params for option in each.opts}
        # Commands that came with the new spelling never had the former one.
        assert "--profile" not in known or "--preset" in known, name
    now = invoke("show", "dm", "digits", "10", "--preset", "demo")
    before = invoke("show", "dm", "digits", "10", "--profile", "demo")
    assert before.stdout == now.stdout
    assert "preset demo" in now.stdout
    assert "--profile is now --preset" in before.stderr
    assert not now.stderr


def test_the_former_option_selects_records(tmp_path: Any) -> None:
    found = [
        invoke("table", "--output", "results/digits", *words)
        for words in (("--profile", "demo"), ("--preset", "demo"), ())
    ]
    assert found[0].stdout == found[1].stdout != found[2].stdout
    wrong = invoke("table", "--profile", "huge")
    assert wrong.exit_code == 2


def test_the_former_name_of_epochs_works_with_a_note(tmp_path: Any) -> None:
    for name in ("nas", "quality", "slim"):
        assert "--passes" not in invoke(name, "--help").stdout
        missing = tmp_path / "missing.safetensors"
        result = invoke(name, missing, "--passes", 3, "--output", tmp_path)
        assert "--passes is now --epochs" in result.stderr
        assert result.exit_code != 0


def test_the_former_command_is_hidden_and_works_with_a_note() -> None:
    assert "profile" not in invoke("--help").stdout
    result = invoke("profile", "--methods", "dm")
    assert "dcbench profile is now dcbench time" in result.stderr
    assert "name what to time" in result.stderr
    assert "is now" not in invoke("time", "--methods", "dm").stderr


def test_files_keep_the_former_key() -> None:
    recipe = Recipe(settings={}, protocol=Protocol(name="dc"), preset="demo")
    identity = SetIdentity(
        cell=Cell("dm", "digits", 1), recipe="", preset="demo", sha256=""
    )
    for value in (recipe, identity):
        data = msgspec.json.encode(value)
        assert msgspec.json.decode(data)["profile"] == "demo"
        assert msgspec.json.decode(data, type=type(value)) == value
    assert digests.digest(recipe) != digests.digest(
        msgspec.structs.replace(recipe, preset="quick")
    )


def test_recipe_files_may_have_the_former_tables(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[profiles.demo.defaults]\nsteps = 3\n")
    document = toml_tables.read(path)
    values, _ = toml_tables.merge([("mine", document)], Cell("x", "digits", 1), "demo")
    assert values == {"steps": 3}
    assert f"{path}: rename" in caplog.text
