"""``dcbench doctor``, ``dcbench cache`` and ``dcbench completion``."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from commandline import invoke

from dcbench_bacon.cli.machine import machine_commands
from dcbench_bacon.cli.machine.doctor import Needs, examined
from dcbench_bacon.networks import builder, pool_names
from dcbench_bacon.runtime.disk import caches


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and data of this test."""
    for variable in ("DCBENCH_EXPERTS", "DCBENCH_WHITENING", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DCBENCH_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("DCBENCH_DATA", str(tmp_path / "data"))


# An idle processor, a compiler and a disk with room.
SOUND = Needs(obstacle=lambda _: None, contention=lambda: "", free=1)


def examine(tmp_path: Path, needs: Needs = SOUND) -> tuple[int, dict[str, str]]:
    """The exit status, and the lines by the thing they are about."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        status = machine_commands.show(examined("cpu", None, tmp_path / "out", needs))
    lines = [line for line in printed.getvalue().splitlines() if line]
    return status, {line[5:].partition(":")[0]: line for line in lines}


def mnist(folder: Path) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1"):
        for name in (part, part.replace("train", "t10k")):
            (raw / f"{name}-ubyte").write_bytes(b"")


def test_on_a_sound_machine_every_line_says_ok(tmp_path: Path) -> None:
    mnist(tmp_path / "data")
    code, lines = examine(tmp_path)
    assert code == 0, lines
    assert list(lines) == [
        *("versions", "device", "compiler", "CUDA graphs", "threads", "caches"),
        *("data", "results", "disk"),
    ]
    assert all(line.startswith("ok   ") for line in lines.values())
    assert "mnist" in lines["data"].partition("not on disk")[0]
    assert "cifar10" in lines["data"].partition("not on disk")[2]
    assert "torch 2" in lines["versions"]
    assert not (tmp_path / "out").exists()


def test_each_fault_names_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file in the place of the folder")
    needs = Needs(
        obstacle=lambda _: "torch.compile does not work",
        contention=lambda: "others compete (load 9)",
        datasets=("mnist",),  # of no system package
        free=10**18,
    )
    code, lines = examine(tmp_path, needs)
    assert code == 1
    wrong = {name for name, line in lines.items() if line.startswith("BAD")}
    assert wrong == {"compiler", "threads", "caches", "data", "disk"}
    assert all("; remedy: " in lines[name] for name in wrong)
    assert "g++" in lines["compiler"]
    assert "DCBENCH_CACHE" in lines["caches"]
    assert "dcbench data get" in lines["data"]


def test_a_check_that_fails_does_not_hide_the_others(tmp_path: Path) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("driver too old")

    code, lines = examine(tmp_path, replace(SOUND, obstacle=fails))
    assert code == 1
    assert "driver too old" in lines["compiler"]
    assert "disk" in lines


@pytest.mark.slow
def test_the_command_examines_this_machine(tmp_path: Path) -> None:
    result = invoke("doctor", "--device", "cpu", "--output", tmp_path / "out")
    lines = result.stdout.splitlines()
    assert [line[5:].partition(":")[0] for line in lines] == list(examine(tmp_path)[1])
    assert result.exit_code == any(line.startswith("BAD") for line in lines)


def test_caches_are_listed_and_cleared(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for name, count in (("decoded", 3000), ("compiled", 50)):
        (kept / name / "inner").mkdir(parents=True)
        (kept / name / "inner" / "file").write_bytes(b"x" * count)
    listed = invoke("cache", "list").stdout
    assert "3.0 KB" in listed
    assert str(kept / "decoded") in listed
    declined = invoke("cache", "clear", "decoded")  # no terminal to say yes on
    assert declined.exit_code == 1
    assert (kept / "decoded" / "inner" / "file").exists()
    assert "3.0 KB removed" in invoke("cache", "clear", "decoded", "--yes").stdout
    assert not (kept / "decoded").exists()
    assert (kept / "compiled").exists()
    assert invoke("cache", "clear", "all", "--yes").exit_code == 0
    assert not list(kept.iterdir())
    unknown = invoke("cache", "clear", "records", "--yes")
    assert unknown.exit_code == 2
    assert "decoded, experts, whitening, compiled" in unknown.stderr


def test_a_folder_that_the_user_named_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("DCBENCH_EXPERTS", str(mine))
    assert invoke("cache", "clear", "experts", "--yes").exit_code == 2
    assert mine.exists()


def test_one_variable_moves_every_cache(tmp_path: Path) -> None:
    for cache in caches.CACHES:
        assert cache.folder == tmp_path / "kept" / cache.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    script = invoke("completion", shell).stdout
    assert "dcbench" in script
    assert f"_DCBENCH_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("run --methods ba", "bacon"),
        ("run --methods dm,ba", "dm,bacon"),
        ("run --datasets cifar10,mni", "cifar10,mnist"),
        ("run --architectures ConvNet,VGG11B", "ConvNet,VGG11BN"),
        ("run --protocol d", "dc"),
        ("cache cl", "clear"),
    ],
)
def test_names_are_completed_without_torch(typed: str, expected: str) -> None:
    words = ["dcbench", *typed.split()]
    script = (
        "import sys\nsys.modules['torch'] = None\nsys.argv[0] = 'dcbench'\n"
        "from dcbench_bacon.cli.main import main\nmain(prog_name='dcbench')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "_DCBENCH_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"plain,{expected}" in done.stdout.splitlines(), done.stderr


def test_pools_name_networks_that_exist() -> None:
    named = {name for pool in pool_names.POOLS.values() for name in pool}
    for name in named:
        builder.check(name)
