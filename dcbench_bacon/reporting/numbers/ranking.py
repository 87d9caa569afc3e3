"""Methods over all data sets: ranks, and comparisons by paired intervals.

A case is where methods are compared: a data set, a number of images per class, a
network, and how networks are trained and chosen. A competitor is a method with what
``--set`` changed of its recipe.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import Any

import pandas as pd

from dcbench_bacon.reporting.literature.references import (
    RANDOM,
    WHOLE,
    SetResults,
    results_of,
)
from dcbench_bacon.reporting.numbers import longform, scores
from dcbench_bacon.reporting.numbers.longform import CHANGED
from dcbench_bacon.reporting.wording import title

OUTCOMES = ("wins", "ties", "losses", "untested")
RANKING = [
    *("method", "own_overrides", "mean_rank", "best", "cases", *OUTCOMES),
    *("preset", "selection"),
]
_CASE = ["dataset", "ipc", "architecture", "protocol", "judging_overrides", "selection"]

Competitor = tuple[str, str]
Case = dict[Competitor, SetResults]


def ranking(
    frame: pd.DataFrame,
    *,
    presets: Sequence[str] = ("paper",),
    against: str | None = None,
) -> pd.DataFrame:
    """Return the mean rank of each method, its wins, its ties and its losses.

    Ranks are those of mean accuracies among the methods of a case, 1 for the best;
    equal means share the mean of their ranks. ``best`` is the number of cases in which
    no other mean is higher. A win or a loss is a comparison with another method in a
    case whose ``scores.paired_interval`` does not contain 0, a tie one whose interval
    does; ``untested`` are those without an interval. Cases with one competitor do not
    count, nor does the whole training set.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
        against: the one method that the others are compared with; None for all.
    """
    rows: dict[Competitor, list[dict[str, Any]]] = {}
    for case in _cases(frame, presets):
        for competitor, row in _placed(case, against).items():
            rows.setdefault(competitor, []).append(row)
    table = longform.build([_summed(*item) for item in rows.items()], RANKING)
    order = ["mean_rank", "method", "own_overrides"]
    return longform.ordered(table.astype({"mean_rank": float}), order)


def order_of(frame: pd.DataFrame, *, presets: Sequence[str] = ("paper",)) -> list[str]:
    """Return sentences on what the order of methods is worth, two per case.

    The first names the methods above random images by more than a 95 % interval, the
    second the pairs of other methods that have no order, as their interval contains 0
    or there are too few networks for one.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
    """
    cases = list(_cases(frame, presets))
    places = [next(iter(case.values())).rows.iloc[0] for case in cases]
    several = {
        name: len({str(place[name]) for place in places}) > 1
        for name in ("architecture", "protocol", "judging_overrides", "selection")
    }
    sentences = []
    for case, place in zip(cases, places, strict=True):
        ranked = sorted(
            case, key=lambda competitor: -scores.mean(case[competitor].accuracies)
        )
        others = [competitor for competitor in ranked if competitor[0] != RANDOM]
        where = ", ".join(
            (
                title(str(place["dataset"])),
                f"IPC {place['ipc']}",
                *(str(place[name]) for name, differs in several.items() if differs),
            )
        )
        random = next(
            (case[competitor] for competitor in ranked if competitor[0] == RANDOM), None
        )
        if random is not None and others:
            above = [
                competitor
                for competitor in others
                if _outcome(case[competitor], random) == "wins"
            ]
            names = ", ".join(map(_named, above)) or "none"
            sentences.append(
                f"{where}: above random images by more than a 95 % interval: {names}."
            )
        if open_ := [_listed(group) for group in _without_order(others, case)]:
            sentences.append(f"{where}: no order between {'; '.join(open_)}.")
    return sentences


def _without_order(
    ranked: Sequence[Competitor], case: Case
) -> list[tuple[Competitor, ...]]:
    """Return the competitors that have no order: neighbours together, then pairs.

    Args:
        ranked: the competitors by their mean.
        case: their results.
    """
    open_ = {
        pair
        for pair in combinations(ranked, 2)
        if _outcome(case[pair[0]], case[pair[1]]) in ("ties", "untested")
    }
    groups: list[tuple[Competitor, ...]] = []
    told: set[tuple[Competitor, ...]] = set()
    for first in range(len(ranked)):
        for end in range(len(ranked), first + 1, -1):
            pairs = set(combinations(ranked[first:end], 2))
            if pairs <= open_ and not pairs <= told:
                groups.append(tuple(ranked[first:end]))
                told |= pairs
    return [*groups, *(p for p in combinations(ranked, 2) if p in open_ - told)]


def _listed(competitors: Sequence[Competitor]) -> str:
    """Return names as text, such as DM, IDM and BACON."""
    *names, last = map(_named, competitors)
    return f"{', '.join(names)} and {last}"


def _named(competitor: Competitor) -> str:
    """Return the title of a method, with what --set changed of its recipe."""
    method, overrides = competitor
    return title(method) + (f" ({overrides})" if overrides else "")


def _cases(frame: pd.DataFrame, presets: Sequence[str]) -> Iterator[Case]:
    """Yield the cases that have several competitors.

    Of several results of one competitor in a case, the newest is used.
    """
    cases: dict[tuple[Any, ...], Case] = {}
    for result in results_of(frame, presets):
        first = result.rows.iloc[0]
        if first["method"] == WHOLE:
            continue
        preset = str(first["preset"]).removesuffix(CHANGED)
        case = cases.setdefault((preset, *first[_CASE]), {})
        competitor = str(first["method"]), str(first["own_overrides"])
        known = case.get(competitor)
        if known is None or _age(known) < _age(result):
            case[competitor] = result
    return (case for case in cases.values() if len(case) > 1)


def _age(result: SetResults) -> tuple[str, str]:
    """Return a key that is higher for a newer result."""
    return str(result.rows["made"].max()), result.recipe


def _placed(case: Case, against: str | None) -> dict[Competitor, dict[str, Any]]:
    """Return the rank and the outcomes of each competitor in a case."""
    means = {
        competitor: scores.mean(result.accuracies)
        for competitor, result in case.items()
    }
    places = pd.Series(list(means.values())).round(9).rank(ascending=False)
    standings: dict[Competitor, dict[str, Any]] = {
        competitor: {
            **{"rank": place, "best": means[competitor] == max(means.values())},
            **dict.fromkeys(OUTCOMES, 0),
            "preset": case[competitor].key["preset"],
            "selection": case[competitor].key["selection"],
        }
        for competitor, place in zip(means, places, strict=True)
    }
    for ours, theirs in permutations(case, 2):
        if against in (None, theirs[0]) and against != ours[0]:
            standings[ours][_outcome(case[ours], case[theirs])] += 1
    return standings


def _outcome(ours: SetResults, theirs: SetResults) -> str:
    """Return which of ``OUTCOMES`` a comparison has."""
    _, low, high = scores.paired_interval(ours.networks, theirs.networks)
    if low != low:
        return "untested"
    return "wins" if low > 0 else "losses" if high < 0 else "ties"


def _summed(competitor: Competitor, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a competitor."""
    words = {
        name: " and ".join(dict.fromkeys(case[name] for case in cases))
        for name in ("preset", "selection")
    }
    return {
        **dict(zip(RANKING[:2], competitor, strict=True)),
        "mean_rank": round(sum(case["rank"] for case in cases) / len(cases), 9),
        "cases": len(cases),
        **{name: sum(case[name] for case in cases) for name in ("best", *OUTCOMES)},
        **words,
    }
