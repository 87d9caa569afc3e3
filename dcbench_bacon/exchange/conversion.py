"""Conversion of a synthetic set from one file format to another."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import OutputError, UsageError
from dcbench_bacon.exchange import adopt, writers
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.pictures.opened import facts_in, unwhitened
from dcbench_bacon.runtime.disk.files import temporary_name
from dcbench_bacon.schema import DatasetInfo

FOR_THE_EYE = ("folder", "picture")
_ENDINGS = {"dcbench": ".safetensors", "npz": ".npz", "picture": ".png"}
# Names in formats of several files, by depth: files at the last, folders above it. A
# folder that contains anything else is kept.
_FOLDERS = {
    "mtt": (r"(images|labels|lr)_best\.pt",),
    "dd_ranking": (r"(images|labels|lr)\.pt",),
    "folder": (r"\d+_.+", r"\d{6}\.png"),
}
_OTHERS = (".jpg", ".jpeg", ".pt", ".pkl")  # endings that promise another format


def convert_file(
    *,
    file: Path,
    to: str,
    output: Path,
    decode: bool,
    data_root: Path | None,
    stated: ReadingOptions,
    force: bool = False,
) -> str:
    """Read a set in any format and write it in another.

    In formats for people to look at, the whitening is undone, which needs the data set.

    Args:
        file: the file or folder of the set.
        to: the format to write.
        output: the file or folder to write.
        decode: whether partitioned images are cut apart first.
        data_root: the folder of data sets; None for the default one.
        stated: what the user states about the set.
        force: whether an existing output is replaced, once the new one is complete.

    Returns:
        A line for the user about what was written.

    Raises:
        UsageError: the ending of the output belongs to another format, or the output
            exists, or it is, contains or lies in what is read.
        DataError: the set cannot be read, or does not name its data set.
    """
    wanted = _ENDINGS.get(to, output.suffix)
    if output.suffix != wanted and output.suffix in (*_ENDINGS.values(), *_OTHERS):
        raise UsageError(f"--output {output}: --to {to} writes {wanted} files")
    _check_output(output, to, force=force)
    synthetic = adopt.read(file, stated, data_root)
    _check_spared(output, file, synthetic)
    info = facts_in(file, synthetic)
    if to in FOR_THE_EYE:
        synthetic = unwhitened(
            file, synthetic, info, dataset=stated.dataset, root=data_root
        )
    if decode:
        synthetic = synthetic.decode()
    if to in _FOLDERS and output.exists():
        _replace_folder(output, to, synthetic, info)
    else:
        writers.write(output, to, synthetic, info)
    count, channels, *_ = synthetic.images.shape
    shape = f"{channels}x{info.size}x{info.size}"
    partition = synthetic.partition
    note = f", {partition**2} smaller ones in each" if partition > 1 else ""
    return f"{output}: {count} images of {info.title}, {shape}{note}, as {to}"


def _check_output(output: Path, to: str, *, force: bool) -> None:
    """Make sure that nothing is overwritten without the user's consent.

    Raises:
        UsageError: the output exists without ``--force``, or it is not an output of
            this format.
    """
    if not os.path.lexists(output):
        return
    if not force:
        raise UsageError(
            f"--output {output} exists; name another, or replace it with --force"
        )
    if not output.exists():  # a link to nothing
        return
    if output.is_dir() != (to in _FOLDERS):
        kind, wanted = ("folder", "file") if output.is_dir() else ("file", "folder")
        raise UsageError(
            f"--output {output} is a {kind}, and --to {to} writes a {wanted}; name "
            "another"
        )
    if output.is_dir():
        others = [path for path in output.rglob("*") if not _is_ours(path, output, to)]
        if others:
            other = min(path.relative_to(output).as_posix() for path in others)
            raise UsageError(
                f"--output {output} contains {other}, which --to {to} does not "
                "write: it is left alone, also with --force; name another"
            )


def _is_ours(path: Path, output: Path, to: str) -> bool:
    """Return whether a format has such a file or folder at this place of its output."""
    patterns, names = _FOLDERS[to], path.relative_to(output).parts
    if len(names) > len(patterns) or path.is_symlink():
        return False
    right = path.is_file() if len(names) == len(patterns) else path.is_dir()
    return right and bool(re.fullmatch(patterns[len(names) - 1], names[-1]))


def _check_spared(output: Path, file: Path, synthetic: SyntheticSet) -> None:
    """Make sure that the files of the set that was read stay as they are.

    Raises:
        UsageError: the output is one of them, by any name or link, contains one, or
            lies in their folder of images.
    """
    read, written = file.resolve(), output.resolve()
    inside = written.is_relative_to(read) or read.is_relative_to(written)
    if inside or _ids(_files(output)) & _ids(_belonging(file, synthetic)):
        raise UsageError(
            f"--output {output} would write over {file}, which is read; name another"
        )


def _belonging(file: Path, synthetic: SyntheticSet) -> Iterable[Path]:
    """Return the files of a set; of a set in parts, all such files in the folder."""
    names = synthetic.provenance.get("source", {}).get("files", ())
    if file.is_dir() or len(names) < 2:
        return _files(file)
    return file.parent.glob(f"*{file.suffix}")


def _files(path: Path) -> Iterable[Path]:
    """Return a file, or all files of a folder."""
    return path.rglob("*") if path.is_dir() else [path]


def _ids(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Return the identities of files, which do not depend on their names."""
    statuses = (path.stat() for path in paths if path.is_file())
    return {(status.st_dev, status.st_ino) for status in statuses}


def _replace_folder(
    output: Path, to: str, synthetic: SyntheticSet, info: DatasetInfo
) -> None:
    """Put a complete new folder in the place of an old one, and remove the old one."""
    output = output.resolve()
    new, old = temporary_name(output), temporary_name(output)
    try:
        try:
            writers.write(new, to, synthetic, info, called=output)
            output.rename(old)
            new.rename(output)
        finally:  # also after Ctrl-C, between any two of these lines
            if old.exists() and not output.exists():
                old.rename(output)
            # Nothing is removed before one of the two has the name.
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError.of(output, error) from error
