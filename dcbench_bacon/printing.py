"""Tables as text: CSV for programs, Markdown, LaTeX, HTML and a terminal for people."""

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from dcbench_bacon.errors import UsageError
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
}
_LEFT = {
    *("Data set", "Method", "Network", "Profile", "Recipe", "Selection"),
    *("Stage", "Status", "Error", "Device", "torch"),
}
_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"},
    **{"^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$"},
    **{">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"‡": r"$^\ddagger$", "—": "---", "<": r"\textless{}"},
}
_CSS = """body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:70rem;
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;
border-top:2px solid;border-bottom:2px solid;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .75rem;text-align:left;white-space:nowrap}
th{border-bottom:1px solid}.r{text-align:right}.g td{border-top:1px solid #bbb}
tbody tr:hover{background:#f2f5f9}ul{list-style:none;padding:0;font-size:.85rem;
color:#555}div{overflow-x:auto}"""


class _Page(NamedTuple):
    """A table as people read it, before any markup."""

    headings: list[str]
    rows: list[list[str]]
    notes: list[str]

    @property
    def right(self) -> list[bool]:
        """Which columns hold numbers."""
        return [heading not in _LEFT for heading in self.headings]

    def opens(self, row: int) -> bool:
        """Whether a row starts another data set or number of images per class."""
        return row > 0 and self.rows[row][:2] != self.rows[row - 1][:2]


def _number(value: object, column: str = "") -> str:
    """A cell of any column: few digits, a dash where there is nothing."""
    if column == "ipc" and value == 0:
        return "all"
    if not isinstance(value, float):
        return _TITLES.get(str(value), str(value))
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


def _compare(table: pd.DataFrame) -> _Page:
    """A summary in words: measured beside published, with marks and footnotes."""
    cited = [str(key) for key in dict.fromkeys(table["published_source"]) if key]
    headings = ["Data set", "IPC", "Method", "Network", "Measured (%)"]
    headings += ["Published (%)", "Difference"] * bool(cited)
    profiles = " ".join(table["profile"]).split()
    reduced = [name for name in ("quick", "demo", "set") if name in profiles]
    recipe = _ambiguous(table, (*_SHOWN, "selection"))
    headings += ["Profile"] * bool(reduced) + ["Recipe"] * recipe
    rows = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        mean, std = row["accuracy_mean"], row["accuracy_std"]
        measured = f"{mean:.2f}" + (f" ± {std:.2f}" if std == std else "")
        measured += f" (n={row['n']}){_MARKS.get(row['selection'], '')}"
        published = difference = "—"
        if row["published_source"]:
            number = cited.index(row["published_source"]) + 1
            published = f"{row['published_mean']} [{number}]"
            difference = f"{round(row['difference'], 2) + 0.0:+.2f}"
        texts = [_number(row[name], name) for name in _SHOWN[:4]]
        texts += [measured] + [published, difference] * bool(cited)
        texts += [str(row["profile"])] * bool(reduced) + [str(index)] * recipe
        rows.append(texts)
    chosen = [name for name in _MARKS if name in set(table["selection"])]
    compared = ("difference", "published") if cited else ("unpublished",)
    notes = [_NOTES[name] for name in ("std", *chosen, *reduced, *compared)]
    notes += [f"[{i}] {cite(key)}" for i, key in enumerate(cited, 1)]
    return _Page(headings, rows, notes)


def _page(table: pd.DataFrame) -> _Page:
    """Any table of this module with headings and rounded numbers."""
    if "published_source" in table:
        return _compare(table)
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
    return _Page(headings, rows, notes)


def _markdown(page: _Page) -> str:
    """A pipe table and a list of footnotes."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in page.rows]
    align = ["right" if right else "left" for right in page.right]
    body = tabulate(
        cells,
        page.headings,
        tablefmt="pipe",
        disable_numparse=True,
        colalign=align if cells else None,
    )
    notes = "".join(f"- {note}\n" for note in page.notes)
    return f"{body}\n" + (f"\n{notes}" if notes else "")


def _tex(text: str) -> str:
    """Text with everything escaped that LaTeX would read as a command."""
    escaped = "".join(_TEX.get(char, char) for char in text)
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escaped)


def _latex(page: _Page) -> str:
    """A ``table`` of booktabs rules, with the footnotes below it."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(_tex(cell) for cell in cells) + r" \\"

    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    align = "".join("r" if right else "l" for right in page.right)
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines += [line(page.headings), r"\midrule"]
    for number, row in enumerate(page.rows):
        lines += [r"\midrule"] * page.opens(number) + [line(row)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if page.notes:
        lines += [r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        lines += [rf"{_tex(note)}\par" for note in page.notes] + [r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _html(page: _Page) -> str:
    """One page that needs no other file."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=r' * right}>{html.escape(cell)}</{tag}>"
            for cell, right in zip(cells, page.right, strict=True)
        )

    rows = "\n".join(
        f"<tr{' class=g' * page.opens(number)}>{line('td', row)}</tr>"
        for number, row in enumerate(page.rows)
    )
    notes = "\n".join(f"<li>{html.escape(note)}</li>" for note in page.notes)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>dcbench</title>\n<style>\n{_CSS}\n</style>\n</head>\n<body>\n"
        f"<h1>dcbench</h1>\n<div><table>\n<thead><tr>{line('th', page.headings)}"
        f"</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n"
        f"<ul>\n{notes}\n</ul>\n</body>\n</html>\n"
    )


def render(table: pd.DataFrame, format: str) -> str:
    """Text of any table of this module.

    Args:
        table: from ``summary``, ``spread``, ``timing`` or ``unfinished``.
        format: ``csv`` for programs (plain names, eight digits), ``md``, ``latex``
            or ``html`` for people (titles, marks, footnotes).

    Raises:
        UsageError: there is no such format.
    """
    if format == "csv":
        text: str = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
        return text
    writers = {"md": _markdown, "latex": _latex, "html": _html}
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
