"""What tables call a set of another tool."""

import re
from pathlib import Path

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.plugins import METHODS

_GENERIC = re.compile(r"(images|data|acc|results|labels)(_|\.|$)")
LONGEST = 100


def name_of(path: Path, claims: Claims) -> str:
    """Return what tables call a set: ``--name``, or the name of its file.

    A name that every set of its format has is preceded by its folder's.

    Raises:
        UsageError: ``--name`` is that of a method.
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
