"""Sum up the cost of sets: bytes, updates, images, seconds and memory."""

from collections.abc import Sequence

import pandas as pd

from dcbench_bacon.reporting.literature.references import SetResults, results_of
from dcbench_bacon.reporting.numbers import scores as formulas

COST = [
    *("dataset", "ipc", "method", "architecture", "protocol", "accuracy_mean"),
    *("sets", "images", "set_bytes", "label_bytes", "updates", "images_seen"),
    *("distillation_seconds", "evaluation_seconds", "peak_bytes", "device"),
    *("preset", "selection", "overrides"),
]
_OF_A_SET = [
    *("images", "set_bytes", "label_bytes", "updates", "images_seen"),
    *("distillation_seconds", "peak_bytes"),
]
_SAME_SET = ["dataset", "ipc", "method", "set", "seed", "synthetic_sha256"]


def cost(frame: pd.DataFrame, *, presets: Sequence[str] = ("paper",)) -> pd.DataFrame:
    """Return what each set costs, one row per set, network and protocol.

    Bytes are those of images and labels as stored. Updates are the steps of all stages
    of the distillation, and images seen those that went through a network in them.
    Seconds are of a distillation, and of training and testing the networks of the row
    on one set. All are means over sets; what is not known is missing, such as the
    distillation of a set that was read from a file without the record of its run. The
    device is that of the distillation and, if another, that of the evaluation.

    Args:
        frame: the long form of ``longform.frame``; only records that are done count.
        presets: the presets whose records are used.
    """
    rows = [
        {
            **result.key,
            "accuracy_mean": round(100 * formulas.mean(result.accuracies), 9),
            "sets": result.rows["seed"].nunique(),
            "device": result.rows["device"].iloc[0],
            "overrides": result.overrides,
            **cost_of(result),
            "recipe": result.recipe,
        }
        for result in results_of(_completed(frame), presets)
    ]
    numbers = ("accuracy_mean", "evaluation_seconds", *_OF_A_SET)
    table = pd.DataFrame(rows, columns=[*COST, "recipe"]).set_index("recipe")
    return table.astype(dict.fromkeys(numbers, float))


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations, each with what any record states about its set."""
    if frame.empty:
        return frame
    sets = frame.groupby(_SAME_SET)
    known = {
        name: frame[name].where(frame[name].notna(), sets[name].transform("first"))
        for name in _OF_A_SET
    }
    devices = sets["device"].transform(lambda names: ", ".join(dict.fromkeys(names)))
    return frame.assign(**known, device=devices)


def cost_of(result: SetResults) -> dict[str, float]:
    """Return the bytes, updates, images, seconds and memory, as means over sets."""
    sets = result.rows.groupby("seed")
    means = sets[_OF_A_SET].first().astype(float).mean()
    spent = float(sets["seconds"].sum().mean())
    return {"evaluation_seconds": spent} | {n: float(means[n]) for n in _OF_A_SET}
