"""The command line under test: in this process, or in one that can be killed."""

import subprocess
import sys
from pathlib import Path

import torch
from click.testing import CliRunner, Result

from dcbench_bacon import store
from dcbench_bacon.cli.main import main
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.schema import Record

DCBENCH = Path(sys.executable).with_name("dcbench")
NETWORK = "ConvNetD1W8"


def tiny(*, steps: int = 6, epochs: int = 7, networks: int = 2) -> tuple[str, ...]:
    """Options of ``run`` that make it last a moment."""
    pairs = {
        "steps": steps,
        "batch_real": 16,
        "architecture": NETWORK,
        "protocol.epochs": epochs,
        "protocol.networks": networks,
    }
    settings = [text for key, value in pairs.items() for text in settable(key, value)]
    fixed = ("--preset", "demo", "--architectures", NETWORK, "--no-download")
    return (*settings, *fixed, "--datasets", "digits", "--device", "cpu")


def settable(key: str, value: object) -> tuple[str, str]:
    """An option that overrides a recipe key."""
    return "--set", f"{key}={value}"


def invoke(*arguments: object) -> Result:
    """Runs a command here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    assert "Traceback" not in result.output
    return result


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Starts the installed command."""
    return subprocess.Popen(
        [DCBENCH, *(str(argument) for argument in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Waits; the exit status and what was printed."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(*arguments: object) -> tuple[int, str, str]:
    """Runs the installed command to its end."""
    return finish(start(*arguments))


def run_killed(*arguments: object) -> None:
    """Runs a command until it gets through being killed, again and again, at writes."""
    script = Path(__file__).with_name("write_killer.py")
    done = subprocess.run(
        [sys.executable, script, "1", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("killed")[-1]) >= 5


def found(output: Path) -> list[Record]:
    """The records of a results folder."""
    return list(store.Store(output).records())


def only_record(output: Path) -> Record:
    """The one record of a results folder."""
    (record,) = found(output)
    return record


def only_set(output: Path) -> torch.Tensor:
    """The images of the one synthetic set of a results folder."""
    (path,) = (output / "synthetic").glob("*.safetensors")
    return synthetic_file.read(path).images


def judged(record: Record) -> list[tuple[str, int, float, int, int | None]]:
    """The evaluations of a record without the seconds they took."""
    return [
        (each.architecture, each.trial, each.accuracy, each.epoch, each.step)
        for each in (*record.evaluations, *record.history)
    ]


def leftovers(output: Path) -> list[Path]:
    """What lies in the checkpoints' folder, locks apart."""
    return [
        path
        for path in (output / "checkpoints").rglob("*")
        if not path.name.endswith(".lock")
    ]


def assert_same(disturbed: Path, quiet: Path) -> None:
    """Same set, same accuracies, everything finished and tidied up."""
    assert torch.equal(only_set(disturbed), only_set(quiet))
    mine, theirs = only_record(disturbed), only_record(quiet)
    assert mine.status == theirs.status == "done"
    assert judged(mine) == judged(theirs)
    assert mine.synthetic_sha256 == theirs.synthetic_sha256
    assert mine.digest == theirs.digest
    stages = {name: cost.steps for name, cost in mine.distillation.items()}
    assert stages == {name: cost.steps for name, cost in theirs.distillation.items()}
    assert not leftovers(disturbed)
