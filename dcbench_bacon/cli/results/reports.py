"""Tables and figures of the records in a results folder."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from dcbench_bacon.downstream_store import folder_of
from dcbench_bacon.errors import RecordError
from dcbench_bacon.field_types import Use
from dcbench_bacon.plugins import METHODS
from dcbench_bacon.recipes.grids import ready_grid
from dcbench_bacon.reporting.literature import published
from dcbench_bacon.reporting.numbers import (
    contents,
    downstream_tables,
    slimming_tables,
)
from dcbench_bacon.reporting.numbers.ablation import ablation
from dcbench_bacon.reporting.table import Table
from dcbench_bacon.schema import Record
from dcbench_bacon.store import Store

logger = logging.getLogger(__name__)

R = TypeVar("R")
USES: tuple[Use, ...] = get_args(Use)


def measured(
    *,
    output: Path,
    what: str,
    presets: tuple[str, ...],
    layout: str | None,
    source: str | None,
    against: str | None,
    gain_over: str | None,
    ready: str | None = None,
    **given: Any,
) -> Table:
    """Return a table of the records in a results folder.

    Args:
        output: the results folder.
        what: one of ``contents.CONTENTS``, or one of ``USES``.
        presets: the presets whose records are used; paper alone if empty.
        layout: one of ``layouts.LAYOUTS``; None for ``long``.
        source: a name of ``published.named``; None for the order of preference.
        against: the method that ``scores`` and ``summary`` compare the others with;
            None for random images and for all.
        gain_over: the method of the gain row.
        ready: the name of a ready grid, whose arms are shown instead; None for none.
        given: ``methods``, ``datasets`` and ``ipc`` that are shown; None for all.

    Returns:
        The table; a warning states why it has no rows.
    """
    presets = presets or ("paper",)
    for use in USES:
        if what == use:
            return _downstream(output, use, presets)
    layout, against = layout or "long", method_named(against) if against else None
    contents.check(what, layout, gain_over)
    published.named(source)  # a wrong name is reported before anything is read
    records = readable(Store(output).records)
    if what == "timing":
        records += Store(output).records([], "timing")
    other = against or ("random" if what == "scores" else None)
    if other and other not in {record.cell.method for record in records}:
        logger.warning("no records of %s in %s", other, output / "records")
    shown = chosen(records, **given)
    if ready:
        table = ablation(shown, ready_grid(ready), presets=presets)
    else:
        table = contents.table_of(
            shown,
            what,
            layout=layout,
            presets=presets,
            source=source,
            against=against,
            gain_over=method_named(gain_over) if gain_over else None,
        )
    if table.frame.empty:
        of_presets = [record for record in shown if record.recipe.preset in presets]
        if what == "unfinished" and of_presets:
            message = "all %d such records are of cells that are done"
            logger.warning(message, len(of_presets))
        else:
            say_none(output / "records", shown, presets)
    return table


def literature(
    *, layout: str | None, source: str | None, gain_over: str | None, **given: Any
) -> Table:
    """Return a table of the published numbers alone.

    Args:
        layout: one of ``layouts.LAYOUTS``; None for ``paper``.
        source: a name of ``published.named``; None for the order of preference.
        gain_over: the method of the gain row; None for no such row.
        given: ``methods``, ``datasets`` and ``ipc`` that are shown; None for all.
    """
    return contents.published_table(
        layout=layout or "paper",
        source=source,
        methods=[method_named(name) for name in given["methods"] or ()],
        datasets=given["datasets"] or (),
        ipc=given["ipc"] or (),
        gain_over=method_named(gain_over) if gain_over else None,
    )


def chosen(
    records: list[Record],
    *,
    methods: tuple[str, ...] | None = None,
    datasets: tuple[str, ...] | None = None,
    ipc: tuple[int, ...] | None = None,
) -> list[Record]:
    """Return the records of some methods, data sets and numbers of images.

    The whole training set has no number of images per class, and is always there.

    Args:
        records: the records.
        methods: names of methods or of sets of other tools; None for all.
        datasets: names of data sets; None for all.
        ipc: numbers of images per class; None for all.
    """
    names = {method_named(name) for name in methods or ()} | {*(methods or ())}
    return [
        record
        for record in records
        if (not names or names & {record.cell.method, record.name})
        and (not datasets or record.cell.dataset in datasets)
        and (not ipc or record.cell.ipc in (0, *ipc))
    ]


def method_named(name: str) -> str:
    """Return the printed name of a method, also of one that was published alone.

    Raises:
        UsageError: there is no such method; the message lists the installed ones.
    """
    if name in published.KNOWN.unregistered.methods:
        return name
    return METHODS.resolve(name)


def readable(read: Callable[[list[RecordError]], Iterable[R]]) -> list[R]:
    """Return all records; warn of those that cannot be read and leave them out."""
    broken: list[RecordError] = []
    records = list(read(broken))
    for error in broken:
        logger.warning("left out: %s", error)
    return records


def say_none(folder: Path, records: Iterable[Record], presets: tuple[str, ...]) -> None:
    """Warn that there are no such records, with their number and what to type.

    Args:
        folder: the folder of the records.
        records: those that are there.
        presets: the presets that were asked for.
    """
    warn_none(folder, [record.recipe.preset for record in records], presets)


def warn_none(folder: Path, there: Iterable[str], presets: tuple[str, ...]) -> None:
    """Warn that there are no records of the presets.

    Args:
        folder: the folder of the records.
        there: the preset of each record.
        presets: the presets that were asked for.
    """
    counts = sorted(Counter(there).items())
    totals = ", ".join(f"{count} of preset {name}" for name, count in counts)
    tries = [f"--preset {name}" for name, _ in counts if name not in presets]
    tries += [] if totals else ["another --output"]
    hint = f" Try {' or '.join(tries)}." if tries else ""
    asked = " and ".join(name for name, _ in counts if name in presets)
    if asked:
        hint = (
            f" Those of preset {asked} are of another kind than this table shows; "
            f"`dcbench table --help` says what each shows.{hint}"
        )
    if not totals and folder.name == "records":
        hint += " dcbench table --published prints the literature."
    logger.warning(
        "no such records in %s; it has %s.%s", folder, totals or "none", hint
    )


def _downstream(output: Path, use: Use, presets: tuple[str, ...]) -> Table:
    """Return the table of a downstream use, for people."""
    makers: dict[Use, Callable[[list[Any]], Any]] = {
        "continual": downstream_tables.continual,
        "nas": downstream_tables.search,
        "slim": slimming_tables.slimmed,
    }
    every: list[Any] = readable(folder_of(Store(output), use).records)
    chosen = [record for record in every if record.preset in presets]
    if not chosen:
        warn_none(output / use, [record.preset for record in every], presets)
    return Table(use, makers[use](chosen))
