"""Synthetic sets made of the content of foreign files, once its meaning is settled.

What the user states counts first, then what the file or its format states, then what
its name and its values indicate (see ``interpretation.settling``). One table shows all
that was not stated, with the evidence and the option that states it. How the file was
read is part of the set's provenance and of the identity of its results.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from dcbench_bacon.data import loading
from dcbench_bacon.data.sets import synthetic_file
from dcbench_bacon.data.sets.class_counts import count
from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import FORMATS, ReadingOptions
from dcbench_bacon.exchange.interpretation import paired_classes
from dcbench_bacon.exchange.interpretation.content import Content, Guess
from dcbench_bacon.exchange.interpretation.guesses import tell
from dcbench_bacon.exchange.interpretation.naming import name_of
from dcbench_bacon.exchange.interpretation.questions import ask, interpret, unnamed
from dcbench_bacon.exchange.interpretation.recognition import guess
from dcbench_bacon.exchange.interpretation.settling import (
    OPTIONS,
    nearby_names,
)
from dcbench_bacon.exchange.interpretation.values import normalised
from dcbench_bacon.exchange.pickles.archives import damaged, sha256
from dcbench_bacon.exchange.readers import READERS, SEVERAL
from dcbench_bacon.plugins import DATASETS
from dcbench_bacon.runtime.disk.files import printable
from dcbench_bacon.schema import Cell, DatasetInfo

logger = logging.getLogger(__name__)


def read(
    path: Path,
    stated: ReadingOptions,
    root: Path | None = None,
    told: set[Any] | None = None,
) -> SyntheticSet:
    """Read a synthetic set of any format.

    Args:
        path: a file, or a folder for the formats that take one.
        stated: what the user states about the file.
        root: the folder of data sets; None for the default one.
        told: see ``guesses.tell``.

    Raises:
        DataError: the file cannot be read, or does not fit its format or data set.
        UsageError: an option is missing or does not fit.
        RecordError: the file is a damaged one of dcbench's own.
    """
    with damaged(path):
        format = stated.format or guess(path)
    if format == "dcbench":
        _check_stated(path, stated)
        synthetic = synthetic_file.read(path)
        if stated.name is None:
            return synthetic
        named = {**synthetic.provenance, "name": name_of(path, stated)}
        return replace(synthetic, provenance=named)
    if format not in READERS:
        known = ", ".join(name for name, entry in FORMATS.items() if entry.reads)
        raise UsageError(
            f"--from {format}: dcbench does not read this format; there are: {known}"
        )
    if stated.index == "all":
        raise UsageError(
            f"{path}: --index all evaluates every set of a file; it goes with dcbench "
            "evaluate alone: name one set with --index 0"
        )
    if stated.index not in (None, 0, -1) and format not in SEVERAL:
        raise UsageError(
            f"{path}: --index {stated.index}: a {format} file holds one set"
        )
    with damaged(path):
        content = READERS[format](path, stated.index)
    if stated.format is None:
        recognised = {"format": Guess(format, "from its name and content")}
        content = replace(content, guesses={**recognised, **content.guesses})
    return adopt(path, format, content, stated, root, told)


def every_set(path: Path, stated: ReadingOptions) -> list[ReadingOptions]:
    """Return the options for each requested set: one, or all sets of a file.

    Raises:
        DataError: the file cannot be read.
    """
    if stated.index != "all":
        return [stated]
    with damaged(path):
        format = stated.format or guess(path)
        several = format in SEVERAL
        count = READERS[format](path, 0).count if several else 1
    return [replace(stated, index=i if several else None) for i in range(count)]


def _check_stated(path: Path, stated: ReadingOptions) -> None:
    """Make sure that no option states what dcbench's own file already states."""
    for key, option in OPTIONS.items():
        if key not in ("format", "dataset") and getattr(stated, key) is not None:
            raise UsageError(
                f"{path} is a file of dcbench, which states this itself; leave out "
                f"{option}"
            )


def facts(name: str, root: Path | None) -> DatasetInfo:
    """Return the facts of a data set; read its images only if the facts need them."""
    return _fixed(name, root) or loading.load(name, root).info


