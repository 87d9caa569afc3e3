"""Pictures of sets side by side, from a results folder or from files."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dcbench_bacon.cli.results.reports import chosen, readable, say_none
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import DataError, UsageError, guess
from dcbench_bacon.exchange import adopt
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.pictures.figure import Choice, Shown, draw, name_above
from dcbench_bacon.exchange.pictures.of_results import kept
from dcbench_bacon.exchange.pictures.opened import facts_in, unwhitened
from dcbench_bacon.recipes.digests import distillation_digest
from dcbench_bacon.reporting.figures.figure_files import slug
from dcbench_bacon.reporting.figures.points import (
    done,
    named_in,
    of_evaluation,
    overridden,
)
from dcbench_bacon.reporting.html.details import as_typed
from dcbench_bacon.reporting.numbers import longform
from dcbench_bacon.runtime.disk.files import write_atomically
from dcbench_bacon.schema import DatasetInfo, Record
from dcbench_bacon.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How sets are drawn.

    Attributes:
        format: ``png``, ``svg`` or ``pdf``.
        decode: whether partitioned images are cut apart first.
        classes: how many classes, ``all``, or their names separated by commas; None for
            as many as fit a page.
        images: the most images per class and set; None for as many as fit a page.
        stated: what the user states about files.
        data_root: the folder of data sets; None for the default one.
    """

    format: str
    decode: bool
    classes: str | None
    images: int | None
    stated: ReadingOptions
    data_root: Path | None

    def shown(
        self, name: str, path: Path, synthetic: SyntheticSet, info: DatasetInfo
    ) -> Shown:
        """Return a set as it is drawn; a whitened one stays so without its data set."""
        try:
            synthetic = unwhitened(
                path, synthetic, info, dataset=self.stated.dataset, root=self.data_root
            )
        except (DataError, UsageError) as error:
            logger.warning("%s is shown whitened: %s", path, error)
        return Shown(name, synthetic.decode() if self.decode else synthetic, info)

    def write(self, shown: Sequence[Shown], path: Path) -> Path:
        """Write a figure, and return its file.

        Raises:
            OutputError: the file cannot be written.
            UsageError: there are too many images, or no such classes.
        """
        classes = classes_named(self.classes, shown[0].info)
        content = draw(shown, Choice(classes, self.images), self.format)
        write_atomically(path, content)
        return path


def of_folder(
    output: Path, presets: tuple[str, ...], look: Look, **given: Any
) -> list[Path]:
    """Draw the sets of a results folder, and return the files.

    Args:
        output: the results folder; the figures go to ``figures`` in it.
        presets: the presets whose records are used.
        look: how sets are drawn.
        given: ``methods``, ``datasets`` and ``ipc`` that are shown; None for all.

    Returns:
        The files: one per data set, images per class and preset. Of several seeds the
        lowest is shown. A warning states why there are none.
    """
    store = Store(output)
    records = chosen(readable(store.records), **given)
    finished = [record for record in done(records, presets) if record.cell.ipc]
    named = named_in(finished)
    paths = []
    for name, group in _figures(finished):
        shown = []
        for drawn in kept(store, map(as_typed, group)):
            changes = overridden(drawn.record, *of_evaluation(drawn.record))
            method = named(drawn.record.name or drawn.record.cell.method)
            label = f"{method}, {changes}" if changes else method
            shown.append(look.shown(label, drawn.path, drawn.synthetic, drawn.info))
        if shown:
            file = f"{slug(name)}.{look.format}"
            paths.append(look.write(shown, output / "figures" / file))
    if not finished:
        say_none(output / "records", records, presets)
    elif not paths:
        logger.warning(
            "%s has none of these sets; sets of other tools are drawn from their "
            "files: dcbench plot images FILE",
            output / "synthetic",
        )
    return paths


def _figures(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """Return the name and the records of each figure, one record per recipe.

    Recipes whose sets have the same content are shown once.
    """
    place = ["dataset", "ipc", "preset"]
    columns = [*place, "method", "overrides", "seed", "digest"]
    rows = []
    for number, record in enumerate(records):
        cell, digest = record.cell, distillation_digest(record.recipe)
        changes = overridden(record, *of_evaluation(record))
        facts = (cell.dataset, cell.ipc, record.recipe.preset, cell.method, changes)
        content = record.synthetic_sha256 or digest
        rows.append((*facts, cell.seed, digest, content, number))
    frame = pd.DataFrame(rows, columns=[*columns, "content", "record"])
    frame = longform.ordered(frame, columns)
    frame = frame.drop_duplicates([*place, "method", "digest"])
    frame = frame.drop_duplicates([*place, "method", "content"])
    figures = []
    for key, group in frame.groupby(place, sort=False):
        name = "images-{}-ipc{}-{}".format(*tuple(key))
        figures.append((name, [records[number] for number in group["record"]]))
    return figures


def of_files(files: Iterable[Path], output: Path, look: Look) -> list[Path]:
    """Draw the sets in files, and return the figures' files: one per data set.

    Args:
        files: files of sets, dcbench's own or of other tools, in the order to draw.
        output: the results folder; the figures go to ``figures`` in it.
        look: how sets are drawn.

    Raises:
        DataError: a file cannot be read, or does not say what it was made from.
        UsageError: an option is missing or does not fit.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Shown]] = {}
    told: set[Any] = set()  # guesses that were said
    for path in files:
        for stated in adopt.every_set(path, look.stated):
            synthetic = adopt.read(path, stated, look.data_root, told)
            info = facts_in(path, synthetic)
            name = name_above(synthetic, path.name)
            if stated.index is not None and look.stated.index == "all":
                name += f" [{stated.index}]"
            key = (info.name, info.class_names)
            shown = look.shown(name, path, synthetic, info)
            groups.setdefault(key, []).append(shown)
    names = [slug(f"images-{dataset}") for dataset, _ in groups]
    return [
        look.write(shown, output / "figures" / f"{_free(names, number)}.{look.format}")
        for number, shown in enumerate(groups.values())
    ]


def _free(names: Sequence[str], number: int) -> str:
    """Return a name that no earlier figure has."""
    before = names[:number].count(names[number])
    return f"{names[number]}-{before + 1}" if before else names[number]


def classes_named(asked: str | None, info: DatasetInfo) -> tuple[int, ...] | None:
    """Return the classes that the value of ``--show-classes`` means.

    Args:
        asked: how many, ``all``, or names separated by commas; None for no value.
        info: the facts of the data set.

    Raises:
        UsageError: the data set has no such class.
    """
    if asked is None:
        return None
    if asked == "all":
        return tuple(range(info.classes))
    if asked.isdecimal():
        return tuple(range(max(1, min(int(asked), info.classes))))
    known = {name.strip().lower(): label for label, name in enumerate(info.class_names)}
    labels = []
    for name in asked.split(","):
        spelling = name.strip().lower()
        if spelling not in known:
            raise UsageError(
                f"--show-classes {name.strip()}: {info.title} has no such class."
                f"{guess(spelling, known)} Give names of its classes, a number, or all"
            )
        labels.append(known[spelling])
    return tuple(labels)
