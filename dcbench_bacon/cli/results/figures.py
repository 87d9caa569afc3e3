"""The figures of the records in a results folder."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dcbench_bacon.cli.results.reports import (
    USES,
    chosen,
    readable,
    say_none,
    warn_none,
)
from dcbench_bacon.downstream_store import folder_of
from dcbench_bacon.field_types import Use
from dcbench_bacon.reporting.figures import bars, curves, downstream_curves, plots
from dcbench_bacon.reporting.figures.figure_files import Drawing, save
from dcbench_bacon.reporting.figures.pareto_figure import pareto
from dcbench_bacon.reporting.figures.points import named_in
from dcbench_bacon.reporting.numbers import comparison, longform
from dcbench_bacon.store import Store

logger = logging.getLogger(__name__)

_MISSING = {
    "history": "no record has accuracies on the way; run cells with --set "
    "protocol.evaluate_every=STEPS",
    "ablation": "no records differ in one key alone; make some with dcbench run "
    "--sweep KEY=VALUE,VALUE",
    "timing": "no record has timed steps; dcbench time makes some",
}


def draw(
    kind: str, output: Path, format: str, presets: tuple[str, ...], **given: Any
) -> list[Path]:
    """Write the figures of one kind, and return their files.

    Args:
        kind: ``transfer``, ``history``, ``ablation``, ``timing``, ``pareto``,
            ``continual`` or ``slim``.
        output: the results folder; the figures go to ``figures`` in it.
        format: ``png``, ``svg`` or ``pdf``.
        presets: the presets whose records are used.
        given: ``methods``, ``datasets`` and ``ipc`` that are shown, None for all, but
            for downstream uses; and the further options of the kind.

    Returns:
        The files; a warning states why there are none.
    """
    store, folder = Store(output), output / "figures"
    for use in USES:
        if kind == use:
            return _downstream(use, store, folder, format, presets)
    records = readable(store.records)
    if kind == "timing":
        records += store.records([], "timing")
    records = chosen(
        records, **{k: given.pop(k) for k in ("methods", "datasets", "ipc")}
    )
    if kind == "transfer":
        table = comparison.transfer(longform.frame(records), presets=presets)
        drawings = plots.transfer(table, named_in(records))
    else:
        maker: Any = {
            **{"history": curves.history, "ablation": curves.ablation},
            **{"timing": bars.timing, "pareto": pareto},
        }[kind]
        drawings = maker(records, presets, **given)
    paths = save(drawings, folder, format)
    there = any(record.recipe.preset in presets for record in records)
    if not paths and there and kind in _MISSING:
        logger.warning("%s", _MISSING[kind])
    elif not paths:
        say_none(output / "records", records, presets)
    return paths


def _downstream(
    use: Use, store: Store, folder: Path, format: str, presets: tuple[str, ...]
) -> list[Path]:
    """Write the figures of a downstream use."""
    makers: dict[Use, Callable[[Any, tuple[str, ...]], Iterable[Drawing]]] = {
        "continual": downstream_curves.continual,
        "slim": downstream_curves.slim,
    }
    every = readable(folder_of(store, use).records)
    paths = save(makers[use](every, presets), folder, format)
    if not paths:
        warn_none(store.root / use, [record.preset for record in every], presets)
    return paths
