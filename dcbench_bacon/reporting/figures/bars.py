"""The figure of the time of a distillation step, by phase."""

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcbench_bacon.recipes.digests import distillation_digest
from dcbench_bacon.reporting.figures.figure_files import STYLE, Drawing, legend
from dcbench_bacon.reporting.figures.points import (
    WATCHING,
    cut,
    named_in,
    of_evaluation,
    overridden,
)
from dcbench_bacon.reporting.numbers import longform, tables
from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.wording import HEADINGS
from dcbench_bacon.schema import Record

# Colour and hatch of each phase; the page of ``dcbench report`` has the same colours.
_LOOKS = {
    **{"data_ms": ("#E69F00", ""), "augmentation_ms": ("#56B4E9", "//")},
    **{"real_forward_ms": ("#0072B2", ""), "synthetic_ms": ("#D55E00", "..")},
    **{"queue_ms": ("#CC79A7", ""), "update_ms": ("#009E73", "\\\\")},
}
_OTHER = ("#999999", "")  # what no phase has measured
_BAR = ["stage", "bar", "preset", "distillation"]


def timing(
    records: Sequence[Record], presets: Sequence[str], most: int | None = None
) -> Iterator[Drawing]:
    """Draw bars of the seconds per step, divided into phases.

    Args:
        records: the records, those of ``dcbench time`` included.
        presets: the presets whose records are used.
        most: the most bars of a figure; those that need more are left out.

    Yields:
        One figure per data set and device. Records of one distillation are averaged.
    """
    chosen = [record for record in records if record.recipe.preset in presets]
    frame, named = tables.timing(chosen), named_in(chosen)
    by_digest = {record.digest: record for record in longform.told_apart(chosen)}
    in_rows = [by_digest[str(digest)] for digest in frame.index]
    frame = frame.assign(
        changes=[_changes(record) for record in in_rows],
        distillation=[distillation_digest(record.recipe) for record in in_rows],
        place=frame.groupby(["dataset", "ipc", "method"], sort=False).ngroup(),
    ).sort_values(["place", "changes"], kind="stable")
    bars = zip(frame["method"], frame["changes"], frame["ipc"], strict=True)
    frame["bar"] = [
        ", ".join(filter(None, (cut(named(method)), cut(changes), f"IPC {ipc}")))
        for method, changes, ipc in bars
    ]
    phases = [name for name in frame.columns if name.endswith("_ms")]
    for key, group in frame.groupby(["dataset", "device"], sort=False):
        if most and group.groupby(_BAR).ngroups > most:
            continue
        dataset, device = map(str, tuple(key))
        reduced = {str(name).removesuffix(CHANGED) for name in group["preset"]}
        with rc_context(STYLE):
            figure = _bars(group, phases)
            figure.suptitle(f"{named(dataset)}, {device}", fontweight="bold")
        preset = reduced.pop() if len(reduced) == 1 else ""
        name = f"timing-{dataset}-{device}"
        yield Drawing("timing", dataset, preset, "", name, figure)


def _changes(record: Record) -> str:
    """Return what --set changed of the distillation and its cost."""
    others = [key for key in of_evaluation(record) if key != WATCHING]
    return overridden(record, *others)


def _bars(frame: pd.DataFrame, phases: list[str]) -> Figure:
    """Return horizontal bars, a panel per stage, a bar per method, IPC and recipe.

    The axis is of milliseconds unless a step takes more than a second.
    """
    means = frame.groupby(_BAR, sort=False)[phases].mean().fillna(0.0)
    slow = means.sum(axis=1).max() > 1000
    means = means / 1000 if slow else means
    shown = [name for name in phases if means[name].any()]
    stages = list(dict.fromkeys(means.index.get_level_values("stage")))
    parts = [
        means[means.index.get_level_values("stage") == stage].droplevel("stage")
        for stage in stages
    ]
    heights = [len(part) + 1.6 for part in parts]
    figure = Figure(figsize=(7.2, 1.1 + 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(parts), squeeze=False, height_ratios=heights)
    for axes, stage, part in zip(panels.flat, stages, parts, strict=True):
        _stack(axes, part, shown)
        axes.set_title(f"Stage: {stage}", loc="left", fontsize=9)
    unit = "Seconds" if slow else "Milliseconds"
    panels.flat[-1].set_xlabel(f"{unit} per step (mean)")
    legend(figure, list(panels.flat))
    return figure


def _stack(axes: Axes, means: pd.DataFrame, phases: list[str]) -> None:
    """Draw the bars of one stage."""
    labels = [str(key[0]) for key in means.index]
    several = [labels.count(label) > 1 for label in labels]
    texts = [
        f"{label} ({key[-1]})" if more else label
        for label, key, more in zip(labels, means.index, several, strict=True)
    ]
    left = pd.Series(0.0, index=means.index)
    for name in phases:
        colour, hatch = _LOOKS.get(name, _OTHER)
        axes.barh(
            range(len(means)),
            means[name],
            left=left,
            label=HEADINGS[name].removesuffix(" (ms)"),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.5,
        )
        left = left + means[name]
    for row, total in enumerate(left):
        axes.annotate(
            f" {total:#.3g}".rstrip("."),
            (total, row),
            va="center",
            fontsize=8,
            color="#333333",
        )
    axes.set_yticks(range(len(means)), texts)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
