"""Class folders and their files: what counts, and in which order."""

from collections.abc import Iterable
from pathlib import Path

# What operating systems, cameras and storage devices leave in folders.
_LEFT_BEHIND = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle"),
    *("$recycle.bin", "system volume information", "lost+found", "icon\r"),
}


def left_behind(name: str) -> bool:
    """Return whether a name is hidden or one that other programs leave in folders."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def visible_folders(inside: Iterable[Path]) -> list[Path]:
    """Return the visible folders sorted by name, or by value if all are numbers.

    Sorted by value, '10' comes after '9', and the labels of folders named 0 to 11 are
    their names.
    """
    folders = [path for path in inside if path.is_dir() and not left_behind(path.name)]
    if all(path.name.isascii() and path.name.isdecimal() for path in folders):
        return sorted(folders, key=lambda path: (int(path.name), path.name))
    return sorted(folders)
