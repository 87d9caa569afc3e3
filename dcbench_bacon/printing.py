"""Tables as text: CSV for programs, Markdown, LaTeX, HTML and a terminal for people."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from dcbench_bacon.errors import UsageError
from dcbench_bacon.markup import Page, hypertext, latex, markdown
from dcbench_bacon.published import cite

FORMATS = ("md", "csv", "latex", "html")
_SHOWN = ("dataset", "ipc", "method", "architecture", "profile")
_KEYS = (*_SHOWN, "selection", "seed", "stage")
_PERCENT = ("accuracy_mean", "std_sets", "std_networks")
_CAPITALS = ("mnist", "svhn", "dm", "idm", "bacon", "dc", "dsa", "mtt")
_TITLES = {
    **{name: name.upper() for name in _CAPITALS},
    **{"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"},
    **{"cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"},
    **{"imagenet1k": "ImageNet-1K", "imagenet100": "ImageNet-100"},
    **{"bacon+idm": "BACON + IDM", "bacon+dm": "BACON + DM", "digits": "Digits"},
    **{"random": "Random", "herding": "Herding", "whole": "Whole data set"},
    **{"k_center": "K-Center", "k_means": "K-Means"},
}
_MARKS = {"best_test": "†", "best_val": "‡"}
_NOTES = {
    "best_test": "† Chosen on the test set: optimistic.",
    "best_val": "‡ Pass chosen on a validation split held out of train.",
    "final": "Without a mark: accuracy after the last pass (selection final).",
    "quick": "Profile quick: a reduced recipe, not comparable with published numbers.",
    "demo": "Profile demo: a reduced recipe, not comparable with published numbers.",
    "set": "Profile with set: keys of the recipe were overridden with --set.",
    "std": "Accuracy in percent: mean ± sample standard deviation (n - 1 in the "
    "denominator) over n trained networks, all networks and seeds pooled.",
    "difference": "Difference: measured minus published, in percentage points.",
    "unpublished": "No published number exists for these cells.",
    "published": "Where sources differ, the newest comparison by BACON's authors comes "
    "first, then each method's README, then others.",
    "sets": "Between sets: standard deviation over seeds of the means per seed. "
    "Between networks: mean over seeds of the deviation within a seed (n - 1 both).",
    "quality": "Distances to test images in feature space; (real): of as many random "
    "training images. MMD²: unbiased, Gaussian kernel as wide as the median distance "
    "of real images; around 0, also below it, if nothing tells the images apart. "
    "Fréchet: of fitted Gaussians; larger for fewer images: compare sets of one size.",
    "agreement": "Agreement: share of images whose nearest prompt ('a photo of a ...') "
    "is that of their class.",
    "transfer": "Rows: the set, by its method and the network it was distilled on. "
    "Columns: the network that was trained on it and tested.",
    "gain": "Over another method: percentage points above as many images of it, with a "
    "95 % bootstrap interval (10,000 resamples of sets, then of networks; with one set "
    "it holds the variation between networks alone).",
    "scores": "HLR: whole training set minus this set, IOR: this set minus random, "
    "LRS and ARS: label- and augmentation-robust scores of DD-Ranking; fractions. HLR "
    "and LRS are of hard labels.",
    "timing": "Step: the median, with the distance of its quartiles (IQR); phases: the "
    "mean of a step.",
    "references": "A dash: no record of random images (or of the whole training set, "
    "for HLR and LRS; with and without augmentation, for ARS) under the same protocol. "
    "`dcbench run --references` makes them. The whole training set may have a number "
    "of passes of its own.",
    "cost": "Seconds: to distil a set, and to train and test the networks of the row "
    "on it; means over sets. Size: images and labels as stored, labels in brackets.",
}


_HEADINGS = {
    **{"dataset": "Data set", "ipc": "IPC", "method": "Method", "error": "Error"},
    **{"architecture": "Network", "profile": "Profile", "selection": "Selection"},
    **{"seed": "Seed", "status": "Status", "stage": "Stage", "steps": "Steps"},
    **{"accuracy_mean": "Mean (%)", "sets": "Sets", "networks": "Networks"},
    **{"std_sets": "Between sets", "std_networks": "Between networks"},
    **{"median_seconds": "Step (s)", "iqr_seconds": "IQR (s)", "n": "n"},
    **{"data_ms": "Data (ms)", "augmentation_ms": "Augmentation (ms)"},
    **{"real_forward_ms": "Real forward (ms)", "synthetic_ms": "Synthetic (ms)"},
    **{"queue_ms": "Queue (ms)", "update_ms": "Update (ms)"},
    **{"other_ms": "Other (ms)", "images_per_second": "Images/s"},
    **{"tflops": "TFLOP/s", "share": "Of a matrix product (%)"},
    **{"peak_gb": "Peak (GB)", "device": "Device", "torch": "torch"},
    **{"set": "Set", "images": "Images", "features": "Features"},
    **{"mmd": "MMD²", "mmd_real": "MMD² (real)"},
    **{"frechet": "Fréchet", "frechet_real": "Fréchet (real)"},
    **{"agreement": "Agreement", "agreement_real": "Agreement (real)"},
    **{"hlr": "HLR", "ior": "IOR", "lrs": "LRS", "ars": "ARS"},
    **{"distilled_on": "Distilled on", "distillation_seconds": "Distil (s)"},
    "evaluation_seconds": "Evaluate (s)",
}


def title(name: str) -> str:
    """What people call a data set or a method."""
    return _TITLES.get(name, name)


def _number(value: object, column: str = "") -> str:
    """A cell of any column: few digits, a dash where there is nothing."""
    if column == "ipc" and value == 0:
        return "all"
    if not isinstance(value, float):
        return title(str(value))
    if value != value:
        return "—"
    if column in _PERCENT:
        return f"{value:.2f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _ambiguous(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether rows differ in nothing that is shown but their recipe."""
    return table.index.name == "recipe" and bool(table.duplicated(list(columns)).any())


