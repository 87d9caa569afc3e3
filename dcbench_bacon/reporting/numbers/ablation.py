"""Arms of a grid beside its first arm, by data set and number of images per class."""

from collections.abc import Iterable, Sequence

from dcbench_bacon.recipes.grids import ReadyGrid
from dcbench_bacon.reporting.literature.references import SetResults, results_of
from dcbench_bacon.reporting.numbers import longform, scores
from dcbench_bacon.reporting.numbers.accuracies import moments
from dcbench_bacon.reporting.numbers.layout_numbers import EVALUATED
from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.table import Table
from dcbench_bacon.schema import Record

ABLATION = [
    *("method", "arm", "dataset", "ipc", "architecture", *EVALUATED, "others"),
    *("accuracy_mean", "accuracy_std", "n"),
    *("difference", "difference_low", "difference_high", "recipe"),
]
_CASE = ["method", "dataset", "ipc", "architecture", *EVALUATED, "others"]


def ablation(
    records: Iterable[Record], grid: ReadyGrid, *, presets: Sequence[str] = ("paper",)
) -> Table:
    """Return the accuracies of the arms of a grid, and the differences to the first.

    Differences have the interval of ``scores.paired_interval``. Records of the same
    data set, network and evaluation are compared, whose recipes differ in nothing else.

    Args:
        records: the records; those of no arm are left out.
        grid: the grid.
        presets: the presets whose records are used.
    """
    arm_of_record = [(record, grid.arm_of(record)) for record in records]
    arms = {record.digest: arm for record, arm in arm_of_record if arm}
    titles = [arm.title for arm in grid.arms]
    long = longform.frame([record for record, arm in arm_of_record if arm])
    rows, firsts = [], {}
    for result in results_of(long, presets):
        arm, others = arms[str(result.rows["digest"].iloc[0])]
        row = _row(result, arm.title, others)
        if arm.title == titles[0]:
            firsts[_case(row)] = result
        rows.append((row, result))
    compared = [
        row
        | _difference(result, firsts.get(_case(row)), is_first=row["arm"] == titles[0])
        for row, result in rows
    ]
    frame = longform.build(compared, ABLATION)
    frame = frame.assign(place=frame["arm"].map(titles.index))
    order = [*_CASE[1:], "method", "place", "recipe"]
    frame = longform.ordered(frame, order)[ABLATION]
    numbers = [name for name in ABLATION if name.startswith(("accuracy", "difference"))]
    known = [record for record, arm in arm_of_record if arm]
    return Table(
        "ablation",
        frame.astype(dict.fromkeys(numbers, float)),
        caption=f"{grid.title}. Test accuracy (%) and difference to {titles[0]}.",
        label="tab:ablation",
        titles=longform.titles(known),
    )


def _row(result: SetResults, arm: str, others: dict[str, str]) -> dict[str, object]:
    """Return what a result is of, and its accuracy in percent."""
    first = result.rows.iloc[0]
    mean, deviation = moments(list(result.rows["accuracy"]))
    return {
        **{name: first[name] for name in ("method", "dataset", "ipc", "architecture")},
        **{name: first[name] for name in EVALUATED},
        "preset": str(first["preset"]).removesuffix(CHANGED),
        "others": ", ".join(f"{key}={value}" for key, value in others.items()),
        **{"arm": arm, "recipe": result.recipe, "n": len(result.rows)},
        **{"accuracy_mean": mean, "accuracy_std": deviation},
    }


def _case(row: dict[str, object]) -> tuple[object, ...]:
    """Return what arms have in common that are compared."""
    return tuple(row[name] for name in _CASE)


def _difference(
    result: SetResults, first: SetResults | None, *, is_first: bool
) -> dict[str, float]:
    """Return the difference to the first arm and its interval, in percent."""
    if first is None or is_first:
        return {}
    interval = scores.paired_interval(result.networks, first.networks)
    gap = scores.mean(result.accuracies) - scores.mean(first.accuracies)
    values = (gap, interval.low, interval.high)
    names = ("difference", "difference_low", "difference_high")
    return {name: 100 * value for name, value in zip(names, values, strict=True)}
