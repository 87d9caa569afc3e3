"""Everything that a GPU has to show, in slices that can be stopped and resumed.

    python benchmarks/gpu.py OUTPUT --data FOLDER

runs the tasks of ``gpu_tasks.TASKS``, the most important first, each in a process of
its own, for at most nine minutes, and writes OUTPUT.tar.gz. The same command goes on
where it stopped: a task with a result is not repeated, and a grid of ``dcbench run``
continues from its checkpoints. It needs no network. ``--from ARCHIVE`` unpacks the
archive of an earlier machine first; ``--wheels`` prints what has to be brought along;
``--toy`` runs every task at a small size on a CPU.
"""

import argparse
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "tests")]

from gpu_tasks import TASKS  # noqa: E402 - beside this file

SLICE = 540.0  # seconds, for machines that end a command after ten minutes
LEAST = 20.0  # seconds that are worth starting a task for
LARGEST = 12_000_000  # bytes of a file in the archive; larger checkpoints stay behind
# What a machine with PyTorch 2.11 and torchvision needs besides them, by module. Not
# scipy, scikit-learn and matplotlib: no task uses them.
WHEELS = {
    **{"msgspec": "msgspec", "kornia": "kornia", "kornia_rs": "kornia-rs"},
    **{"safetensors": "safetensors", "filelock": "filelock", "click": "click"},
    **{"jaxtyping": "jaxtyping", "rich": "rich", "pandas": "pandas"},
    **{"tabulate": "tabulate", "jinja2": "jinja2", "PIL": "pillow"},
    **{"pytest": "pytest", "beartype": "beartype", "hypothesis": "hypothesis"},
}


def main() -> int:
    """Run a slice, or the one thing that an option asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path, nargs="?", default=Path("gpu-results"))
    parser.add_argument("--data", type=Path, help="the folder of data sets")
    parser.add_argument("--slice", type=float, default=SLICE, help="seconds at most")
    parser.add_argument("--from", dest="archive", type=Path, help="an earlier archive")
    parser.add_argument("--toy", action="store_true", help="small sizes, on a CPU")
    parser.add_argument("--tasks", help="these alone, separated by commas")
    parser.add_argument("--wheels", action="store_true", help="what has to be brought")
    parser.add_argument("--task", help=argparse.SUPPRESS)  # in the process of a task
    given = parser.parse_args()
    if given.wheels:
        return print_wheels()
    wrong = [
        name for name in (given.tasks or "").split(",") if name not in (*TASKS, "")
    ]
    if wrong:
        parser.error(f"no task {wrong[0]}; there are: {', '.join(TASKS)}")
    if given.task:
        return work(given)
    return run_slice(given)


def print_wheels() -> int:
    """Print the wheels that this machine lacks, and how to fetch them elsewhere."""
    lacking = [name for module, name in WHEELS.items() if not _is_there(module)]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    print("\n".join(lacking) or "nothing is missing")
    if lacking:
        print(
            f"\npip download --no-deps --only-binary=:all: --python-version {version} "
            f"--dest wheels {' '.join(lacking)}\n"
            "pip install --no-index --no-deps wheels/*.whl && "
            "pip install --no-index --no-deps --no-build-isolation -e ."
        )
    return 1 if lacking else 0


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run_slice(given: argparse.Namespace) -> int:
    """Run tasks until the slice is over, and archive what there is.

    Returns:
        0 if every task has a result, 75 (try again) if some are left.
    """
    until = time.monotonic() + given.slice
    output: Path = given.output
    if given.archive and not output.exists():
        _unpack(given.archive, output)
    output.mkdir(parents=True, exist_ok=True)
    names = [n for n in TASKS if not given.tasks or n in given.tasks.split(",")]
    for name in names:
        left = until - time.monotonic()
        if _result(output, name).exists():
            continue
        if left < min(LEAST, given.slice / 4):
            break
        print(f"{name}: {left:.0f} s left in this slice", flush=True)
        _run_task(given, name, left)
    _archive(output)
    open_ = [name for name in names if not _result(output, name).exists()]
    print(f"{len(names) - len(open_)} of {len(names)} tasks are done", flush=True)
    if open_:
        print(f"left: {', '.join(open_)}; the same command goes on", flush=True)
    return 75 if open_ else 0


def _result(output: Path, name: str) -> Path:
    return output / "tasks" / f"{name}.json"


def _run_task(given: argparse.Namespace, name: str, seconds: float) -> None:
    """Run a task in a process of its own; end it when the slice is over."""
    command = [sys.executable, str(Path(__file__)), str(given.output), "--task", name]
    command += ["--slice", str(max(1.0, seconds - 10))]
    command += ["--toy"] * given.toy
    command += ["--data", str(given.data)] if given.data else []
    log = given.output / "logs" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the group that was started here
            process.wait()
    if not _result(given.output, name).exists():
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        print(f"{name}: no result yet\n  " + "\n  ".join(tail), flush=True)


def work(given: argparse.Namespace) -> int:
    """Do one task in this process, and write its result where it is complete."""
    if given.data:
        os.environ["DCBENCH_DATA"] = str(given.data.resolve())
    began = time.time()
    made = TASKS[given.task](given.output.resolve(), given.toy, given.slice)
    if made is None:  # more is left to do in the next slice
        return 75
    made |= {"task": given.task, "began": began, "seconds": time.time() - began}
    path = _result(given.output, given.task)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(made, indent=1), encoding="utf-8")
    fresh.replace(path)
    return 0


def _archive(output: Path) -> None:
    """Write everything but large checkpoints to OUTPUT.tar.gz, which is replaced."""
    path = output.parent / f"{output.name}.tar.gz"
    fresh, left_out = path.with_suffix(".new"), []
    with tarfile.open(fresh, "w:gz") as tar:
        for file in sorted(output.rglob("*")):
            if not file.is_file() or file.suffix in (".lock", ".new"):
                continue
            if file.stat().st_size > LARGEST:
                left_out.append(file.relative_to(output).as_posix())
                continue
            tar.add(file, file.relative_to(output.parent).as_posix())
        text = json.dumps(left_out).encode()
        entry = tarfile.TarInfo(f"{output.name}/left_out.json")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    fresh.replace(path)


def _unpack(archive: Path, output: Path) -> None:
    """Unpack an archive, whatever its folder was called."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            member.name = str(Path(*Path(member.name).parts[1:]))
            tar.extract(member, output, filter="data")


if __name__ == "__main__":
    raise SystemExit(main())
