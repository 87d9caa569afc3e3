"""Terminals, file systems and options of inputs, as the command line meets them."""

import errno
import io
import os
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commandline import DCBENCH

from dcbench_bacon.cli import main
from dcbench_bacon.cli.arguments import options
from dcbench_bacon.cli.results import reports
from dcbench_bacon.errors import OutputError, reason_of

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "latin-1"])
def test_any_terminal_shows_what_it_can(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(main.sys, "stdout", io.TextIOWrapper(shown, encoding))  # type: ignore[attr-defined]
    main._write_whatever_can_be_shown()
    print("61.0 ± 0.3 of 数\udcff")
    main.sys.stdout.flush()  # type: ignore[attr-defined]
    assert shown.getvalue().decode(encoding).startswith("61.0 ")


def test_a_table_on_a_terminal_of_windows() -> None:
    done = subprocess.run(
        [DCBENCH, "table", "--output", RESULTS, "--preset", "quick"],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "±" in done.stdout.decode("cp1252")
    assert "?" in done.stdout.decode("cp1252")  # the signs of footnotes


def sized(*arguments: str) -> str:
    @click.command()
    @options.datasets_option
    def command(datasets: tuple[str, ...]) -> None:
        click.echo(" ".join(datasets))

    return CliRunner().invoke(command, arguments).output.strip()


def test_size_is_that_of_folders() -> None:
    both = ("--datasets", "digits,folder:a@b/c", "--size", "64")
    assert sized(*both) == "digits folder@64:a@b/c"
    assert sized(*both[:2]) == "digits folder:a@b/c"
    assert "--size goes with folder:PATH" in sized("--datasets", "mnist", "--size", "9")
    assert "8<=x<=1024" in sized("--datasets", "folder:a", "--size", "4")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EACCES, "may write to"),
        (errno.EROFS, "may write to"),
        (errno.ENAMETOOLONG, "shorter path"),
        (errno.ENOTDIR, "is a file"),
        (errno.EMFILE, "ulimit"),
    ],
)
def test_each_failure_to_write_has_its_remedy(number: int, remedy: str) -> None:
    """Every one once advised to make room."""
    text = str(OutputError.of(Path("a"), OSError(number, os.strerror(number))))
    assert remedy in text
    assert ("make room" in text) == (number == errno.ENOSPC)


@pytest.mark.parametrize("there", [["demo"], ["demo", "quick"]])
def test_records_of_another_kind_are_told(
    there: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It once said that it had one of preset demo when asked for preset demo."""
    reports.warn_none(Path("records"), there, ("demo",))
    assert "Those of preset demo are of another kind" in caplog.text
    assert ("--preset quick" in caplog.text) == ("quick" in there)


def test_reasons_are_words() -> None:
    assert reason_of(OSError()) == "OSError"
    assert reason_of(ValueError("bad <_io.BytesIO object at 0x7f> data")) == "bad data"
    assert reason_of(KeyError("x")) == "KeyError: 'x'"
