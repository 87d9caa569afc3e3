"""Tables of downstream uses: pure functions of their records."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from dcbench_bacon.downstream_store import Candidate, R, Stage, Trained
from dcbench_bacon.errors import DataError
from dcbench_bacon.evaluation.downstream import nas
from dcbench_bacon.recipes import digests
from dcbench_bacon.reporting.numbers import longform
from dcbench_bacon.reporting.numbers.longform import different
from dcbench_bacon.reporting.table import Table

TOP = 5
CONTINUAL = [
    *("dataset", "ipc", "method", "architecture", "protocol", "tasks", "classes_seen"),
    *("accuracy_mean", "accuracy_std", "n", "preset", "recipe"),
]
SEARCH = [
    *("dataset", "ipc", "method", "protocol", "seed", "networks"),
    *("spearman", "kendall"),
    *("top", "spearman_top", "kendall_top", "best", "whole_accuracy", "seconds"),
    *("preset", "recipe"),
]
_ROW = [
    *("dataset", "ipc", "method", "architecture", "protocol", "tasks"),
    *("preset", "recipe"),
]
_HEADINGS = {
    **{"dataset": "Data set", "ipc": "IPC", "method": "Method", "n": "n"},
    **{"architecture": "Network", "tasks": "Tasks", "seed": "Seed"},
    **{"protocol": "Protocol"},
    **{"networks": "Networks", "spearman": "Spearman", "kendall": "Kendall"},
    **{"best": "Best found", "whole_accuracy": "Its whole-set accuracy (%)"},
    **{"seconds": "Search (s)", "preset": "Preset", "recipe": "Recipe"},
}
_CORRELATIONS = ("spearman", "kendall")
_CONTINUAL_NOTES = (
    "Accuracy in percent on the test images of the classes seen so far: mean ± sample "
    "standard deviation over n networks, those of all orders of classes and all sets "
    "pooled. At every stage fresh networks are trained on the memory alone.",
    "The memory is cut from a set that was distilled with all classes at hand.",
)
_SEARCH_NOTES = (
    "Rank correlations (Spearman's rho, Kendall's tau-b) between the accuracies of the "
    "same networks trained on the set and on the whole train split: over all networks, "
    "and among those that are best on the set.",
    "One half of the test images ranks networks trained on the set, the other half "
    "gives the whole-set accuracies: nothing is chosen on the images that count. Whole "
    "data set: its own ranking on one half against that on the other.",
    "Search: seconds to train and test all networks on the set.",
)


def continual(records: Iterable[Stage]) -> pd.DataFrame:
    """Return one row per method and number of classes seen; accuracies in percent.

    ``accuracy_std`` pools networks, orders and sets (ddof 1, missing when n is 1).
    """
    rows = [
        {
            **identity(record),
            **{
                "architecture": evaluation.architecture,
                "classes_seen": len(record.classes),
            },
            "tasks": record.recipe.settings["tasks"],
            "accuracy": 100 * evaluation.accuracy,
        }
        for record in told_apart(records)
        for evaluation in record.evaluations
    ]
    key = [*_ROW, "classes_seen"]
    frame = pd.DataFrame(rows, columns=[*key, "accuracy"])
    frame = longform.ordered(frame, [*key, "accuracy"])  # sums round alike
    groups = frame.groupby(key, sort=False)["accuracy"]
    table = groups.agg(accuracy_mean="mean", accuracy_std="std", n="count")
    return table.reset_index()[CONTINUAL]


def stages(table: pd.DataFrame) -> Table:
    """Return a table for people: one row per method, one column per number of classes.

    Args:
        table: made by ``continual``.
    """
    most = int(table["n"].max()) if len(table) else 0
    counts = sorted(set(table["classes_seen"]))
    rows = []
    for key, group in table.groupby(_ROW, sort=False):
        cells = {row["classes_seen"]: row for row in group.to_dict("records")}
        row = dict(zip(_ROW, tuple(key), strict=True))
        row |= {_plural(k): _accuracy(cells.get(k), most) for k in counts}
        rows.append({**row, "n": most})
    columns = [*_ROW[:6], *map(_plural, counts), "n", *_ROW[6:]]
    return page(pd.DataFrame(rows, columns=columns), _CONTINUAL_NOTES)


def search(records: Iterable[Candidate], top: int = TOP) -> pd.DataFrame:
    """Return one row per set: how well it ranks networks, and what a search finds.

    A set is compared with each recipe of the whole train split, over the networks that
    were trained on both. ``whole_accuracy`` is the mean over the trained networks of
    the best architecture in percent, ``seconds`` the sum over all networks of the row.
    Of networks that are equal on the set, the first by name comes first.

    Args:
        records: the finished trainings.
        top: number of networks, the best on the set, that are also compared on their
            own.
    """
    groups: dict[str, list[Candidate]] = {}
    for record in told_apart(records):
        groups.setdefault(_training(record), []).append(record)
    references = [group for group in groups.values() if group[0].source is None]
    rows = [
        _searched(candidates, whole, top)
        for candidates in groups.values()
        for whole in references
        if _comparable(candidates, whole)
    ]
    table = pd.DataFrame(rows, columns=[*SEARCH, "whole"])
    key = ["dataset", "whole", "ipc", "method", "seed", "preset", "recipe"]
    return longform.ordered(table, key)[SEARCH]


def correlations(table: pd.DataFrame) -> Table:
    """Return a table for people, without columns that are the same in all rows.

    Args:
        table: made by ``search``.
    """
    tops = sorted(set(table["top"]))
    among = f" (top {tops[0]})" if len(tops) == 1 else " (top)"
    headings = {f"{name}_top": _HEADINGS[name] + among for name in _CORRELATIONS}
    texts = {
        name: [f"{value:.2f}" if value == value else "—" for value in table[name]]
        for name in (*_CORRELATIONS, *headings)
    }
    images = [str(ipc or "all") for ipc in table["ipc"]]
    silent = ["top"] * (len(tops) < 2) + ["seed"] * (table["seed"].nunique() < 2)
    shown = table.assign(**texts, ipc=images).drop(columns=silent)
    return page(shown.rename(columns=headings), _SEARCH_NOTES)


def told_apart(records: Iterable[R]) -> list[R]:
    """Return the records with names for data sets that differ where the images do."""
    every = list(records)
    names = different((record.dataset, record.dataset_sha256) for record in every)
    return [
        msgspec.structs.replace(
            record, dataset=names[record.dataset, record.dataset_sha256]
        )
        for record in every
    ]


def identity(record: Trained) -> dict[str, Any]:
    """Return what every row of a record repeats; IPC 0 is the whole train split."""
    source = record.source
    return {
        "dataset": record.dataset,
        "ipc": source.cell.ipc if source else 0,
        "method": source.method if source else "whole",
        "protocol": record.recipe.protocol.name,
        "preset": record.preset + longform.CHANGED * bool(record.recipe.overrides),
        "recipe": _recipes(record),
    }


def _recipes(record: Trained) -> str:
    """Return the digests of how the set was made and of the recipe of training."""
    evaluated_by = digests.digest(record.recipe)
    return f"{record.source.made}-{evaluated_by}" if record.source else evaluated_by


def _training(record: Candidate) -> str:
    """Return a key that all networks of one search share."""
    sha256 = record.source.sha256 if record.source else ""
    return "-".join([record.dataset_sha256, sha256, _recipes(record)])


def _comparable(candidates: Sequence[Candidate], whole: Sequence[Candidate]) -> bool:
    """Return whether a group and a reference share data, preset and a network."""
    if candidates[0].source is None:
        return candidates is whole
    shared = _by_architecture(candidates).keys() & _by_architecture(whole).keys()
    same_data = candidates[0].dataset_sha256 == whole[0].dataset_sha256
    same_preset = candidates[0].recipe.preset == whole[0].recipe.preset
    return bool(shared) and same_data and same_preset


def _by_architecture(records: Sequence[Candidate]) -> dict[str, Candidate]:
    by_name = {record.architecture: record for record in records}
    return {name: by_name[name] for name in sorted(by_name)}


def _searched(
    candidates: Sequence[Candidate], whole: Sequence[Candidate], top: int
) -> dict[str, Any]:
    """Return the row of a set that is compared with one reference."""
    mine, theirs = _by_architecture(candidates), _by_architecture(whole)
    names = [name for name in mine if name in theirs]
    proxies = [_ranked(mine[name]) for name in names]
    scores = [_scored(theirs[name]) for name in names]
    top = min(top, len(names))
    ranking = nas.search(proxies, scores, top)
    source = candidates[0].source
    return {
        **identity(candidates[0]),
        **{"seed": source.cell.seed if source else 0, "whole": source is None},
        **{"networks": len(names), "top": top, "best": names[ranking.best]},
        **{"spearman": ranking.overall.spearman, "kendall": ranking.overall.kendall},
        "spearman_top": ranking.among_top.spearman,
        "kendall_top": ranking.among_top.kendall,
        "whole_accuracy": 100 * scores[ranking.best],
        "seconds": sum(_seconds(mine[name]) for name in names),
        "recipe": f"{_recipes(candidates[0])}-{_recipes(whole[0])}",
    }


def _ranked(record: Candidate) -> float:
    """Return the mean accuracy on the images that rank."""
    values = [evaluation.validation for evaluation in record.evaluations]
    if None in values:
        raise DataError(
            f"{record.label}: its record has no accuracies to rank by; train it again "
            "with dcbench nas --fresh"
        )
    return sum(value or 0.0 for value in values) / len(values)


def _scored(record: Candidate) -> float:
    """Return the mean accuracy on the other images."""
    values = [evaluation.accuracy for evaluation in record.evaluations]
    return sum(values) / len(values)


def _seconds(record: Candidate) -> float:
    return sum(evaluation.seconds for evaluation in record.evaluations)


def _plural(count: int) -> str:
    return f"{count} class" + "es" * (count != 1)


def _accuracy(cell: Mapping[Hashable, Any] | None, most: int) -> str:
    """Return mean and deviation, and n where it differs from that of other cells."""
    if cell is None:
        return "—"
    mean, std = float(cell["accuracy_mean"]), float(cell["accuracy_std"])
    n = int(cell["n"])
    deviation = f" ± {std:.2f}" if std == std else ""
    missing = "" if n == most else f" (n={n})"
    return f"{mean:.2f}{deviation}{missing}"


def page(table: pd.DataFrame, notes: Sequence[str]) -> Table:
    """Return a table with headings and notes.

    Recipe and preset are shown only where rows differ in them.
    """
    presets = " ".join(table["preset"]).split()
    reduced = [name for name in ("quick", "demo", "set") if name in presets]
    identity = [name for name in (*_ROW[:-1], "seed") if name in table]
    hidden = ["preset"] * (not reduced)
    if not table.duplicated(identity).any():
        hidden.append("recipe")
    shown = table.drop(columns=hidden).rename(columns=_HEADINGS)
    return Table("rows", shown, (*notes, *reduced))
