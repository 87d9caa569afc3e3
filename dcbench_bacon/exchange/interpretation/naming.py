"""Names in tables for sets of other tools."""

import re
from pathlib import Path

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.plugins import METHODS

_GENERIC = re.compile(r"(images|data|acc|results|labels)(_|\.|$)")
LONGEST = 100


def name_of(path: Path, claims: Claims) -> str:
    """Return the name of a set in tables: ``--name``, or the name of its file.

    A file name that all sets of the format share is preceded by that of its folder.

    Raises:
        UsageError: ``--name`` is the name of a method, or blank.
    """
    if claims.name is not None:
        if claims.name in METHODS.names() or not claims.name.strip():
            raise UsageError(
                f"--name {claims.name}: tables would take the set for one that dcbench "
                "made; choose a name that is no method's"
            )
        return claims.name[:LONGEST]
    absolute = path.absolute()
    generic = not path.is_dir() and _GENERIC.match(path.name)
    if generic or absolute.name in METHODS.names():
        return f"{absolute.parent.name}/{absolute.name}"[-LONGEST:]
    return absolute.name[-LONGEST:]
