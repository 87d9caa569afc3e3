"""Lists of what exists, and tables of what was measured, as text.

Most of them do not need torch, which is imported only where it is needed.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from dcbench_bacon.errors import RecordError
from dcbench_bacon.exchange.formats import FORMATS, Format
from dcbench_bacon.plugins import DATASETS, METHODS, Registry
from dcbench_bacon.recipes import protocols
from dcbench_bacon.store import Store

logger = logging.getLogger(__name__)


R = TypeVar("R")


def listing(what: str) -> str:
    """Return the names of a kind, each with a line about it.

    Args:
        what: ``methods``, ``datasets``, ``architectures``, ``protocols``,
            ``augmentations`` or ``formats``.
    """
    if what == "architectures":
        from dcbench_bacon.networks import (
            builder,
            pools,  # imported here, because networks need torch
        )

        names = builder.names()
        more = {
            "ConvNet...": "D<depth> W<width> AS|AR|AL|ASwish NN|BN|LN|IN|GN NP|MP|AP",
            "torchvision:NAME": "a classifier of torchvision, without weights",
            "timm:NAME": "a classifier of timm (pip install timm), without weights",
        }
        return "\n".join([*names, "", _columns(more | pools.descriptions(len(names)))])
    if what == "augmentations":
        return _augmentations()
    if what == "protocols":
        return _columns(protocols.protocol_titles())
    if what == "formats":
        return _columns({name: _format(format) for name, format in FORMATS.items()})
    registry: Registry = METHODS if what == "methods" else DATASETS
    return _columns({name: registry.summary(name) for name in registry.names()})


def print_table(
    *,
    output: Path,
    format: str,
    what: str,
    presets: tuple[str, ...],
    source: str | None,
    against: str,
) -> str:
    """Return a table of the records in a results folder.

    Args:
        output: the results folder.
        format: ``md``, ``csv``, ``latex`` or ``html``.
        what: ``accuracy``, ``spread``, ``transfer``, ``scores``, ``timing`` or
            ``unfinished``, or a downstream use: ``continual`` or ``nas``.
        presets: the presets whose records are used; paper alone if empty.
        source: the source of published numbers; if None, each method's own source
            where it is known.
        against: the method that ``scores`` compares the others with.
    """
    from dcbench_bacon.reporting import (
        comparison,
        longform,
        published,
        rendering,
        tables,
    )

    presets = presets or ("paper",)
    if what in ("continual", "nas"):
        return _downstream(output, format, what, presets)
    published.named(source)  # reports a wrong name before anything is read
    records = _readable(Store(output).records)
    if what == "accuracy":
        table = tables.summary(longform.frame(records), presets=presets, source=source)
    elif what == "scores":
        name = METHODS.resolve(against)
        if name not in {record.cell.method for record in records}:
            logger.warning("no records of %s in %s", name, output / "records")
        frame = longform.frame(records)
        table = comparison.scores(frame, presets=presets, against=name)
    elif what in ("spread", "transfer"):
        maker = tables.spread if what == "spread" else comparison.transfer
        table = maker(longform.frame(records), presets=presets)
    else:
        if what == "timing":
            records += Store(output).records([], "timing")
        chosen = [entry for entry in records if entry.recipe.preset in presets]
        table = (tables.timing if what == "timing" else tables.unfinished)(chosen)
    if table.empty and what == "unfinished" and chosen:
        logger.warning("all %d such records are of cells that are done", len(chosen))
    elif table.empty:
        there = [entry.recipe.preset for entry in records]
        _say_none(output / "records", there, presets)
    return "" if table.empty and format != "csv" else rendering.render(table, format)


def plot_transfer(output: Path, format: str, presets: tuple[str, ...]) -> list[Path]:
    """Write heat maps of the records in a results folder.

    Args:
        output: the results folder; the figures go to ``figures`` in it.
        format: ``png``, ``svg`` or ``pdf``.
        presets: the presets whose records are used.

    Returns:
        The files, in the order of the table.
    """
    from dcbench_bacon.reporting import comparison, longform, plots

    records = _readable(Store(output).records)
    table = comparison.transfer(longform.frame(records), presets=presets)
    if table.empty:
        there = [record.recipe.preset for record in records]
        _say_none(output / "records", there, presets)
    return plots.transfer(table, output / "figures", format)


def _readable(read: Callable[[list[RecordError]], Iterable[R]]) -> list[R]:
    """Return all records; warn of those that cannot be read and leave them out."""
    broken: list[RecordError] = []
    records = list(read(broken))
    for error in broken:
        logger.warning("left out: %s", error)
    return records


def _say_none(folder: Path, there: Iterable[str], presets: tuple[str, ...]) -> None:
    """Warn that there are no such records, with their number and what to type.

    Args:
        folder: the folder of the records.
        there: the preset of each record.
        presets: the presets that were asked for.
    """
    counts = sorted(Counter(there).items())
    available = ", ".join(f"{count} of preset {name}" for name, count in counts)
    tries = [f"--preset {name}" for name, _ in counts if name not in presets]
    tries += [] if available else ["another --output"]
    hint = f" Try {' or '.join(tries)}." if tries else ""
    if available and not tries:
        hint = (
            " These are of another kind than this table shows; `dcbench table --help` "
            "says what each shows."
        )
    logger.warning(
        "no such records in %s; it has %s.%s", folder, available or "none", hint
    )


def _augmentations() -> str:
    """Return DSA operations and policies, each with a line about it."""
    from dcbench_bacon.augmentation import (
        kornia_modules,
        policies,  # imported here, because they need torch and Kornia
    )

    operations = {
        "none": "No augmentation.",
        **{
            name: entry.__doc__ or ""
            for name, entry in kornia_modules.OPERATIONS.items()
        },
    }
    listed = {
        name: f"{entry.title} ({entry.source})"
        for name, entry in policies.POLICIES.items()
    }
    return "\n".join(
        [
            "Operations of DSA, for `augmentation` and `protocol.augmentation`. Names",
            "are joined by _, as in color_crop_flip; each batch draws one of them.",
            "",
            _columns(operations),
            "",
            "Policies, for `protocol.augmentation` alone; each image draws its own.",
            "",
            _columns(listed),
        ]
    )


def _format(format: Format) -> str:
    """Return whether a format is read or written, and its title."""
    uses = ["read" * format.reads, "written" * format.writes]
    return f"{' and '.join(filter(None, uses)):<16}  {format.title}"


def _downstream(output: Path, format: str, use: str, presets: tuple[str, ...]) -> str:
    """Return the table of a downstream use."""
    from dcbench_bacon import downstream_store as downstream
    from dcbench_bacon.reporting import downstream_tables

    store = Store(output)
    every: list[Any]
    if use == "continual":
        every = _readable(downstream.continual_folder(store).records)
    else:
        every = _readable(downstream.search_folder(store).records)
    chosen = [record for record in every if record.preset in presets]
    if not chosen:
        _say_none(output / use, [entry.preset for entry in every], presets)
        if format != "csv":
            return ""
    make = (
        downstream_tables.continual if use == "continual" else downstream_tables.search
    )
    return downstream_tables.render(make(chosen), format)


def _columns(lines: dict[str, str]) -> str:
    width = max(map(len, lines), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())
