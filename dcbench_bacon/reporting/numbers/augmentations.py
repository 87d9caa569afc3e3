"""Accuracies of sets under several augmentations: the mean, the best, and transfer.

The table is made from the long form of ``longform.frame``. It has the rows of protocols
whose networks were trained under several augmentations, such as ``dc_bench``, beside
the three accuracies that DC-BENCH prints.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature import agreement, published
from dcbench_bacon.reporting.literature.metrics import PER_AUGMENTATION
from dcbench_bacon.reporting.literature.published import PublishedNumber
from dcbench_bacon.reporting.literature.references import SetResults, results_of
from dcbench_bacon.reporting.numbers import tables
from dcbench_bacon.reporting.numbers.accuracies import moments

AUGMENTATIONS = [
    *("dataset", "ipc", "method", "architecture", "protocol"),
    *("mean", "published_mean", "difference_mean"),
    *("best", "best_augmentation", "published_best", "difference_best"),
    *("transfer", "networks", "published_transfer"),
    *("n", "sets", "published_source", "preset", "selection"),
]
_OPERATIONS = frozenset({"color", "crop", "cutout", "flip", "scale", "rotate"})
_NUMBERS = [
    *("mean", "published_mean", "difference_mean", "best", "published_best"),
    *("difference_best", "transfer", "published_transfer"),
]


def augmentations(
    frame: pd.DataFrame,
    *,
    presets: Sequence[str] = ("paper",),
    source: str | None = None,
) -> pd.DataFrame:
    """Return accuracies in percent per augmentation, one row per set and network.

    ``mean`` is the mean over augmentations of the mean accuracies under each, and
    ``best`` the largest of these means, so that it is chosen on test. ``transfer`` is
    the mean over the other ``networks`` that were trained on the same set, each over
    all augmentations; it stands in the row of the network that the set was distilled
    on. The columns after ``selection`` are the means under each augmentation.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
        source: a name of ``published.named``; None for all sources.
    """
    several = [
        result
        for result in results_of(frame, presets)
        if result.rows["augmentation"].nunique() > 1
    ]
    rows, names = [], dict.fromkeys(_NUMBERS, float)
    for result in several:
        means = _means(result)
        names |= dict.fromkeys(means, float)
        rows.append(
            {**result.key, **_measured(result, means, several), **means}
            | {"recipe": result.recipe}
        )
        at_home = result.key["architecture"] == _home(result, several)
        rows[-1] |= _beside(result, rows[-1], source, transfer=at_home)
    columns = [*AUGMENTATIONS, *(name for name in names if name not in _NUMBERS)]
    table = pd.DataFrame(rows, columns=[*columns, "recipe"]).set_index("recipe")
    return table.astype(names)


def short(augmentation: str) -> str:
    """Return ``DSA`` for a strategy of DSA's operations, and other names as they are.

    Digits have a strategy without ``flip``, and share a column with other images.
    """
    return "DSA" if set(augmentation.split("_")) <= _OPERATIONS else augmentation


def _means(result: SetResults) -> dict[str, float]:
    """Return the mean accuracy in percent under each augmentation."""
    groups = result.rows.groupby("augmentation", sort=False)["accuracy"]
    means = {str(name): moments(list(group))[0] for name, group in groups}
    shortened = {short(name): mean for name, mean in means.items()}
    return shortened if len(shortened) == len(means) else means


def _measured(
    result: SetResults, means: dict[str, float], results: Sequence[SetResults]
) -> dict[str, Any]:
    """Return the mean, the best and the transfer of a result."""
    best = max(means, key=lambda name: means[name])
    others = [_mean(_means(other).values()) for other in _others(result, results)]
    return {
        "mean": _mean(means.values()),
        **{"best": means[best], "best_augmentation": best},
        **{"transfer": _mean(others) if others else None, "networks": len(others)},
        **{"n": len(result.rows), "sets": result.rows["seed"].nunique()},
    }


def _mean(percentages: Iterable[float]) -> float:
    """Return the mean of percentages."""
    return moments([percentage / 100 for percentage in percentages])[0]


def _others(result: SetResults, results: Sequence[SetResults]) -> list[SetResults]:
    """Return the other networks trained on a set, beside that of its distillation."""
    home = _home(result, results)
    if result.key["architecture"] != home:
        return []
    alike = _of_one_set(result, results)
    return [other for other in alike if other.key["architecture"] != home]


def _home(result: SetResults, results: Sequence[SetResults]) -> str:
    """Return the network of the distillation, or the first of a set without one."""
    first = _of_one_set(result, results)[0].key["architecture"]
    return str(result.key["distilled_on"] or first)


def _of_one_set(result: SetResults, results: Sequence[SetResults]) -> list[SetResults]:
    """Return the results of all networks trained on a set."""
    same = {key: value for key, value in result.key.items() if key != "architecture"}
    return [other for other in results if same.items() <= other.key.items()]


def _beside(
    result: SetResults, row: dict[str, Any], source: str | None, *, transfer: bool
) -> dict[str, Any]:
    """Return the published mean, best and transfer, and what may be subtracted."""
    cell = (str(row["method"]), str(row["dataset"]), int(row["ipc"]))
    measured = tables.measured_row(result.rows)
    columns: dict[str, Any] = {"published_source": ""}
    for name, metric in PER_AUGMENTATION.items():
        number = _number(cell, metric, str(row["architecture"]), source)
        if number is None or (name == "transfer" and not transfer):
            continue
        columns["published_source"] = number.source
        columns[f"published_{name}"] = number.mean
        judged = measured._replace(selection="best_test" if name == "best" else "final")
        if not agreement.obstacles(judged, number):
            columns[f"difference_{name}"] = round(row[name] - number.mean, 9)
    return columns


def _number(
    cell: tuple[str, str, int], metric: str, architecture: str, source: str | None
) -> PublishedNumber | None:
    """Return the published number of a metric; transfer is of no one network."""
    network = "transfer" if metric.endswith("_transfer") else architecture
    where = published.named(source)
    for row in published.sources(*cell, metrics=(metric,)):
        if row.architecture == network and row.source in where:
            return row
    return None
