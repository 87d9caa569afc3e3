"""What the name of a file tells: the method that made a set, and what to call it."""

import re
from pathlib import Path

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.content import Guess
from dcbench_bacon.exchange.formats import Claims
from dcbench_bacon.exchange.reading import nearby_names
from dcbench_bacon.registry import METHODS

# Methods whose files are read, by the words in their names; those of many words first.
_METHODS = {
    **{"datadam": "datadam", "bacon": "bacon", "idm": "idm", "dsa": "dsa"},
    **{"datm": "datm", "tesla": "tesla", "mtt": "mtt", "dream": "dream", "idc": "idc"},
    **{"kip": "kip", "sre2l": "sre2l", "rded": "rded", "kmeans": "k_means"},
    **{"herding": "herding", "random": "random", "dc": "dc", "dm": "dm"},
}
_AMBIGUOUS = ("dm",)  # what IDM and BACON call their files by default
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


def method_of(path: Path, claims: Claims) -> tuple[str | None, Guess | None]:
    """Return the method that made a set, and the guess if nobody stated it."""
    if claims.as_method is not None:
        return claims.as_method, None
    for name in nearby_names(path):
        words = re.split(r"[^a-z0-9]+", name.lower().replace("k-means", "kmeans"))
        for word, method in _METHODS.items():
            if word in words:
                doubt = "doubtful" if method in _AMBIGUOUS else "likely"
                return method, Guess(method, f"from the name {name}", doubt)
    return None, None
