"""Conversion into the place of an earlier output."""

from pathlib import Path
from typing import Any

import pytest
from commandline import invoke
from foreign_files import MAKERS


def convert(file: Path, output: Path) -> Any:
    """Convert a set into a folder of images, which may be there."""
    options = ("--dataset", "digits", "--index", 0, "--to", "folder", "--force")
    return invoke("convert", file, *options, "--output", output)


def content(folder: Path) -> dict[str, bytes]:
    """The files in a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    "name",
    ["2024_report.pdf", "2024_thesis/chapter.tex", "0_0/1_x/000000.png", "000000.png"],
)
def test_a_folder_with_files_of_the_user_is_left_alone(
    name: str, tmp_path: Path
) -> None:
    """Only what the format itself writes is replaced, by name, depth and kind."""
    file, output = MAKERS["vico"](tmp_path), tmp_path / "out"
    (output / name).parent.mkdir(parents=True)
    (output / name).write_bytes(b"mine")
    result = convert(file, output)
    assert result.exit_code == 2, result.output
    assert content(output) == {name: b"mine"}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_interrupt_leaves_one_complete_folder(
    nth: int, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C around either rename keeps the old folder or the new one, by its name."""
    file, output = MAKERS["vico"](tmp_path), tmp_path / "out"
    assert convert(file, output).exit_code == 0
    new = content(output)
    first = min(output.rglob("*.png"))
    first.write_bytes(b"old")
    old = content(output)
    rename, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        if output in (self, target):
            calls.append(self)
        stop = output in (self, target) and len(calls) == nth
        if stop and moment == "before":
            raise KeyboardInterrupt
        renamed = rename(self, target)
        if stop:
            raise KeyboardInterrupt
        return renamed

    monkeypatch.setattr(Path, "rename", interrupted)
    assert convert(file, output).exit_code != 0
    assert content(output) == (new if (nth, moment) == (2, "after") else old)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [file.name, output.name]
    )
