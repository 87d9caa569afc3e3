"""The checks, each by itself: ``nox -s lint``, ``types``, ``tests``, ``wheel``."""

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format, by ruff."""
    session.install("ruff>=0.11")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, by mypy, which needs an ordinary install beside the editable one."""
    session.install("-e", ".[dev]")
    # What setuptools leaves in build/lib, files since deleted included, it packs again.
    for folder in ("lib", "types"):
        shutil.rmtree(Path("build", folder), ignore_errors=True)
    session.install("--no-deps", "--target", "build/types", ".")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite; what follows ``--`` goes to pytest."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Builds the archives, installs the wheel and runs it from an empty folder."""
    session.install("build")
    shutil.rmtree(Path("build", "lib"), ignore_errors=True)
    dist = Path(session.create_tmp(), "dist")
    shutil.rmtree(dist, ignore_errors=True)
    session.run("pyproject-build", "--outdir", str(dist))
    (built,) = dist.glob("*.whl")
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(str(built))
    empty = Path(session.create_tmp(), "empty")
    empty.mkdir(exist_ok=True)
    with session.chdir(empty):
        session.run("dcbench", "list", "methods")
        session.run("dcbench", "check")
