"""Check everything that must hold of a checkout: one session for each kind of check.

The sessions use the environment in which nox runs, so that PyTorch is installed once;
``nox -s install`` puts all tools there. ``.ci/run`` makes a fresh environment, installs
into it and runs all sessions. ``nox -s lint`` runs one of them, and what follows ``--``
in ``nox -s tests -- -m "not slow"`` goes to pytest.
"""

import re
import shlex
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests", "demo", "docs", "archives"]


def readme(command: str) -> tuple[list[str], list[str]]:
    """Return the README's line ``pip install ... && COMMAND`` as its two commands."""
    text = Path("README.md").read_text(encoding="utf-8")
    line = re.search(rf"^(pip install .+) && ({command})$", text, re.M)
    if line is None:
        raise ValueError(f"README.md has no line 'pip install ... && {command}'")
    install, run = map(shlex.split, line.groups())
    return install, run


def remove_old_builds() -> None:
    """Delete what setuptools keeps in ``build/lib``, for it would be packed again."""
    shutil.rmtree(Path("build", "lib"), ignore_errors=True)


def new_environment(session: nox.Session, folder: Path) -> Path:
    """Make an environment that borrows the dependencies, and nothing else.

    Returns:
        The folder of its programs.
    """
    session.run("python", "-m", "venv", str(folder))
    programs = folder / "bin"
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    here = "import sys; print(*(p for p in sys.path if p.endswith('-packages')))"
    place = session.run(str(programs / "python"), "-c", purelib, silent=True)
    borrowed = session.run("python", "-c", here, silent=True)
    # A folder named in a .pth file has its own .pth files ignored: the editable install
    # of this tree stays out of sight.
    path = Path(place.strip(), "dependencies.pth")
    path.write_text("\n".join(borrowed.split()), encoding="utf-8")
    return programs


@nox.session
def install(session: nox.Session) -> None:
    """Install dcbench as the README has it, then the tools of the other sessions."""
    session.run(*readme("pytest")[0])
    session.run("pip", "install", "-e", ".[dev]")


@nox.session
def lint(session: nox.Session) -> None:
    """Make sure that style and format are ruff's, and that imports go one way."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Make sure that mypy finds no wrong type."""
    # Checkers do not follow an editable install, so they get an ordinary one.
    remove_old_builds()
    types = Path("build", "types")
    shutil.rmtree(types, ignore_errors=True)
    session.run("pip", "install", "--no-deps", "--target", str(types), ".")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the README's ``pytest`` in two processes of one thread each."""
    parallel = {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": "-n 2 --dist worksteal"}
    session.run(*readme("pytest")[1], *session.posargs, env=parallel)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the README's demo in an environment and an empty folder of its own."""
    install, run = readme("dcbench run")
    with TemporaryDirectory() as work:
        programs = new_environment(session, Path(work, "environment"))
        remove_old_builds()
        session.run(str(programs / install[0]), *install[1:])
        empty = Path(work, "empty")
        empty.mkdir()
        with session.chdir(empty):
            session.run(str(programs / run[0]), *run[1:])


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a broken link or reference is an error."""
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    with TemporaryDirectory() as work:
        session.run("mkdocs", "build", "-q", "--strict", "-d", work, env=quiet)


@nox.session
def archives(session: nox.Session) -> None:
    """Build wheel and source archive, check both and run what each installs."""
    listed = {kind: list_names(session, "dcbench", kind) for kind in PLUGINS}
    with TemporaryDirectory() as work:
        dist = Path(work, "dist")
        remove_old_builds()
        session.run("pyproject-build", "--outdir", str(dist), ".", silent=True)
        built = sorted(dist.iterdir())
        session.run("twine", "check", "--strict", *map(str, built))
        for number, archive in enumerate(built):
            folder = Path(work, f"environment-{number}")
            programs, empty = new_environment(session, folder), folder / "empty"
            empty.mkdir()
            with session.chdir(empty):
                session.run(str(programs / "pip"), "install", "--no-deps", str(archive))
                dcbench = str(programs / "dcbench")
                for kind, names in listed.items():
                    if list_names(session, dcbench, kind) != names:
                        session.error(f"{archive.name} has other {kind} than the tree")
                session.run(dcbench, "check")
                where = "import dcbench_bacon; print(dcbench_bacon.__file__)"
                place = session.run(str(programs / "python"), "-c", where, silent=True)
                if not place.startswith(str(folder)):
                    session.error(f"{archive.name} was not used, but {place}")


PLUGINS = ("methods", "datasets")


def list_names(session: nox.Session, dcbench: str, kind: str) -> str:
    """Return what ``dcbench list`` prints of a kind."""
    return str(session.run(dcbench, "list", kind, silent=True))
