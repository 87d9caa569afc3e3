"""The method whose evaluation is used for a saved set.

In the papers' code, the augmentation and the length of the evaluation depend on the
method and the data set, so a set is evaluated as its method would evaluate it. The
method is the one that the user names; otherwise that of the cell in dcbench's own file;
otherwise the one that the name or the format of another tool's file indicates.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.plugins import METHODS, canonical
from dcbench_bacon.recipes.overlay import Judged
from dcbench_bacon.schema import Cell

_ALIASES = {"tm": "mtt"}  # DC-BENCH's name for trajectory matching
_UNMADE = ("whole",)  # methods that make no synthetic set


class JudgedAs(NamedTuple):
    """A method whose evaluation is used, and the reason.

    Attributes:
        method: name of the method.
        reason: why this method was chosen, in a few words.
    """

    method: str
    reason: str


def method_of(
    cell: Cell, synthetic: SyntheticSet, named: str | None
) -> JudgedAs | None:
    """Return the method whose evaluation is used for a set; None if it is unknown.

    Args:
        cell: the cell that the set was made for.
        synthetic: the set, whose provenance names the files it was read from.
        named: the method that the user names with ``--as``.
    """
    if named is not None:
        return JudgedAs(METHODS.resolve(named), "--as")
    if cell.method in METHODS.names():
        return JudgedAs(cell.method, "what made it")
    source: dict[str, Any] = synthetic.provenance.get("source") or {}
    if source.get("format") == "best":
        return JudgedAs("idm", "its format is that of IDM and BACON")
    method = _named(source.get("files", ()))
    if method == "dm" and synthetic.partition > 1:
        # The code of IDM and BACON names its files after DM by default.
        return JudgedAs("idm", "its name says DM, its four parts IDM or BACON")
    return None if method is None else JudgedAs(method, "its name")


def _named(files: Sequence[str]) -> str | None:
    """Return the one method in the names of files; None if they name several."""
    known = {canonical(name): name for name in METHODS.names() if name not in _UNMADE}
    methods = set()
    for file in files:
        words = [word for word in re.split(r"[^a-z0-9]+", file.lower()) if word]
        words = [_ALIASES.get(word, word) for word in words]
        # Two words may be one method, such as bacon_idm; DC-BENCH is no method.
        pairs = list(zip(words, [*words[1:], ""], strict=True))
        two = {f"{one}_{other}" for one, other in pairs} & set(known)
        single = {one for one, other in pairs if other != "bench"} & set(known)
        parts = {part for name in two for part in name.split("_")}
        methods |= two | (single - parts)
    return known[methods.pop()] if len(methods) == 1 else None


def describe(known: JudgedAs | None, judged: Judged | None) -> str:
    """Return a line that states how a set is judged and what that changes."""
    if known is None or judged is None:
        return (
            "judged by protocol dc alone; --as METHOD judges it as that method does, "
            "which may use another augmentation"
        )
    changes = ", ".join(filter(None, (_shown(judged, key) for key in judged.changes)))
    return (
        f"judged as {known.method.upper()} ({known.reason}): "
        f"{changes or 'with no change to protocol dc'}; --as METHOD for another"
    )


def _shown(judged: Judged, key: str) -> str:
    """Return a key that a method changes, and its value as a user would type it."""
    value = judged.changes[key]
    if key == "exemptions":
        trained = [e for e in value if e.architecture in judged.protocol.architectures]
        return ", ".join(
            f"{exemption.architecture} with augmentation {exemption.augmentation}"
            for exemption in trained
            if exemption.augmentation
        )
    if isinstance(value, tuple):
        return f"{key} {','.join(map(str, value))}"
    return f"{key} {str(value).lower() if isinstance(value, bool) else value}"
