"""The figure of the time of a distillation step, by phase."""

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcbench_bacon.reporting.figures.figure_files import STYLE, Drawing, legend
from dcbench_bacon.reporting.figures.points import named_in
from dcbench_bacon.reporting.numbers import tables
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
_BAR = ["stage", "method", "ipc", "preset", "recipe"]


def timing(
    records: Sequence[Record], presets: Sequence[str], most: int | None = None
) -> Iterator[Drawing]:
    """Draw bars of the seconds per step, divided into phases.

    Args:
        records: the records, those of ``dcbench time`` included.
        presets: the presets whose records are used.
        most: the most bars of a figure; those that need more are left out.

    Yields:
        One figure per data set and device. Records of one recipe are averaged.
    """
    chosen = [record for record in records if record.recipe.preset in presets]
    frame = tables.timing(chosen)
    named = named_in(chosen)
    phases = [name for name in frame.columns if name.endswith("_ms")]
    for key, group in frame.groupby(["dataset", "device"], sort=False):
        if most and group.groupby(_BAR).ngroups > most:
            continue
        dataset, device = map(str, tuple(key))
        reduced = {str(name).removesuffix(CHANGED) for name in group["preset"]}
        with rc_context(STYLE):
            methods = [named(name) for name in group["method"]]
            figure = _bars(group.assign(method=methods), phases)
            figure.suptitle(f"{named(dataset)}, {device}", fontweight="bold")
        preset = reduced.pop() if len(reduced) == 1 else ""
        name = f"timing-{dataset}-{device}"
        yield Drawing("timing", dataset, preset, "", name, figure)


def _bars(frame: pd.DataFrame, phases: list[str]) -> Figure:
    """Return horizontal bars, a panel per stage, a bar per method, IPC and recipe."""
    means = frame.groupby(_BAR, sort=False)[phases].mean().fillna(0.0)
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
    panels.flat[-1].set_xlabel("Seconds per step (mean)")
    legend(figure, list(panels.flat))
    return figure


def _stack(axes: Axes, means: pd.DataFrame, phases: list[str]) -> None:
    """Draw the bars of one stage."""
    labels = [f"{key[0]}, IPC {key[1]}" for key in means.index]
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
            means[name] / 1000,
            left=left / 1000,
            label=HEADINGS[name].removesuffix(" (ms)"),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.5,
        )
        left = left + means[name]
    for row, total in enumerate(left / 1000):
        axes.annotate(
            f" {total:.3g}", (total, row), va="center", fontsize=8, color="#333333"
        )
    axes.set_yticks(range(len(means)), texts)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
