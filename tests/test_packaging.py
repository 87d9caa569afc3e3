"""A wheel and a source archive carry everything, and work away from the tree."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import dcbench_bacon

TREE = Path(__file__).resolve().parents[1]
PACKAGES = ("dcbench_bacon", "methods", "datasets")
BUILD = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> list[Path]:
    """Return the files that make the package, relative to the root of the tree."""
    return sorted(
        path.relative_to(TREE)
        for folder in PACKAGES
        for path in (TREE / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    )


def installed(source: Path) -> str:
    """Return where a file of the tree lies in the installed package."""
    inside = source.parts[0] in ("methods", "datasets")
    return f"dcbench_bacon/{source}" if inside else str(source)


def copy_tree(place: Path) -> Path:
    """Copy what a build needs into a folder, and return it."""
    for name in (*sources(), *map(Path, BUILD)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / name, place / name)
    return place


def call(*arguments: object, cwd: Path, **environment: str) -> str:
    """Run Python and return its output."""
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
    copy = copy_tree(tmp_path_factory.mktemp("tree"))
    out = tmp_path_factory.mktemp("dist")
    # The wheel is built from the source archive, which must therefore be whole.
    call("-P", "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=out)
    (archive,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return archive, wheel


@pytest.mark.slow
def test_a_new_package_is_found_with_its_data(tmp_path: Path) -> None:
    copy = copy_tree(tmp_path / "tree")
    added = [Path("dcbench_bacon", "added", *name) for name in ([], ["inner"])]
    for package in added:
        (copy / package).mkdir()
        (copy / package / "__init__.py").touch()
        (copy / package / "page.html").write_text("data")
    out = tmp_path / "out"
    call("setup.py", "-q", "build_py", "--build-lib", out, cwd=copy)
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    new = {f"{package}/{n}" for package in added for n in ("__init__.py", "page.html")}
    assert names == {installed(source) for source in sources()} | new


def test_the_version_is_written_once() -> None:
    version = PROJECT["project"]["version"]
    assert dcbench_bacon.__version__ == version
    files = ("pyproject.toml", "setup.py", "CITATION.cff", "dcbench_bacon/__init__.py")
    texts = [(TREE / name).read_text(encoding="utf-8") for name in files]
    assert [version in text for text in texts] == [True, False, False, False]
    changes = (TREE / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", changes, re.M)
    assert version in headings[:2]


def test_the_citation_names_the_holder_of_the_licence() -> None:
    licence = (TREE / "LICENSE").read_text(encoding="utf-8")
    holder = re.search(r"Copyright \(c\) \d+ (.+)", licence)
    assert holder
    citation = (TREE / "CITATION.cff").read_text(encoding="utf-8")
    assert f'name: "{holder[1]}"' in citation
    assert PROJECT["project"]["authors"] == [{"name": holder[1]}]
    assert "://" not in citation


@pytest.mark.slow
def test_the_wheel_holds_the_tree(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert names == {installed(source) for source in sources()}
        for source in sources():
            assert wheel.read(installed(source)) == (TREE / source).read_bytes()
        texts = [name for name in wheel.namelist() if name.endswith("LICENSE")]
        assert len(texts) == 1


@pytest.mark.slow
def test_the_source_archive_holds_the_tree(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = {str(source) for source in sources()} - names
    assert not missing
    assert set(BUILD) <= names


@pytest.mark.slow
def test_the_wheel_works_elsewhere(archives: tuple[Path, Path], tmp_path: Path) -> None:
    place, empty = tmp_path / "place", tmp_path / "empty"
    empty.mkdir()
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    call(*pip, "--target", place, archives[1], cwd=empty)
    # Without `site`, the development install in this environment is out of sight.
    paths = [str(place), *(path for path in sys.path if path.endswith("-packages"))]
    module, _, function = PROJECT["project"]["scripts"]["dcbench"].partition(":")
    code = (
        "import dcbench_bacon.methods, dcbench_bacon.datasets, sys\n"
        f"from {module} import {function}\n"
        "print(*dcbench_bacon.methods.__path__, *dcbench_bacon.datasets.__path__)\n"
        f"{function}(sys.argv[1:])"
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
