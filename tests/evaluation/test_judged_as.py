"""By whose evaluation a saved set is judged, and how the user learns of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import NETWORK, invoke, only_record, settable
from foreign_files import images, labels, res

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.evaluation.judged_as import JudgedAs, describe, method_of
from dcbench_bacon.recipes.protocols import Request
from dcbench_bacon.running.plans import planning
from dcbench_bacon.schema import Cell

FEW = (*settable("protocol.epochs", 3), *settable("protocol.networks", 2))
READ = ("--dataset", "digits", "--no-zca", "--normalized", "--index", 0)
FIXED = ("--architectures", NETWORK, "--device", "cpu", *FEW)


@pytest.fixture(autouse=True)
def cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes the digits once for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


def evaluate(path: Path, output: Path, *options: object) -> tuple[Any, str]:
    """Judges a file of another tool: the protocol in force, and what was told."""
    partition = () if "--partition" in options else ("--partition", 1)
    done = invoke(
        "evaluate", path, *READ, *partition, *FIXED, "--output", output, *options
    )
    assert done.exit_code == 0, done.output
    return only_record(output).recipe.protocol, done.stderr


def of_file(name: str, format: str = "vico", partition: int = 1) -> JudgedAs | None:
    """The method that a file of another tool tells."""
    source = {"files": [name], "format": format}
    made = SyntheticSet(
        torch.zeros(1, 1, 8, 8), torch.ones(1, 1), partition, {"source": source}
    )
    return method_of(Cell(f"{format}-file", "mnist", 1), made, None)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("res_DC_MNIST_ConvNet_1ipc.pt", "dc"),
        ("res_DSA_CIFAR10_ConvNet_10ipc.pt", "dsa"),
        ("res_DM_SVHN_ConvNet_10ipc.pt", "dm"),
        ("bacon-idm.npz", "bacon+idm"),
        ("my BACON set.pt", "bacon"),
        ("TM_images.pt", "mtt"),
        ("dc_bench_images.pt", None),
        ("dc_or_dm.pt", None),
        ("images_best.pt", None),
        ("whole.pt", None),
        ("decade.pt", None),
    ],
)
def test_the_name_of_a_file_tells_its_method(name: str, method: str | None) -> None:
    found = of_file(name)
    assert (found.method if found else None) == method


def test_four_parts_in_a_file_named_dm_are_idms_or_bacons() -> None:
    found = of_file("res_DM_MNIST_ConvNet_10ipc.pt", partition=2)
    assert found is not None
    assert found.method == "idm"
    assert (of_file("acc_0.45.pkl", format="best") or found).method == "idm"


@pytest.mark.parametrize(
    ("method", "dataset", "expected"),
    [
        ("dc", "mnist", ("dc_crop_scale_rotate", 1001, 20)),
        ("dc", "svhn", ("none", 301, 20)),
        ("dm", "svhn", ("color_crop_cutout_scale_rotate", 1001, 5)),
        ("bacon", "svhn", ("color_crop_cutout_flip_scale_rotate", 1001, 5)),
    ],
)
def test_a_set_is_judged_as_the_sets_of_its_method(
    method: str, dataset: str, expected: tuple[str, int, int]
) -> None:
    cell = Cell("vico-file", dataset, 3)  # no loops are published for 3 images a class
    found = planning.judged_as(method, cell, Request()).protocol
    assert (found.augmentation, found.epochs, found.networks) == expected
    own = planning.resolve(Cell(method, dataset, 1), Request()).recipe.protocol
    assert found == own


def test_the_name_decides_where_the_user_says_nothing(tmp_path: Path) -> None:
    path = res(tmp_path / "res_DC_digits_ConvNet_2ipc.pt")
    protocol, told = evaluate(path, tmp_path / "dc")
    assert protocol.augmentation == "none"
    assert told.count("judged as DC (its name)") == 1
    assert "augmentation none" in told
    assert "ConvNetBN" not in told  # which is not trained here
    protocol, told = evaluate(path, tmp_path / "dm", "--as", "DM".lower())
    assert protocol.augmentation == "color_crop_cutout_scale_rotate"
    assert "judged as DM (--as): with no change to protocol dc" in told


def test_a_set_of_no_known_method_is_judged_by_the_protocol(tmp_path: Path) -> None:
    path = tmp_path / "digits.pt"
    torch.save({"data": [[images(), labels()]], "accs_all_exps": {}}, path)
    protocol, told = evaluate(path, tmp_path / "plain")
    assert protocol.augmentation == "color_crop_cutout_scale_rotate"
    assert "--as METHOD" in told
    protocol, told = evaluate(path, tmp_path / "as", "--as", "dc")
    assert protocol.augmentation == "none"


def test_what_the_user_sets_counts_before_the_method(tmp_path: Path) -> None:
    path = res(tmp_path / "res_DC_digits_ConvNet_2ipc.pt")
    flip = settable("protocol.augmentation", "flip")
    protocol, told = evaluate(path, tmp_path / "out", *flip)
    assert protocol.augmentation == "flip"
    assert "augmentation none" not in told


def test_a_method_does_not_go_with_a_protocol_that_is_the_same_for_all(
    tmp_path: Path,
) -> None:
    path = res(tmp_path / "res_DC_digits_ConvNet_2ipc.pt")
    hard = ("--protocol", "hard", "--as", "dc", "--partition", 1)
    refused = invoke("evaluate", path, *READ, *FIXED, *hard)
    assert refused.exit_code == 2
    assert "--as dc" in refused.stderr
    assert "--protocol dc" in refused.stderr
    unknown = invoke("evaluate", path, *READ, "--as", "dcc")
    assert unknown.exit_code == 2
    assert "unknown method" in unknown.stderr


def test_our_own_file_is_judged_as_what_made_it_unless_told(tmp_path: Path) -> None:
    cell = Cell("dc", "digits", 1)
    made = SyntheticSet(torch.zeros(1, 1, 8, 8), torch.ones(1, 1))
    assert method_of(cell, made, None) == JudgedAs("dc", "what made it")
    assert method_of(cell, made, "dm") == JudgedAs("dm", "--as")
    gone = replace(made, provenance={})
    assert method_of(Cell("gone", "digits", 1), gone, None) is None
    assert "--as METHOD" in describe(None, None)


def test_what_concerns_the_networks_asked_for_is_told() -> None:
    cell = Cell("vico-file", "mnist", 1)
    judged = planning.judged_as("dc", cell, Request(architectures=("ConvNetBN",)))
    told = describe(JudgedAs("dc", "--as"), judged)
    assert "ConvNetBN with augmentation dc_crop_noise" in told
