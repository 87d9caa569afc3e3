"""Pools of networks: the published lists, and plain names in whatever is recorded."""

from pathlib import Path

import commandline
import pytest
from commandline import invoke, only_record, settable

from dcbench_bacon.networks import builder, pools
from dcbench_bacon.networks.pool_names import POOLS
from dcbench_bacon.recipes import protocols
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell

NAMES = builder.names()


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


# get_eval_pool of VICO-UoE/DatasetCondensation: specification, 0.5.
@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        ("M", "MLP ConvNet LeNet AlexNet VGG11 ResNet18"),
        ("B", "ConvNetBN ConvNetASwishBN AlexNetBN VGG11BN ResNet18BN"),
        ("W", "ConvNetW32 ConvNetW64 ConvNetW128 ConvNetW256"),
        ("D", "ConvNetD1 ConvNetD2 ConvNetD3 ConvNetD4"),
        ("A", "ConvNetAS ConvNetAR ConvNetAL ConvNetASwish"),
        ("P", "ConvNetNP ConvNetMP ConvNetAP"),
        ("N", "ConvNetNN ConvNetBN ConvNetLN ConvNetIN ConvNetGN"),
        ("S", "ResNet18_AP"),
        ("SS", "ResNet18BN_AP"),
        ("all", " ".join(NAMES)),
    ],
)
def test_published_pools(letter: str, expected: str) -> None:
    found = pools.expand([letter], "ResNet18BN_AP", NAMES)
    assert found == tuple(expected.split())
    for name in found:
        builder.check(name)


def test_each_network_once_in_the_order_given() -> None:
    given = ["timm:resnet10t", "MLP", "P", "M", "ConvNetMP"]
    found = pools.expand(given, "ConvNet", NAMES)
    assert found[:5] == ("timm:resnet10t", "MLP", *POOLS["P"])
    assert len(set(found)) == len(found) == 5 + 5


def test_every_letter_is_listed() -> None:
    lines = invoke("list", "architectures").output.splitlines()
    assert lines[: len(NAMES)] == NAMES
    described = {line.split()[0] for line in lines[len(NAMES) + 1 :]}
    assert described >= {*POOLS, "S", "SS", "all", "torchvision:NAME"}


def test_the_recipe_holds_plain_names() -> None:
    request = protocols.Request(
        architectures=("S", "P"), overrides={"architecture": "ConvNetD2BN"}
    )
    found = planning.resolve(Cell("dm", "cifar10", 1), request).recipe.protocol
    assert found.architectures == ("ConvNetD2", *POOLS["P"])
    by_hand = protocols.Request(
        architectures=found.architectures, overrides=request.overrides
    )
    same = planning.resolve(Cell("dm", "cifar10", 1), by_hand)
    assert same.recipe.protocol == found
    selected = planning.resolve(Cell("random", "cifar10", 1), request)
    assert selected.recipe.protocol.architectures[0] == "ConvNet"


def test_run_and_evaluate_take_pools(tmp_path: Path) -> None:
    fixed = ("run", "--methods", "dm", "--ipc", 1, "--output", tmp_path)
    quick = (*commandline.tiny(networks=1), "--architectures", "S")
    result = invoke(*fixed, *quick, *settable("architecture", "ConvNetD1W8GN"))
    assert result.exit_code == 0, result.output
    (evaluation,) = only_record(tmp_path).evaluations
    assert evaluation.architecture == "ConvNetD1W8GN"
    (path,) = (tmp_path / "synthetic").glob("*.safetensors")
    few = (*settable("protocol.epochs", 1), *settable("protocol.networks", 1))
    # Today's recipe would distil on ConvNet: the file decides.
    result = invoke("evaluate", path, *few, "--architectures", "SS,ConvNetD1W8")
    assert result.exit_code == 0, result.output
    printed = [line.split("  ")[1] for line in result.stdout.splitlines()]
    assert printed == ["ConvNetD1W8GN", "ConvNetD1W8"]


def test_a_wrong_name_is_found_before_anything_runs(tmp_path: Path) -> None:
    result = invoke("run", "--architectures", "M,Q", "--output", tmp_path / "none")
    assert result.exit_code == 2
    assert "unknown network 'Q'" in result.stderr
    assert not (tmp_path / "none").exists()
