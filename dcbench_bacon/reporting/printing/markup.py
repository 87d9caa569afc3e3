"""Pages of tables in Markdown, LaTeX and HTML.

pandas and tabulate lay the tables out. The texts are escaped here, by one rule for
cells, headings, captions and notes, because the rule of pandas leaves ``±``, ``<`` and
raised letters as they are, which LaTeX does not print.
"""

import html
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler
from tabulate import tabulate

from dcbench_bacon.reporting.table import Marked, Page, Text
from dcbench_bacon.reporting.wording import LETTERS

_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"},
    **{"^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$"},
    **{">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"‡": r"$^\ddagger$", "—": "---", "<": r"\textless{}", "²": "$^2$"},
    **{raised: rf"$^\mathrm{{{plain}}}$" for raised, plain in LETTERS.items()},
}
_PREAMBLE = (
    "% needs \\usepackage{booktabs} and \\usepackage{graphicx}; across two columns: "
    "table* instead of table"
)
_CSS = """body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:90rem;
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;
border-top:2px solid;border-bottom:2px solid;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.5rem 0}
th,td{padding:.25rem .75rem;text-align:left;white-space:nowrap}
th{border-bottom:1px solid}td.g{border-top:1px solid #bbb}
tbody tr:hover{background:#f2f5f9}ul{list-style:none;padding:0;font-size:.85rem;
color:#555}div{overflow-x:auto}"""

Escape = Callable[[str], str]


def _texts(page: Page, escape: Escape, marks: dict[str, str]) -> list[list[str]]:
    """Return the escaped cells.

    Args:
        page: the page.
        escape: the rule of the format.
        marks: how the format prints the best and the second best, with ``{}`` for the
            text.
    """

    def text(cell: Text) -> str:
        if not isinstance(cell, Marked):
            return escape(cell)
        first = marks.get(cell.emphasis, "{}").replace("{}", escape(cell.text))
        return f"{first} {escape(cell.rest)}".strip()

    return [[text(cell) for cell in row] for row in page.rows]


def markdown(page: Page) -> str:
    """Return the caption, a pipe table and a list of footnotes."""
    marks = {"best": "**{}**", "second": "<ins>{}</ins>"}
    cells = _texts(page, _md, marks)
    align = ["right" if right else "left" for right in page.right]
    body = tabulate(
        cells,
        [_md(heading) for heading in page.headings],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=align if cells else None,
    )
    above = f"{_md(page.caption)}\n\n" if page.caption else ""
    notes = "".join(f"- {note.replace('<', chr(92) + '<')}\n" for note in page.notes)
    return f"{above}{body}\n" + (f"\n{notes}" if notes else "")


def _md(text: str) -> str:
    """Return a text in which everything is escaped that Markdown reads as markup."""
    return re.sub(r"([\\|<*`])", r"\\\1", text)


def _tex(text: str) -> str:
    """Return a text in which everything is escaped that LaTeX reads as a command."""
    escaped = "".join(_TEX.get(char, char) for char in text)
    escaped = escaped.replace("--", "-{}-") if "—" not in text else escaped
    if escaped.startswith(("[", "*")):  # after the end of a row, both are arguments
        escaped = f"{{{escaped[0]}}}{escaped[1:]}"
    return re.sub(r"(?<![^\s(])-(?=\d)", "$-$", escaped)


def latex(page: Page) -> str:
    """Return a ``table`` with booktabs rules and the footnotes below it."""
    marks = {"best": r"\textbf{{}}", "second": r"\underline{{}}"}
    cells = _texts(page, _tex, marks)
    for number, row in enumerate(cells):
        if page.opens(number):
            row[0] = rf"\midrule {row[0]}"
    printed = _styled(page, cells, _tex).to_latex(
        hrules=True,
        column_format="".join("r" if right else "l" for right in page.right),
        position_float="centering",
        caption=_tex(page.caption) or None,
        label=page.label or None,
    )
    lines = [_PREAMBLE, _fitting(printed.removesuffix("\\end{table}\n"))]
    if page.notes:
        notes = "\n".join(rf"{_tex(note)}\par" for note in page.notes)
        lines.append(
            "\\par\\medskip\n\\begin{minipage}{\\linewidth}\\footnotesize\n"
            f"{notes}\n\\end{{minipage}}\n"
        )
    return f"{lines[0]}\n{''.join(lines[1:])}\\end{{table}}\n"


def _fitting(printed: str) -> str:
    """Return a table that is made smaller where it is wider than the text.

    No text in it is mistaken for the ends of the table, because backslashes of texts
    are escaped.
    """
    width = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
    begin, end = r"\begin{tabular}", r"\end{tabular}"
    fitted = printed.replace(
        begin, f"\\smallskip\n\\resizebox{{{width}}}{{!}}{{%\n{begin}"
    )
    return fitted.replace(end, f"{end}}}")


def hypertext(page: Page) -> str:
    """Return an HTML page that needs no other file."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>dcbench</title>\n<style>\n{_CSS}\n</style>\n</head>\n<body>\n"
        f"<h1>dcbench</h1>\n<div>{fragment(page)}</div>\n"
        f"<ul>\n{_items(page)}\n</ul>\n</body>\n</html>\n"
    )


def _items(page: Page) -> str:
    """Return the notes as items of a list."""
    return "\n".join(f"<li>{html.escape(note)}</li>" for note in page.notes)


def fragment(page: Page) -> str:
    """Return the table alone, as a part of an HTML page."""
    marks = {"best": "<strong>{}</strong>", "second": "<u>{}</u>"}
    styler = _styled(page, _texts(page, html.escape, marks), html.escape)
    opening = [
        ["g" * page.opens(number)] * len(page.headings)
        for number in range(len(page.rows))
    ]
    classes = pd.DataFrame(opening, columns=range(len(page.headings)), dtype=str)
    right = [f".col{i}" for i, numbers in enumerate(page.right) if numbers]
    styles: list[Any] = [
        {"selector": ",".join(right), "props": "text-align:right"}
    ] * bool(right)
    if page.caption:
        styler = styler.set_caption(html.escape(page.caption))
    styler = styler.set_td_classes(classes).set_table_styles(styles)
    printed: str = styler.to_html()
    return printed


def _styled(page: Page, cells: list[list[str]], escape: Escape) -> Any:
    """Return the escaped cells in the hands of pandas, which lays them out."""
    frame = pd.DataFrame(cells, columns=range(len(page.headings)), dtype=str)
    headings = [escape(heading) for heading in page.headings]
    styler = Styler(frame, uuid="table", cell_ids=False).hide(axis="index")
    return styler.format_index(lambda number: headings[int(str(number))], axis=1)
