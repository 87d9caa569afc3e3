"""Names in tables for sets of other tools."""

import re
from pathlib import Path

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.reporting.literature import published
from dcbench_bacon.runtime.disk.files import printable

_GENERIC = re.compile(r"(images|data|acc|results|labels)(_|\.|$)")
LONGEST = 100


def name_of(path: Path, stated: ReadingOptions) -> str:
    """Return the name of a set in tables: ``--name``, or the name of its file.

    A file name that all sets of the format share, or that is the name of a method, is
    preceded by that of its folder.

    Raises:
        UsageError: ``--name`` is the name of a method, or blank.
    """
    if stated.name is not None:
        if _is_method(stated.name) or not stated.name.strip():
            raise UsageError(
                f"--name {stated.name}: tables would take the set for one that dcbench "
                "made, or hold a published number of that method against it; choose a "
                "name that is no method's"
            )
        return printable(stated.name)[:LONGEST]
    absolute = path.absolute()
    generic = not path.is_dir() and _GENERIC.match(path.name)
    if generic or _is_method(absolute.name):
        return printable(f"{absolute.parent.name}/{absolute.name}")[-LONGEST:]
    return printable(absolute.name)[-LONGEST:]


def _is_method(name: str) -> bool:
    """Return whether tables know a method, with or without a module, by this name."""
    spelling = name.strip().replace("-", "_")
    methods = {method.replace("-", "_") for method in METHODS.names()}
    return spelling in methods | {row.method for row in published.rows()}
