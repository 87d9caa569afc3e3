"""All that a file leaves open is asked in one message, and one command answers it."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from commandline import invoke
from foreign_files import CLASSES, IPC, images, labels
from PIL import Image

from dcbench_bacon.errors import UnstatedError
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions

LOGITS = torch.randn(20, 10, generator=torch.Generator().manual_seed(2)) * 3
BRIGHT = images().sigmoid() * 0.3 + 2.2  # neither in [0, 1] nor like bytes


def asked(path: Path, **stated: object) -> str:
    """The message, of which every line fits a terminal."""
    with pytest.raises(UnstatedError) as caught:
        adopt.read(path, ReadingOptions(**stated))  # type: ignore[arg-type]
    lines = str(caught.value).splitlines()
    assert all(len(line) <= 80 for line in lines[1:-1])
    return str(caught.value)


def options(message: str) -> list[str]:
    """The options that a message asks for, in its order."""
    return re.findall(r"^  (--[a-z-]+)", message, re.MULTILINE)


def answered(message: str) -> list[str]:
    """The words of the command at the end of a message."""
    assert message.splitlines()[-2] == "for example"
    words = shlex.split(message.splitlines()[-1])
    assert words[:2] == ["dcbench", "evaluate"]
    return words[2:]


def converted(words: list[str], folder: Path) -> None:
    """Sees that the words of a command read the file."""
    result = invoke("convert", *words, "--to", "npz", "--output", folder / "out.npz")
    assert result.exit_code == 0, result.output


def test_a_known_data_set_leaves_one_message_for_all_else(tmp_path: Path) -> None:
    """Labels were once asked for after the values, and these after the classes."""
    path = tmp_path / "my set.pt"
    torch.save([BRIGHT, LOGITS], path)
    message = asked(path, dataset="digits")
    assert options(message)[:2] == ["--pixels", "--labels"]
    assert "softmax if they are logits" in " ".join(message.split())
    assert "digits 0.31/0.38" in " ".join(message.split())
    words = answered(message)
    assert words[0] == str(path)
    assert {"--pixels", "--labels", "softmax"} <= set(words)
    assert {"--dataset", "digits"} <= set(words)  # as given
    converted(words, tmp_path)


def test_an_unknown_data_set_is_asked_for_with_all_else(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save([images() * 0.4, LOGITS], path)
    message = asked(path)
    assert options(message)[:2] == ["--dataset", "--labels"]
    assert "fits digits" in message
    assert "--zca" in options(message)  # a deviation of 0.4 is that of whitened images
    converted(answered(message), tmp_path)
    # What is stated is not asked again.
    again = asked(path, dataset="digits", zca=False, partition=1)
    assert options(again)[0] == "--labels"
    assert not {"--dataset", "--zca", "--partition"} & set(options(again))


def test_names_of_classes_leave_data_sets_out_or_are_asked(tmp_path: Path) -> None:
    for number in range(CLASSES):
        (tmp_path / "set" / f"new{number:03}").mkdir(parents=True)
        picture = tmp_path / "set" / f"new{number:03}" / "a.png"
        Image.new("L", (8, 8), 20 * number).save(picture)
    message = asked(tmp_path / "set")
    assert options(message)[:2] == ["--dataset", "--classes"]
    words = answered(message)
    assert words[-1] != "--classes"
    assert {"digits", "index"} <= set(words)
    converted(words, tmp_path)
    for number in range(CLASSES):
        (tmp_path / "set" / f"new{number:03}").rename(tmp_path / "set" / str(number))
    assert "--classes" not in options(asked(tmp_path / "set"))


def test_images_of_no_known_size_are_asked_about_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    values = torch.randn(CLASSES * IPC, 3, 15, 15) * 0.4
    torch.save([values, LOGITS], path)
    message = asked(path)
    assert "which fits none here" in " ".join(message.split())
    assert options(message)[:2] == ["--dataset", "--labels"]
    assert "--zca" in options(message)
    assert "--dataset folder:PATH" in message.splitlines()[-1]


def test_parts_that_cannot_be_are_asked_for(tmp_path: Path) -> None:
    """The name IDM means four parts, which no image of 15 pixels has."""
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / "mine" / split / name).mkdir(parents=True)
            for shade in (10, 60):
                shown = Image.new("RGB", (15, 15), (shade, shade + ord(name), 0))
                shown.save(tmp_path / "mine" / split / name / f"{shade}.png")
    path = tmp_path / "res_IDM_2ipc.pt"
    values = torch.randn(4, 3, 15, 15)
    torch.save(
        {"data": [[values, torch.tensor([[5.0, -1], [4, 1], [0, 2], [1, 3]])]]}, path
    )
    message = asked(path, dataset=f"folder:{tmp_path / 'mine'}")
    assert options(message)[:2] == ["--partition", "--labels"]
    assert {"--partition", "--labels", "softmax"} <= set(answered(message))


def test_one_message_of_the_command_and_status_2(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save([images(), LOGITS], path)
    refused = invoke("evaluate", path, "--output", tmp_path / "out")
    assert refused.exit_code == 2
    assert refused.stderr.count("does not say") == 1
    assert "--dataset digits" in refused.stderr
    rate = ("--set", "protocol.use_learned_rate=true")
    also = invoke("evaluate", path, "--output", tmp_path / "out", *rate)
    assert {"--dataset", "--labels", "--learned-rate"} <= set(options(also.stderr))
    whole = tmp_path / "digits.pt"
    torch.save([images(), labels()], whole)
    adopt.read(whole, ReadingOptions())  # its name and values say enough
