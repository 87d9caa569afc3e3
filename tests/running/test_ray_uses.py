"""Sets and downstream trainings as tasks of Ray: the numbers of one process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from commandline import NETWORK, found, invoke, judged, tiny

SHORT = (
    *("--preset", "demo", "--set", "protocol.epochs=2", "--device", "cpu"),
    *("--set", "protocol.networks=1"),
)
RAY = ("--executor", "ray", "--cores-per-cell", 1)

# Ray's own warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def sets(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Path]]:
    """Two sets of digits; one thread here, as each task has."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    words = ("run", "--methods", "random,dm", "--ipc", 1, *tiny(epochs=1))
    assert invoke(*words, "--output", tmp_path / "made").exit_code == 0
    yield sorted((tmp_path / "made" / "synthetic").glob("*.safetensors"))
    torch.set_num_threads(before)


def trained(output: Path, use: str) -> dict[str, list[float]]:
    """The accuracies of each training of a use."""
    records: list[Any] = [
        msgspec.json.decode(path.read_bytes())
        for path in sorted((output / use).glob("*.json"))
    ]
    return {
        path.name: [each["accuracy"] for each in record["evaluations"]]
        for path, record in zip(
            sorted((output / use).glob("*.json")), records, strict=True
        )
    }


@pytest.mark.slow
@pytest.mark.usefixtures("local")
def test_sets_and_trainings_have_the_numbers_of_one_process(
    sets: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_text("no set")
    commands = {
        "evaluate": ("--architectures", NETWORK),
        "continual": ("--architectures", NETWORK, "--tasks", 2, "--orders", 1),
        "nas": ("--depths", 1, "--widths", "4,8", "--epochs", 2),
    }
    for name, words in commands.items():
        for where, executor in (("here", ()), ("ray", RAY)):
            output = ("--output", tmp_path / where)
            files = (*sets, broken) if name == "evaluate" else sets
            done = invoke(name, *files, *words, *SHORT, *executor, *output)
            assert done.exit_code == (1 if name == "evaluate" else 0), done.output
            assert ("broken.pt" in done.output) == (name == "evaluate")
    here, there = tmp_path / "here", tmp_path / "ray"
    assert [judged(each) for each in found(here)] == [
        judged(each) for each in found(there)
    ]
    for use in ("continual", "nas"):
        assert trained(here, use) == trained(there, use) != {}
