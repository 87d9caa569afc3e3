"""Pages of tables in Markdown, LaTeX and HTML."""

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

from tabulate import tabulate

from dcbench_bacon.reporting.wording import LETTERS

_LEFT = {
    *("Data set", "Method", "Network", "Preset", "Recipe", "Selection"),
    *("Stage", "Status", "Error", "Device", "torch", "Distilled on"),
    *("Set", "Features", "Protocol"),
}
_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"},
    **{"^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$"},
    **{">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"‡": r"$^\ddagger$", "—": "---", "<": r"\textless{}"},
}


_TEX |= {raised: rf"$^\mathrm{{{letter}}}$" for raised, letter in LETTERS.items()}


_CSS = """body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:70rem;
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;
border-top:2px solid;border-bottom:2px solid;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .75rem;text-align:left;white-space:nowrap}
th{border-bottom:1px solid}.r{text-align:right}.g td{border-top:1px solid #bbb}
tbody tr:hover{background:#f2f5f9}ul{list-style:none;padding:0;font-size:.85rem;
color:#555}div{overflow-x:auto}"""


class Page(NamedTuple):
    """A table as people read it, before any markup.

    Attributes:
        headings: headings of the columns.
        rows: texts of the cells.
        notes: footnotes below the table.
    """

    headings: list[str]
    rows: list[list[str]]
    notes: list[str]

    @property
    def right(self) -> list[bool]:
        """Return for each column whether it contains numbers."""
        return [heading not in _LEFT for heading in self.headings]

    def opens(self, row: int) -> bool:
        """Return whether a row starts another data set or number of images."""
        return row > 0 and self.rows[row][:2] != self.rows[row - 1][:2]


def markdown(page: Page) -> str:
    """Return a pipe table and a list of footnotes."""
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
    """Return a text in which everything is escaped that LaTeX reads as a command."""
    escaped = "".join(_TEX.get(char, char) for char in text)
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escaped)


def latex(page: Page) -> str:
    """Return a ``table`` with booktabs rules and the footnotes below it."""

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


def hypertext(page: Page) -> str:
    """Return an HTML page that needs no other file."""

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