def _reduced(table: pd.DataFrame) -> list[str]:
    """What sets the records apart from the published recipes."""
    profiles = " ".join(table["profile"]).split()
    return [name for name in ("quick", "demo", "set") if name in profiles]


def _chosen(table: pd.DataFrame) -> list[str]:
    """The selections of the records, those that are marked first."""
    return [name for name in (*_MARKS, "final") if name in set(table["selection"])]


def moments(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample deviation (n - 1) in percent of fractions.

    Sums are exact, so that neither order nor precision decides a printed digit. The
    deviation of a single number is NaN.
    """
    count = len(accuracies)
    mean = math.fsum(accuracies) / count
    if count < 2:
        return _tidy(mean), math.nan
    squares = math.fsum((each - mean) ** 2 for each in accuracies)
    return _tidy(mean), 100 * math.sqrt(squares / (count - 1))


def _tidy(mean: float) -> float:
    """In percent: 62.06, not 62.06000000000001."""
    return round(100 * mean, 9)


def accuracy(mean: float, deviation: float, count: int) -> str:
    """Return mean, deviation and n as every table and command prints them."""
    spread = f" ± {deviation:.2f}" if deviation == deviation else ""
    return f"{mean:.2f}{spread} (n={count})"


def _accuracy(row: Mapping[Any, Any]) -> str:
    """Mean and deviation, and a mark if the pass was chosen."""
    text = accuracy(row["accuracy_mean"], row["accuracy_std"], row["n"])
    return text + _MARKS.get(row["selection"], "")


def _compare(table: pd.DataFrame) -> Page:
    """A summary in words: measured beside published, with marks and footnotes."""
    cited = [str(key) for key in dict.fromkeys(table["published_source"]) if key]
    headings = ["Data set", "IPC", "Method", "Network", "Measured (%)"]
    headings += ["Published (%)", "Difference"] * bool(cited)
    reduced, recipe = _reduced(table), _ambiguous(table, (*_SHOWN, "selection"))
    headings += ["Profile"] * bool(reduced) + ["Recipe"] * recipe
    rows = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        published = difference = "—"
        if row["published_source"]:
            number = cited.index(row["published_source"]) + 1
            published = f"{row['published_mean']} [{number}]"
            difference = f"{round(row['difference'], 2) + 0.0:+.2f}"
        texts = [_number(row[name], name) for name in _SHOWN[:4]]
        texts += [_accuracy(row)] + [published, difference] * bool(cited)
        texts += [str(row["profile"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    compared = ("difference", "published") if cited else ("unpublished",)
    notes = [_NOTES[name] for name in ("std", *_chosen(table), *reduced, *compared)]
    notes += [f"[{i}] {cite(key)}" for i, key in enumerate(cited, 1)]
    return Page(headings, rows, notes)


def _matrix(table: pd.DataFrame) -> Page:
    """Sets against the networks trained on them."""
    networks = list(dict.fromkeys(table["architecture"]))
    reduced = _reduced(table)
    shown = ["dataset", "ipc", "method", "distilled_on"] + ["profile"] * bool(reduced)
    sets = table[~table.index.duplicated()]  # a row of the page each
    recipe = _ambiguous(sets, (*shown, "selection"))
    headings = [_HEADINGS[name] for name in shown] + ["Recipe"] * recipe + networks
    rows = []
    groups = table.groupby(["recipe", *shown, "selection"], sort=False)
    for _, group in groups:
        cells = {row["architecture"]: row for row in group.to_dict("records")}
        first = group.iloc[0]
        texts = [_number(first[name], name) or "—" for name in shown]
        texts += [str(group.index[0])] * recipe
        texts += [_accuracy(cells[n]) if n in cells else "—" for n in networks]
        rows.append(texts)
    notes = ("transfer", "std", *_chosen(table), *reduced)
    return Page(headings, rows, [_NOTES[name] for name in notes])


def _scored(table: pd.DataFrame) -> Page:
    """Scores in words: the difference with its interval, the size with the labels'."""
    reduced, recipe = _reduced(table), _ambiguous(table, (*_SHOWN, "selection"))
    fractions = ("hlr", "ior", "lrs", "ars")
    costs = ("distillation_seconds", "evaluation_seconds")
    headings = [_HEADINGS[name] for name in _SHOWN[:4]]
    headings += ["Mean (%)", "Between sets", "Between networks", "Sets", "n"]
    against = table["against"].iloc[0] if len(table) else "random"
    headings += [
        f"Over {title(against)}",
        *(_HEADINGS[name] for name in (*fractions, *costs)),
    ]
    headings += ["Size (kB)"] + ["Profile"] * bool(reduced) + ["Recipe"] * recipe
    rows = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        texts = [_number(row[name], name) for name in _SHOWN[:4]]
        texts.append(f"{row['accuracy_mean']:.2f}{_MARKS.get(row['selection'], '')}")
        texts += [_number(row[name], name) for name in ("std_sets", "std_networks")]
        texts += [str(row["sets"]), str(row["n"]), _interval(row)]
        texts += [_score(row[name]) for name in fractions]
        texts += [_number(row[name]) for name in costs] + [_size(row)]
        texts += [str(row["profile"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    told = ("sets", *_chosen(table), *reduced)
    notes = (*told, "gain", "scores", "references", "cost")
    return Page(headings, rows, [_NOTES[name] for name in notes])


def _interval(row: Mapping[Any, Any]) -> str:
    """A difference in percentage points with the bounds of its interval."""
    difference, low, high = (row[f"gain{bound}"] for bound in ("", "_low", "_high"))
    if difference != difference:
        return "—"
    bounds = "" if low != low else f" [{low:+.2f}, {high:+.2f}]"
    return f"{difference:+.2f}{bounds}"


def _score(value: float) -> str:
    """A score with three digits behind the point."""
    return "—" if value != value else f"{value:.3f}"


def _size(row: Mapping[Any, Any]) -> str:
    """Thousands of bytes, those of the labels in brackets."""
    whole, labels = row["set_bytes"], row["label_bytes"]
    if whole != whole:
        return "—"
    return f"{whole / 1e3:.1f}" + (f" ({labels / 1e3:.1f})" if labels == labels else "")


def _page(table: pd.DataFrame) -> Page:
    """Any table of this module with headings and rounded numbers."""
    if "published_source" in table:
        return _compare(table)
    if "distilled_on" in table:
        return _matrix(table)
    if "lrs" in table:
        return _scored(table)
    notes = [_NOTES.get(note, note) for note in table.attrs.get("notes", ())]
    table = table.dropna(axis=1, how="all") if len(table) else table
    names = [str(name) for name in table.columns]
    headings = [_HEADINGS.get(name, name) for name in names]
    rows = [
        [_number(cell, column) for cell, column in zip(row, names, strict=True)]
        for row in table.itertuples(index=False)
    ]
    if _ambiguous(
        table,
        [name for name in names if name in _KEYS],
    ):
        headings.append("Recipe")
        for row, recipe in zip(rows, table.index, strict=True):
            row.append(str(recipe))
    notes += [_NOTES["sets"]] if "std_sets" in table else []
    notes += [_NOTES["timing"]] if "median_seconds" in table else []
    return Page(headings, rows, notes)


def render(table: pd.DataFrame, format: str) -> str:
    """Text of any table of this module.

    Args:
        table: from ``summary``, ``spread``, ``timing``, ``unfinished``, or from
            ``transfer`` or ``scores`` of ``comparison``.
        format: ``csv`` for programs (plain names, eight digits), ``md``, ``latex``
            or ``html`` for people (titles, marks, footnotes).

    Raises:
        UsageError: there is no such format.
    """
    if format == "csv":
        text: str = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
        return text
    writers = {"md": markdown, "latex": latex, "html": hypertext}
    if format not in writers:
        raise UsageError(f"unknown format {format!r}; there are: {', '.join(FORMATS)}")
    return writers[format](_page(table))


def to_rich(table: pd.DataFrame) -> Table:
    """The same for a terminal."""
    page = _page(table)
    notes = Text("\n".join(page.notes))
    printed = Table(caption=notes, caption_justify="left")
    for heading, right in zip(page.headings, page.right, strict=True):
        printed.add_column(heading, justify="right" if right else "left")
    for number, row in enumerate(page.rows):
        if page.opens(number):
            printed.add_section()
        printed.add_row(*(Text(cell) for cell in row))
    return printed