def _fixed(name: str, root: Path | None) -> DatasetInfo | None:
    """Return the facts of a data set that do not depend on files, or None."""
    info: DatasetInfo | None = getattr(loading.find(name, root).module, "INFO", None)
    return info


def dataset_of(path: Path, stated: ReadingOptions) -> tuple[str, Guess | None] | None:
    """Return the name of the data set that a file was made from, and the guess.

    Returns:
        The name, and a guess if the user did not state it; None if neither the user
        nor the name of the file states the data set.
    """
    if stated.dataset is not None:
        return stated.dataset, None
    names = sorted(DATASETS.names(), key=len, reverse=True)
    for part in nearby_names(path):
        for name in names:
            pattern = re.sub(r"(\d+)$", r"_\1(?!\\d)", name).replace("_", "[_-]?")
            if hasattr(DATASETS.module(name), "INFO") and re.search(
                pattern, part.lower()
            ):
                return name, Guess(name, f"from the name {part}")
    return None


def adopt(
    path: Path,
    format: str,
    content: Content,
    stated: ReadingOptions,
    root: Path | None,
    shown: set[Any] | None = None,
) -> SyntheticSet:
    """Return a synthetic set with the content of a file.

    Args:
        path: the file as the user named it.
        format: the name of its format.
        content: what its reader found.
        stated: what the user states about the file.
        root: the folder of data sets; None for the default one.
        shown: see ``guesses.tell``.

    Raises:
        DataError: the content is no set of that data set; the message names what is
            wrong and the option that may mend it.
        UnstatedError: the data set or something else is not known; it asks for all.
        UsageError: an option does not fit.
    """
    naming = dataset_of(path, stated)
    if naming is None:
        with damaged(path):
            raise unnamed(path, content, stated)
    name, named = naming
    info = facts(name, root)
    told = interpret(path, content, stated, info)
    reading, labels = told.reading, told.labels
    numbered = not content.class_names and not _fixed(name, root)
    if numbered and stated.classes is None:
        reading.guesses["classes"] = paired_classes.by_position(info)
    if told.asked or labels is None:
        raise ask(path, told, stated)
    settled, guesses = reading.settled, reading.guesses
    partition = int(settled["partition"])
    statistics = facts(settled["statistics"], root) if settled["statistics"] else info
    with damaged(path):
        images = normalised(told.images, reading.scale, info, statistics)
    if named:
        guesses["dataset"] = named
    if content.class_names and stated.classes is None:
        names = content.class_names
        guesses["classes"] = paired_classes.by_name(names, labels.order, info)
    counts = count(labels.rows)
    cell = Cell(f"{format}-file", info.name, counts.ipc(info.classes), content.index)
    source = _source(format, content, stated, guesses)
    source["reading"] = {
        "classes": paired_classes.recorded(labels.order, info),
        "format": format,
        "labels": labels.kind,
        "learning_rate": settled["learning_rate"],
        "partition": partition,
        "scale": reading.scale,
        "sha256": source["sha256"],
        "statistics": statistics.name,
        "zca": bool(settled["zca"]),
    }
    provenance = {
        "cell": msgspec.to_builtins(cell),
        "dataset": msgspec.to_builtins(info),
        "source": source,
        "name": name_of(path, stated),
        "zca": {"assumed": "MTT"} if settled["zca"] else None,
        "learning_rate": settled["learning_rate"],
        "accuracies": {k: list(v) for k, v in content.accuracies.items()},
    }
    synthetic = SyntheticSet(images, labels.rows, partition, provenance)
    with damaged(path):
        synthetic_file.check(synthetic)
    tell(path, guesses, reading.notes, logger.warning, shown)
    return synthetic


def _source(
    format: str, content: Content, stated: ReadingOptions, guesses: Mapping[str, Guess]
) -> dict[str, Any]:
    """Return the files of a set, what was stated about them, and what was guessed."""
    given = {key: getattr(stated, key) for key in OPTIONS}
    return {
        "files": [printable(file.name) for file in content.files[:10]],
        "sha256": sha256(content.files),
        "format": format,
        "given": {key: value for key, value in given.items() if value is not None},
        "guessed": {k: g.value for k, g in guesses.items() if g.doubt != "certain"},
    }
