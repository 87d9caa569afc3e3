"""The caches: folders of results that dcbench keeps and can make again."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dcbench_bacon.errors import OutputError, UsageError, unknown
from dcbench_bacon.runtime.disk.files import cache_folder, temporary_name


class Cache(NamedTuple):
    """One kind of kept results.

    Attributes:
        name: the name that users type, and that of its folder.
        title: what it contains.
        variable: the environment variable that moves it elsewhere.
    """

    name: str
    title: str
    variable: str = ""

    @property
    def folder(self) -> Path:
        """The folder, which may not exist."""
        chosen = os.environ.get(self.variable) if self.variable else None
        return Path(chosen).expanduser() if chosen else cache_folder(self.name)

    @property
    def size(self) -> int:
        """The bytes of all files in the folder."""
        return sum(_sizes(self.folder))

    def clear(self) -> None:
        """Remove the folder and what is in it.

        The folder is renamed first, so that no other process finds half of it.

        Raises:
            OutputError: it cannot be removed.
            UsageError: it was moved elsewhere by its variable, where other things of
                the user may lie, or it is a link.
        """
        folder = self.folder
        if folder != cache_folder(self.name) or folder.is_symlink():
            raise UsageError(
                f"{folder} may hold other things, as {self.variable or 'a link'} names "
                "it; remove it by other means"
            )
        away = temporary_name(folder)
        try:
            folder.rename(away)
            shutil.rmtree(away)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError.of(folder, error) from error


DECODED = Cache("decoded", "decoded data sets")
EXPERTS = Cache(
    "experts", "trained networks that trajectories are matched with", "DCBENCH_EXPERTS"
)
WHITENING = Cache("whitening", "whitening matrices", "DCBENCH_WHITENING")
COMPILED = Cache("compiled", "compiled code", "TORCHINDUCTOR_CACHE_DIR")
CACHES = (DECODED, EXPERTS, WHITENING, COMPILED)


def cache_named(name: str) -> Cache:
    """Return the cache of a name.

    Raises:
        UsageError: there is none.
    """
    for cache in CACHES:
        if cache.name == name:
            return cache
    raise unknown("cache", name, [*(cache.name for cache in CACHES), "all"])


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the size of each file in a folder; links are not followed."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(Path(entry.path))
        else:
            try:
                yield entry.stat(follow_symlinks=False).st_size
            except OSError:  # another process has removed it
                continue
