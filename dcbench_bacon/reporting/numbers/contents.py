"""Tables of records, by what they are about."""

from collections.abc import Callable, Sequence
from typing import get_args

import pandas as pd

from dcbench_bacon.errors import UsageError, unknown
from dcbench_bacon.reporting.literature import published
from dcbench_bacon.reporting.literature.published import ACCURACIES, PublishedNumber
from dcbench_bacon.reporting.literature.references import RANDOM, results_of
from dcbench_bacon.reporting.numbers import (
    comparison,
    cost,
    layouts,
    longform,
    ranking,
    regimes,
    tables,
)
from dcbench_bacon.reporting.numbers.augmentations import augmentations
from dcbench_bacon.reporting.numbers.layouts import LAYOUTS, Wanted
from dcbench_bacon.reporting.numbers.time_table import time_table
from dcbench_bacon.reporting.table import Content, Kind, Table
from dcbench_bacon.schema import Record

_CAPTIONS = {
    "accuracy": "Test accuracy (%) of networks trained on distilled sets.",
    "summary": "Mean rank over cases (data set, IPC, network, protocol), and wins, "
    "ties and losses by paired 95 % t intervals.",
    "spread": "Deviations of test accuracies (%) between sets and between networks.",
    "augmentations": "Test accuracy (%) of distilled sets under each augmentation.",
    "transfer": "Test accuracy (%) of every set on every network.",
    "scores": "Scores of distilled sets.",
    "regimes": "Test accuracy (%) of networks trained on sets under label regimes.",
    "cost": "Cost of distilled sets.",
    "timing": "Time and memory of distillation steps.",
    "time_table": "Seconds per distillation step and peak memory.",
    "unfinished": "Cells that are not done.",
    "published": "Published test accuracies (%).",
}
CONTENTS: tuple[Content, ...] = get_args(Content)


def captioned(kind: Kind, frame: pd.DataFrame, records: Sequence[Record] = ()) -> Table:
    """Return a frame as a table, with the caption and the label of its kind.

    Args:
        kind: what the frame is about.
        frame: made by the function of that kind.
        records: the records it was made from, which state titles.
    """
    notes = tuple(frame.attrs.get("notes", ()))
    titles = longform.titles(records)
    label = f"tab:{kind}" if kind in _CAPTIONS else ""
    return Table(kind, frame, notes, _CAPTIONS.get(kind, ""), label, titles)


def table_of(
    records: Sequence[Record],
    what: str = "accuracy",
    *,
    layout: str = "long",
    presets: Sequence[str] = ("paper",),
    source: str | None = None,
    against: str | None = None,
    gain_over: str | None = None,
) -> Table:
    """Return a table of records.

    Args:
        records: the records.
        what: one of ``CONTENTS``.
        layout: one of ``layouts.LAYOUTS``; those other than ``long`` are of
            accuracies, and ``paper`` also of ``timing``.
        presets: the presets whose records are used.
        source: a name of ``published.named``; None for the order of preference.
        against: the method that ``scores`` and ``summary`` compare the others with;
            None for random images in ``scores`` and for all in ``summary``.
        gain_over: the method of the gain row of a layout; None for no such row.

    Raises:
        UsageError: there is no such content, layout or source, or the content has no
            such layout.
    """
    kind = check(what, layout, gain_over)
    if what in ("timing", "unfinished"):
        chosen = [record for record in records if record.recipe.preset in presets]
        makers = {"timing": tables.timing, "time_table": time_table}
        return captioned(kind, makers.get(kind, tables.unfinished)(chosen), chosen)
    long = longform.frame(records)
    if layout != "long":
        wanted = Wanted(layout, presets, source, gain_over)
        table = layouts.measured(long, wanted)
        words = {"titles": longform.titles(records), "notes": _pooled(long, presets)}
        return Table(**{**vars(table), **words})
    accuracies: dict[str, Callable[[], pd.DataFrame]] = {
        "accuracy": lambda: tables.summary(long, presets=presets, source=source),
        "spread": lambda: tables.spread(long, presets=presets),
        "augmentations": lambda: augmentations(long, presets=presets, source=source),
        "transfer": lambda: comparison.transfer(long, presets=presets),
        "scores": lambda: comparison.scores(
            long, presets=presets, against=against or RANDOM
        ),
        "regimes": lambda: regimes.regimes(long, presets=presets),
        "cost": lambda: cost.cost(long, presets=presets),
        "summary": lambda: ranking.ranking(long, presets=presets, against=against),
    }
    frame = accuracies[kind]()
    if kind != "augmentations":
        notes = [*frame.attrs.get("notes", ()), *_pooled(long, presets)]
        frame.attrs["notes"] = notes
    return captioned(kind, frame, records)


def _pooled(long: pd.DataFrame, presets: Sequence[str]) -> tuple[str, ...]:
    """Return the note for numbers of several augmentations, if there are any."""
    several = [
        result.rows["augmentation"].nunique() > 1
        for result in results_of(long, presets)
    ]
    return ("augmentations",) if any(several) else ()


def check(what: str, layout: str, gain_over: str | None = None) -> Kind:
    """Return the kind of a content, after a check that it has such a layout.

    Raises:
        UsageError: there is not, or it has not.
    """
    if what not in CONTENTS:
        raise unknown("table", what, CONTENTS)
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if (what, layout) == ("timing", "paper") and not gain_over:
        return "time_table"
    if layout != "long" and what != "accuracy":
        raise UsageError(
            f"--layout {layout} arranges accuracies: leave out --what {what}, or use "
            "--layout long"
        )
    if gain_over and layout not in ("paper", "networks"):
        raise UsageError("--gain-over goes with --layout paper or networks")
    return next(kind for kind in CONTENTS if kind == what)


def published_table(
    *,
    layout: str = "paper",
    source: str | None = None,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    ipc: Sequence[int] = (),
    gain_over: str | None = None,
) -> Table:
    """Return a table of the published accuracies alone.

    Args:
        layout: one of ``layouts.LAYOUTS``.
        source: a name of ``published.named``; None for the order of preference.
        methods: the methods; all if empty.
        datasets: the data sets; all if empty.
        ipc: the numbers of images per class; all if empty. The whole training set,
            which has no such number, is always there.
        gain_over: the method of the gain row of a layout; None for no such row.

    Raises:
        UsageError: there is no such layout or source, or there are no such numbers.
    """
    check("accuracy", layout, gain_over)
    where = published.named(source)
    chosen = [
        row
        for row in published.rows()
        if row.metric in ACCURACIES
        and row.source in where
        and (not methods or row.method in methods)
        and (not datasets or row.dataset in datasets)
        and (not ipc or row.ipc in (0, *ipc))
        and not (row.arm and layout != "long")
    ]
    if not chosen:
        raise UsageError(
            "no published accuracies of these methods, data sets and IPC; "
            "dcbench table --published --layout long shows all"
        )
    if layout != "long":
        return layouts.literature(chosen, Wanted(layout, (), source, gain_over))
    left_out = {"metric"} if any(row.arm for row in chosen) else {"metric", "arm"}
    names = [n for n in PublishedNumber.__struct_fields__ if n not in left_out]
    frame = pd.DataFrame([{n: getattr(row, n) for n in names} for row in chosen])
    frame = frame[["dataset", "ipc", "method", *names[3:]]].astype({"std": float})
    return captioned("published", longform.ordered(frame, list(frame.columns[:4])))
