"""Files that are often taken for data but are not: told by their first bytes."""

import re
from contextlib import suppress
from pathlib import Path

_READ = 1024  # bytes that are looked at
_UNPACK = "unpack it first, and name what was in it"
_SIGNATURES = (
    (b"\x1f\x8b", f"is compressed by gzip; {_UNPACK}"),
    (b"BZh", f"is compressed by bzip2; {_UNPACK}"),
    (b"\xfd7zXZ\x00", f"is compressed by xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"is compressed by Zstandard; {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"is a 7z archive; {_UNPACK}"),
    (b"Rar!", f"is a RAR archive; {_UNPACK}"),
    (b"\x89HDF", "is an HDF5 file; save images and labels with numpy.savez"),
    (b"MATLAB", "is a MATLAB file; save images and labels with numpy.savez"),
    (b"PAR1", "is a Parquet file; save images and labels with numpy.savez"),
    (b"%PDF", "is a PDF document, not data"),
)
_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head)\b", re.I
)
_PARTIAL = (".part", ".partial", ".crdownload", ".download", ".tmp")


def mistaken(path: Path) -> str | None:
    """Return what a file is instead of data and what to do, or None if unknown.

    Args:
        path: the file, which could not be read as data.
    """
    start = b""
    with suppress(OSError, ValueError):
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(_READ)
        if not start:
            return "is empty; copy or download it again"
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return (
            "is a pointer of Git LFS and not the file itself; get the file with "
            "`git lfs pull` in its repository"
        )
    if _PAGE.match(start):
        return (
            "is a saved web page and not the file itself; download the file by the "
            "page's link for the raw file"
        )
    if start[257:262] == b"ustar":
        return f"is a tar archive; {_UNPACK}"
    if path.suffix.lower() in _PARTIAL:
        return "is a download that did not end; download it again"
    known = [text for begin, text in _SIGNATURES if start.startswith(begin)]
    return known[0] if known else None


def is_text(start: bytes) -> bool:
    """Return whether the first bytes of a file are lines of printable text."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not just a character cut at the end
            return False
        text = start[: error.start].decode("utf-8")
    return len(text) > 1 and all(c.isprintable() or c in "\r\n\t" for c in text)
