"""The files of data sets: found in several folders, opened, and told when damaged."""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dcbench_bacon.data.files.mistaken_files import mistaken
from dcbench_bacon.errors import DataError, UnsuitableImageError, reason_of


class MissingDataError(DataError):
    """A file of a data set is not on disk."""


def locate(name: str, root: Path, path: str, elsewhere: Sequence[Path] = ()) -> Path:
    """Return the path of a file, with or without ``.gz``, in one of several folders.

    Args:
        name: the name of the data set, for the message.
        root: the first folder to search.
        path: the path of the file under ``root``.
        elsewhere: further folders, which are searched for the name of the file alone.

    Raises:
        MissingDataError: the file is in none of the folders.
    """
    places = [root / path, *(folder / Path(path).name for folder in elsewhere)]
    for place in places:
        for candidate in (place, place.with_name(place.name + ".gz")):
            if candidate.is_file():
                return candidate
    raise MissingDataError(
        f"{name}: {path} not found; run `dcbench data get {name}`, or put it under "
        f"{root} (--data-root or DCBENCH_DATA)"
    )


@contextmanager
def opened(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a file, decompressed if its name ends in ``.gz``.

    Raises:
        DataError: the file is damaged or cannot be read; the message names it.
    """
    with damaged(path), Path(path).open("rb") as file:
        if Path(path).suffix != ".gz":
            yield file
            return
        with gzip.open(file) as unpacked:
            yield unpacked  # type: ignore[misc]


@contextmanager
def damaged(path: Path | str) -> Iterator[None]:
    """Turn any error of a decoder into a ``DataError`` that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        if isinstance(error, UnsuitableImageError):
            raise DataError(f"{path}: {error}") from error
        what = None if Path(path).suffix == ".gz" else mistaken(Path(path))
        if what:
            raise DataError(f"{path} {what}") from error
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        raise DataError(
            f"{path} is damaged or not of the expected format ({reason_of(error)}); "
            "replace it by a good copy"
        ) from error
