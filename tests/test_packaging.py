"""A wheel and a source archive carry everything, and work away from the tree."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
PLACES = {
    "dcbench_bacon": ("**/*.py", "*.toml", "*.csv", "py.typed"),
    "methods": ("*.py", "*.toml"),
    "datasets": ("*.py", "*.toml"),
}
pytestmark = pytest.mark.slow


def sources() -> list[Path]:
    """The files that make the package, from the root of the tree."""
    return sorted(
        path.relative_to(TREE)
        for folder, patterns in PLACES.items()
        for pattern in patterns
        for path in (TREE / folder).glob(pattern)
    )


def installed(source: Path) -> str:
    """Where a file of the tree lies in the package."""
    inside = source.parts[0] in ("methods", "datasets")
    return f"dcbench_bacon/{source}" if inside else str(source)


def call(*arguments: object, cwd: Path, **environment: str) -> str:
    """Runs Python; its output."""
    done = subprocess.run(
        [sys.executable, *(str(argument) for argument in arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive of a copy of the tree, and the wheel built from it."""
    copy = tmp_path_factory.mktemp("tree")
    extra = [Path(name) for name in ("pyproject.toml", "README.md", "LICENSE")]
    for name in [*sources(), *(name for name in extra if (TREE / name).exists())]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((TREE / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    # The wheel is built from the source archive, which must therefore be whole.
    call("-P", "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=out)
    (archive,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return archive, wheel


def test_the_wheel_holds_the_tree(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert names == {installed(source) for source in sources()}
        for source in sources():
            assert wheel.read(installed(source)) == (TREE / source).read_bytes()
        texts = [name for name in wheel.namelist() if name.endswith("LICENSE")]
        assert len(texts) == 1


def test_the_source_archive_holds_the_tree(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = {str(source) for source in sources()} - names
    assert not missing
    assert {"pyproject.toml", "LICENSE"} <= names


def test_the_wheel_works_elsewhere(archives: tuple[Path, Path], tmp_path: Path) -> None:
    place, empty = tmp_path / "place", tmp_path / "empty"
    empty.mkdir()
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    call(*pip, "--target", place, archives[1], cwd=empty)
    # Without `site`, the development install in this environment is out of sight.
    paths = [str(place), *(path for path in sys.path if path.endswith("-packages"))]
    code = (
        "import dcbench_bacon.methods, dcbench_bacon.datasets, sys\n"
        "from dcbench_bacon.cli import main\n"
        "print(*dcbench_bacon.methods.__path__, *dcbench_bacon.datasets.__path__)\n"
        "main(sys.argv[1:])"
    )

    def listed(*arguments: str) -> tuple[str, list[str]]:
        everything = ("-S", "-P", "-c", code, *arguments)
        joined = os.pathsep.join(paths)
        first, *lines = call(*everything, cwd=empty, PYTHONPATH=joined).splitlines()
        return first, lines

    for kind in ("methods", "datasets"):
        where, lines = listed("list", kind)
        package = place / "dcbench_bacon"
        assert where == f"{package / 'methods'} {package / 'datasets'}"
        names = [line.split()[0].replace("+", "_") for line in lines]
        assert names == sorted(p.stem for p in (TREE / kind).glob("[!_]*.py"))
    assert "steps" in "".join(listed("show", "bacon", "cifar10", "10")[1])
    assert listed("check")[1][-1].endswith(" 0 problems")
    script = place / "bin" / "dcbench"
    assert os.access(script, os.X_OK)
    assert not list(empty.iterdir())
