"""Network slimming: what is pruned, what recovers, and the command end to end."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from commandline import invoke, settable
from support import dataset
from torch import nn
from torch.nn import functional as F

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.downstream_store import Slimmed, slimming_folder
from dcbench_bacon.errors import UsageError
from dcbench_bacon.evaluation.downstream import slimming
from dcbench_bacon.evaluation.evaluate import evaluate
from dcbench_bacon.networks import builder
from dcbench_bacon.networks.base import Network
from dcbench_bacon.recipes import protocols
from dcbench_bacon.reporting.figures import downstream_curves
from dcbench_bacon.running.clock import Clock
from dcbench_bacon.schema import Cell
from dcbench_bacon.store import Store
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.task import Task

pytest.importorskip("torch_pruning")
REAL = dataset()
NETWORK = "ConvNetD2W8BN"


def network(name: str = NETWORK) -> Network:
    generator = torch.Generator().manual_seed(3)
    made = builder.build(name, channels=1, size=8, classes=3, generator=generator)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    return made.eval()


def test_the_channels_of_the_smallest_scales_go() -> None:
    """Channels without effect are the ones that go, so that no logit changes."""
    whole = network()
    norms = [m for m in whole.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm, dead in zip(norms, (3, 5), strict=True):
            norm.weight[:dead] = 0.0
            norm.bias.zero_()
    left, share = slimming.pruned(whole, 0.5, REAL.info)
    kept = [m.num_features for m in left.modules() if isinstance(m, nn.BatchNorm2d)]
    assert kept == [5, 3]
    assert share == 1 - left.parameter_count / whole.parameter_count
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(left(images), whole(images), atol=1e-5)
    assert [m.num_features for m in norms] == [8, 8]  # the whole network stays whole


def test_networks_that_cannot_be_slimmed_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="--network ConvNet has no batch norm"):
        slimming.check("ConvNet", network("ConvNet"))
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(UsageError, match=r"pip install 'dcbench-bacon\[slim\]'"):
        slimming.check(NETWORK, network())


def test_recovery_starts_from_the_pruned_network_and_learns_from_the_whole(
    trainers: list[SetTrainer],
) -> None:
    generator = torch.Generator().manual_seed(2)
    labels = F.one_hot(torch.arange(12) % 3, 3).float()
    made = SyntheticSet(torch.randn(12, 1, 8, 8, generator=generator), labels)
    common = protocols.protocol(
        Cell("any", "digits", 10), protocols.Request(protocol="common")
    )
    plain = {"loss": "mse", "mixing": "none", "augmentation": "none"}
    short = {"networks": 1, "epochs": 40, "learning_rate": 0.01}
    rules = msgspec.structs.replace(
        common, architectures=(NETWORK,), teachers=(NETWORK,), **plain, **short
    )
    whole = network()
    task = Task(
        *(made, REAL.test, REAL.info, rules, None, (whole,)),
        start=lambda _: slimming.pruned(whole, 0.4, REAL.info).network,
    )
    before = slimming.pruned(whole, 0.4, REAL.info).network
    for _ in range(2):
        evaluate(Clock("cell", torch.device("cpu")), task)
    first, second = trainers
    assert first.network.parameter_count == before.parameter_count
    assert torch.equal(first.vector, second.vector)
    with torch.no_grad():
        told = whole(made.images)
        apart = [
            (net.eval()(made.images) - told).square().mean().item()
            for net in (before, first.network)
        ]
    assert apart[1] < apart[0]


@pytest.mark.slow
def test_slimming_end_to_end(
    tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))
    output = tmp_path / "out"
    few = (*settable("protocol.epochs", 2), "--preset", "demo", "--device", "cpu")
    cells = ("--methods", "random", "--datasets", "digits", "--ipc", 1)
    assert invoke("run", *cells, *few, "--output", output).exit_code == 0
    (path,) = (output / "synthetic").glob("*.safetensors")
    first = ("slim", path, "--network", NETWORK, "--networks", 2, "--epochs", 1)
    asked = (*first, "--ratios", "0.2,0.6", *few, "--output", output)
    done = invoke(*asked)
    assert done.exit_code == 0, done.output
    records = list(slimming_folder(Store(output)).records([]))
    assert len(records) == 4
    assert all(isinstance(each, Slimmed) for each in records)
    assert {each.ratio for each in records} == {0.2, 0.6}
    assert all(0 < (each.pruned_share or 0) < 1 for each in records)
    assert all(each.whole_accuracy is not None for each in records)
    plan = msgspec.structs.replace(records[0], pruned_share=None, evaluations=())
    assert plan.digest == records[0].digest
    assert invoke(*asked).stderr.count("already done") == 4
    again = invoke("table", "--what", "slim", "--preset", "demo", "--output", output)
    assert again.stdout == done.stdout
    assert "| Random   |" in again.stdout
    drawn = invoke("plot", "slim", "--preset", "demo", "--output", output)
    assert "slim-digits-common-demo-set" in drawn.stdout + drawn.stderr
    # Networks lose different shares of their parameters, and are one point per ratio.
    apart = [
        msgspec.structs.replace(each, pruned_share=0.1 * each.network + each.ratio / 2)
        for each in records
    ]
    (drawing,) = downstream_curves.slim(apart, ["demo"])
    line = drawing.figure.axes[0].get_lines()[0]
    shares = np.asarray(line.get_xdata(), dtype=np.float64)
    assert shares.round(1).tolist() == [15.0, 35.0]
    refused = invoke("slim", path, "--ratios", "1.5", "--output", output)
    assert refused.exit_code == 2
    assert "1.5 is not between 0 and 1" in refused.stderr
