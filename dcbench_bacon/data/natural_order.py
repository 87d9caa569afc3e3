"""The order of class folders, which is by number if all names are numbers."""

from collections.abc import Iterable
from pathlib import Path


def visible_folders(inside: Iterable[Path]) -> list[Path]:
    """Return the visible folders sorted by name, or by value if all are numbers.

    Sorted by value, '10' comes after '9', and the labels of folders named 0 to 11 are
    their names.
    """
    folders = [p for p in inside if p.is_dir() and not p.name.startswith(".")]
    if all(path.name.isascii() and path.name.isdecimal() for path in folders):
        return sorted(folders, key=lambda path: (int(path.name), path.name))
    return sorted(folders)
