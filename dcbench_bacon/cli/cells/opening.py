"""Saved sets, opened together with the data set that they are tested on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dcbench_bacon.data.dataset_sources import anywhere
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.running import run, saved_sets
from dcbench_bacon.running.failures import FileFailures
from dcbench_bacon.running.grids.datasets import Datasets


def read_anywhere(stated: ReadingOptions) -> ReadingOptions:
    """Return statements for a process with another working directory."""
    named = stated.dataset
    return replace(stated, dataset=anywhere(named) if named else named)


class ReadSet(NamedTuple):
    """A set as it was read from a file.

    Attributes:
        path: of the file.
        stated: what the user states about this set.
        synthetic: the set, on the CPU.
    """

    path: Path
    stated: ReadingOptions
    synthetic: SyntheticSet

    @property
    def source(self) -> str:
        """The data set that it is tested on, as typed or as the file names it."""
        cell: Any = self.synthetic.provenance.get("cell")
        named = str(cell.get("dataset", "")) if isinstance(cell, dict) else ""
        # A header names no folder of this machine: only --dataset does.
        return self.stated.dataset or named.partition(":")[0]


class SetReader:
    """Reads the sets of a command; each data set is loaded and whitened once.

    Args:
        stated: what the user states about the files.
        datasets: loads the data sets.
        several: whether ``--index all`` means all sets of a file.
    """

    def __init__(
        self, stated: ReadingOptions, datasets: Datasets, *, several: bool = False
    ) -> None:
        """Read nothing yet."""
        self.stated = stated
        self.datasets = datasets
        self.several = several
        self.told: set[Any] = set()  # tables that were shown

    def read_all(
        self, files: Sequence[Path], failures: FileFailures | None = None
    ) -> list[ReadSet]:
        """Read all sets, those of one data set one after another.

        Args:
            files: the files as typed; a file that is named twice is read once.
            failures: takes the errors of files; by default the first is raised.

        Raises:
            DataError: a file cannot be read, or does not fit its format.
            UsageError: an option is missing or does not fit.
        """
        read_sets: list[ReadSet] = []
        for path in dict.fromkeys(files):
            if failures is None:
                read_sets += self._read(path)
                continue
            with failures.noted(path):
                read_sets += self._read(path)
        groups = list(dict.fromkeys(read_set.source for read_set in read_sets))
        return sorted(read_sets, key=lambda read_set: _place(read_set, groups))

    def _read(self, path: Path) -> list[ReadSet]:
        """Return the sets of a file that the user has asked for."""
        every = adopt.every_set(path, self.stated) if self.several else [self.stated]
        return [self.read(path, stated) for stated in every]

    def read(self, path: Path, stated: ReadingOptions) -> ReadSet:
        """Read one set."""
        root = self.datasets.config.data_root
        return ReadSet(path, stated, adopt.read(path, stated, root, self.told))

    def is_unchanged(self, read: ReadSet) -> bool:
        """Return whether a file still contains the set that was read from it."""
        again = self.read(read.path, read.stated).synthetic
        return again.provenance == read.synthetic.provenance and (
            synthetic_file.digest(again) == synthetic_file.digest(read.synthetic)
        )

    def open(self, read: ReadSet) -> run.OpenedSet:
        """Return a set beside the data set that it is tested on.

        Raises:
            DataError: the file does not name its data set, or the data do not fit it.
        """
        synthetic = read.synthetic.to(self.datasets.config.device)
        cell, made_for = saved_sets.origin(read.path, synthetic)
        try:
            loaded = self.datasets[read.source]
        except UsageError as error:
            raise DataError(
                f"{read.path} was made from {cell.dataset}, and there is no data set "
                "of that name; name it with --dataset, or a folder with --dataset "
                "folder:PATH"
            ) from error
        return saved_sets.beside(
            read.path, synthetic, cell, made_for, loaded, self.datasets.whiten
        )


def _place(read: ReadSet, groups: list[str]) -> tuple[int, bool]:
    """Return the place of a set: by data set in the order typed, whitened ones last."""
    return groups.index(read.source), bool(read.synthetic.provenance.get("zca"))
