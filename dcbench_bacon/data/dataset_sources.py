"""Find the module, the folder and the size that a typed name of a data set means."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import msgspec

from dcbench_bacon.data.files.source_files import locate
from dcbench_bacon.errors import UsageError
from dcbench_bacon.plugins import DATASETS, canonical
from dcbench_bacon.runtime.disk.files import user_folder
from dcbench_bacon.schema import DatasetInfo


class DatasetSource(NamedTuple):
    """The module of a data set and the folder that it reads.

    Attributes:
        kind: the name of the module, for example ``cifar10`` or ``folder``.
        module: the module.
        folder: the absolute path of the folder.
        size: the height and width of the images that the user states; None for the
            module's own choice.
    """

    kind: str
    module: ModuleType
    folder: Path
    size: int | None = None


def find(name: str, root: Path | None = None) -> DatasetSource:
    """Return the module and the folder for a typed name, without reading data.

    Args:
        name: ``NAME``; ``NAME:PATH``, or ``NAME@SIZE:PATH`` for images of a size.
        root: the folder of the files; see ``load``.

    Raises:
        UsageError: there is no such data set, or its path is missing or superfluous, or
            the size is no number of pixels.
    """
    kind, _, path = name.partition(":")
    kind, _, size = kind.partition("@")
    kind, module = DATASETS.resolve(kind), DATASETS.module(kind)
    fixed = hasattr(module, "INFO")
    if size and not hasattr(module, "files"):
        raise UsageError(f"{name}: these images have one size; write {kind}")
    typed = kind + "@SIZE" + ":PATH" * (not fixed)
    stated = size.isdecimal() and 8 <= int(size) <= 1024 and bool(path) != fixed
    if size and not stated:
        raise UsageError(f"{name}: write {typed} with a size of 8 to 1024")
    if fixed == bool(path):
        raise UsageError(f"write {kind if path else kind + ':PATH'}, not {name!r}")
    folder = Path(path) if path else root or _data_folder()
    pixels = int(size) if size else None
    return DatasetSource(kind, module, folder.expanduser().resolve(), pixels)


def info_of(source: DatasetSource) -> DatasetInfo | None:
    """Return the facts that a module states, for the size that the user states.

    Another size than the module's is part of the name: ``imagenette@64``.
    """
    info: DatasetInfo | None = getattr(source.module, "INFO", None)
    if info is None or source.size in (None, info.size):
        return info
    return msgspec.structs.replace(
        info,
        name=f"{info.name}@{source.size}",
        title=f"{info.title}, {source.size} px",
        size=source.size,
    )


def cell_name(name: str, root: Path | None = None) -> str:
    """Return the name of a data set in records, without loading the data set.

    Args:
        name: the name as typed; a data set with a path is named after its folder.
        root: the folder of the files; see ``load``.
    """
    return name_of(find(name, root))


def anywhere(name: str) -> str:
    """Return a name as typed for a process with another working directory."""
    kind, colon, path = name.partition(":")
    return f"{kind}:{Path(path).expanduser().absolute()}" if colon else kind


def name_of(source: DatasetSource) -> str:
    """Return the name for records, which is not that of a registered data set."""
    if info := info_of(source):
        return info.name
    name = str(source.module.name(source.folder))
    if canonical(name) in map(canonical, DATASETS.names()):
        name += f"-{source.kind}"  # a copy's records must not pass for the original's
    return name


def _data_folder() -> Path:
    """Return the folder of data sets, which are no cache: they may be hard to get."""
    return Path(os.environ.get("DCBENCH_DATA") or user_folder() / "data")


def sources(source: DatasetSource) -> Sequence[Path | str]:
    """Return the files that the module's ``read`` will read.

    Raises:
        DataError: a file is missing.
    """
    module, folder = source.module, source.folder
    if hasattr(module, "sources"):
        return list(module.sources(folder))
    if hasattr(module, "files"):
        return [path for files in module.files(folder) for path in files.paths()]
    elsewhere = getattr(module, "ELSEWHERE", ())
    return [locate(source.kind, folder, path, elsewhere) for path in module.FILES]
