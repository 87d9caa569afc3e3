"""What notebooks and plug-ins import: the same numbers as the commands give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from dcbench_bacon import api
from dcbench_bacon.cli.main import main
from dcbench_bacon.data.dataset import normalize
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.store import Store

RESULTS = Path(__file__).resolve().parents[1] / "results" / "digits"
SMALL: dict[str, Any] = {"architectures": "ConvNetD1W8", "networks": 1, "epochs": 1}
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


@pytest.fixture(autouse=True)
def decoded(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache of decoded images for all tests."""
    monkeypatch.setenv("DCBENCH_CACHE", str(digits_cache))


def stripes(count: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Return images of two classes: stripes across and along, with noise on them."""
    draws = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 2
    line = 200 * (torch.arange(8) % 2)
    across = line[:, None].expand(8, 8)
    clean = torch.where(labels[:, None, None] == 0, across, across.T)
    noise = torch.randint(0, 50, (count, channels, 8, 8), generator=draws)
    return (clean[:, None] + noise).to(torch.uint8), labels


@pytest.mark.slow
def test_two_tensors_of_ones_own_get_an_accuracy() -> None:
    own = api.own_dataset(stripes(40), stripes(20), class_names=("across", "along"))
    frame = api.evaluate(stripes(4), own, architectures="ConvNetD1W8", **QUIET)
    assert list(frame) == ["architecture", "trial", "accuracy", "seconds"]
    assert len(frame) > 1
    assert frame["accuracy"].mean() > 95


def test_own_data_are_those_of_the_loader(caplog: pytest.LogCaptureFixture) -> None:
    digits = api.dataset("digits", device="cpu")
    train, test = digits.train, digits.test
    own = api.own_dataset(
        (train.images.numpy(), train.labels.to(torch.int16)), (test.images, test.labels)
    )
    assert own.fingerprint == digits.fingerprint
    np.testing.assert_allclose(own.info.mean, digits.info.mean, atol=1e-4)
    np.testing.assert_allclose(own.info.std, digits.info.std, atol=1e-4)
    assert own.info.class_names == digits.info.class_names
    first = int(own.train.images[0].sum())
    train.images[0] += 1  # the user's tensors are copied
    assert int(own.train.images[0].sum()) == first
    api.own_dataset(stripes(40), stripes(40))
    assert "40 of 40 test images are in train as well" in caplog.text


@pytest.mark.slow
def test_a_cell_has_the_numbers_of_the_command(tmp_path: Path) -> None:
    words = ["run", "--methods", "dm", "--datasets", "digits", "--ipc", "1"]
    words += ["--preset", "demo", "--device", "cpu", "--output", str(tmp_path)]
    words += ["--architectures", "ConvNetD1W8", "--set", "steps=2"]
    words += ["--set", "protocol.networks=2", "--set", "protocol.epochs=3"]
    words += ["--set", "architecture=ConvNetD1W8"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    made = api.distill(
        *("dm", "digits", 1),
        preset="demo",
        steps=2,
        architecture="ConvNetD1W8",
        **QUIET,
    )
    (record,) = Store(tmp_path).records()
    assert synthetic_file.digest(made) == record.synthetic_sha256
    for given in (made, api.read_set(next(tmp_path.glob("synthetic/*.safetensors")))):
        asked = {**SMALL, "networks": 2, "epochs": 3, **QUIET}
        frame = api.evaluate(given, "digits", preset="demo", **asked)
        measured = [100 * each.accuracy for each in record.evaluations]
        assert list(frame["accuracy"]) == measured


def test_a_set_is_written_and_read(tmp_path: Path) -> None:
    own = api.own_dataset(stripes(40), stripes(20))
    made = api.distill("random", own, 2, **QUIET)
    path = tmp_path / "made.safetensors"
    api.write_set(made, path)
    again = api.read_set(path)
    assert torch.equal(again.images, made.images)
    told = msgspec.json.decode(msgspec.json.encode(made.provenance))
    assert again.provenance == told
    api.evaluate(again, own, **SMALL, **QUIET)
    with pytest.raises(api.UsageError, match="exists; choose another name"):
        api.write_set(made, path)


def test_a_whitened_set_is_judged_on_whitened_images() -> None:
    own = api.own_dataset(stripes(40), stripes(20))
    pair = normalize(stripes(4)[0], own.info), stripes(4)[1]
    frame = api.evaluate(pair, own, zca=True, **SMALL, **QUIET)
    assert len(frame) == 1


def accuracies(images: Any, labels: Any, own: api.Dataset, **said: Any) -> list[float]:
    """Return what networks reach that are trained on two tensors."""
    frame = api.evaluate(
        (images, labels), own, **{**SMALL, "epochs": 5}, **said, **QUIET
    )
    return [round(each, 6) for each in frame["accuracy"]]


def test_pixels_and_normalised_images_are_told_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = api.own_dataset(stripes(40), stripes(20))
    images, labels = stripes(4)
    wanted = accuracies(images, labels, own)
    assert "taken as" not in caplog.text  # bytes are pixels
    normal = normalize(images, own.info)
    rows = torch.eye(2)[labels].numpy()
    for given, scale in (
        (images.double() / 255, "pixels 0..1"),
        (images.float(), "pixels 0..255"),
        (normal.numpy(), "normalised"),
    ):
        caplog.clear()
        assert accuracies(given, rows, own) == wanted
        assert f"images taken as {scale}" in caplog.text
    caplog.clear()
    assert accuracies(images / 255, labels, own, pixels=True) == wanted
    assert "taken as" not in caplog.text
    with pytest.raises(api.DataError, match="say so with pixels=False"):
        accuracies(normal, labels, own, pixels=True)


@pytest.mark.parametrize(
    ("images", "labels", "remedy"),
    [
        (torch.zeros(4, 8, 8, 1), [0, 1, 0, 1], r"give images.permute\(0, 3, 1, 2\)"),
        (torch.zeros(4, 8, 8), [0, 1, 0, 1], r"give images\[:, None\]"),
        (torch.zeros(4, 1, 9, 9), [0, 1, 0, 1], "or resize them"),
        (torch.zeros(0, 1, 8, 8), [], "at least one"),
        (torch.zeros(2, 1, 8, 8).long(), [0, 1], r"give images.to\(torch.uint8\)"),
        (torch.full((2, 1, 8, 8), torch.nan), [0, 1], "leave those images"),
        (torch.zeros(2, 1, 8, 8), [0, 1, 1], "give a label for each image"),
        (torch.zeros(2, 1, 8, 8), [0, 2], "name the data set that they are of"),
        (torch.zeros(2, 1, 8, 8), [0.0, 1.0], r"give labels.long\(\)"),
        (torch.zeros(2, 1, 8, 8), [[5.0, 1.0]] * 2, r"give labels.softmax\(1\)"),
        (torch.zeros(2, 1, 8, 8), [[1.0, 0.0, 0.0]] * 2, "name the data set"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(
    images: Tensor, labels: list[Any], remedy: str
) -> None:
    own = api.own_dataset(stripes(40), stripes(20))
    with pytest.raises(api.DataError, match=remedy):
        api.evaluate((images, torch.tensor(labels)), own, **SMALL, **QUIET)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda x, y: (x / 255, y), r"give \(images \* 255\).round"),
        (lambda x, y: (x.permute(0, 2, 3, 1), y), r"give images.permute\(0, 3, 1, 2\)"),
        (lambda x, y: (x[:, 0], y), r"give images\[:, None\]"),
        (lambda x, y: (x[..., :6], y), "squares of 1 or 3 channels"),
        (lambda x, y: (x, y[:-1]), "give as many of both"),
        (lambda x, y: (x, y.float()), r"labels.long\(\)"),
        (lambda x, y: (x, torch.eye(2)[y]), r"labels.argmax\(1\)"),
        (lambda x, y: (x, 2 * y), "no image of class 1"),
        (lambda x, y: (x, y - 1), "labels -1 to 0"),
    ],
)
def test_data_of_ones_own_that_do_not_fit_are_refused(change: Any, remedy: str) -> None:
    with pytest.raises(api.DataError, match=remedy):
        api.own_dataset(change(*stripes(20)), stripes(20))


def test_names_and_values_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    own = api.own_dataset(stripes(40), stripes(20))
    made = api.distill("random", own, 1, **QUIET)
    protocol_key: dict[str, Any] = {"protocol.epochs": 1, **QUIET}
    refused: dict[str, Callable[[], object]] = {
        "Did you mean 'bacon'": lambda: api.distill("bacn", own, 1, **QUIET),
        "Did you mean 'steps'": lambda: api.distill("dm", own, 1, step=3, **QUIET),
        "give it to evaluate": lambda: api.distill("dm", own, 1, **protocol_key),
        "makes no set": lambda: api.distill("whole", own, 1, **QUIET),
        "is more than the": lambda: api.distill("random", own, 30, **QUIET),
        "give an ipc from 1": lambda: api.distill("random", own, 0, **QUIET),
        "choose paper, quick or demo": lambda: api.distill(
            "random", own, 1, preset="fast", **QUIET
        ),
        "epochs": lambda: api.evaluate(made, own, epoch=3, **QUIET),
        "unknown protocol": lambda: api.evaluate(made, own, protocol="dd", **QUIET),
        "ConvNet": lambda: api.evaluate(made, own, architectures="CovNet", **QUIET),
        "says pixels": lambda: api.evaluate(made, own, pixels=True, **QUIET),
        "that of a data set": lambda: api.own_dataset(
            stripes(4), stripes(4), name="cifar10"
        ),
        "use small letters": lambda: api.own_dataset(
            stripes(4), stripes(4), name="../x"
        ),
        "no option 'pixel'": lambda: api.read_set(tmp_path / "x.pt", pixel=True),
        "no column": lambda: api.published(data="cifar10"),
        "is no folder": lambda: api.records(tmp_path / "nothing"),
    }
    for message, call in refused.items():
        with pytest.raises(api.UsageError, match=message):
            call()
    with pytest.raises(api.DataError, match="name the right"):
        api.evaluate(made, "digits", **SMALL, **QUIET)


def test_progress_is_shown_on_standard_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    own = api.own_dataset(stripes(40), stripes(20))
    api.evaluate(stripes(4), own, **SMALL, device="cpu")
    out, err = capfd.readouterr()
    assert "judged by protocol dc" in " ".join(err.split())
    assert not out
    api.evaluate(stripes(4), own, **SMALL, **QUIET)
    assert "judged" not in "".join(capfd.readouterr())


def test_frames_of_records_and_published_numbers() -> None:
    long = api.records(RESULTS)
    assert {"dataset", "ipc", "method", "architecture", "accuracy"} <= set(long)
    table = api.table(RESULTS, presets=("demo",))
    assert set(table["method"]) >= {"dm", "idm", "bacon", "random"}
    assert api.table(RESULTS).empty  # reduced presets enter where they are asked for
    printed = api.published(dataset="cifar10", ipc=10, method="dm")
    assert isinstance(printed, pd.DataFrame)
    assert set(printed["method"]) == {"dm"}
    assert printed["mean"].between(0, 100).all()


def test_everything_named_is_there_and_documented() -> None:
    for name in api.__all__:
        if name != "State":
            assert getattr(api, name).__doc__, name
    assert sorted(api.__all__) == api.__all__
