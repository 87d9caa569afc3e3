"""Give mkdocs what it needs besides the pages: generated tables, links and files.

Nothing here imports mkdocs before mkdocs calls it, so that tests can use the rest.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

TREE = Path(__file__).resolve().parents[1]
NOTEBOOKS = Path(__file__).resolve().parent / "notebooks"
HEADING = "Departures (what | published code | here):"
MARKER = re.compile(r"<!-- (departures|list): (\w+) -->")


class Departure(NamedTuple):
    """One difference between dcbench and published code.

    Attributes:
        method: the name of the method, or an empty text.
        what: the thing, or a remark where the other two fields are empty.
        published: what published code does.
        here: what dcbench does.
    """

    method: str
    what: str
    published: str = ""
    here: str = ""


def plugins(folder: str) -> list[Path]:
    """Return the modules of ``methods/`` or ``datasets/``."""
    return sorted((TREE / folder).glob("[!_]*.py"))


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a module, which is not imported."""
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """Return the name of a plug-in, in backticks: that of its file, or its ``NAME``."""
    said = re.search(r'^NAME = "(.+)"$', path.read_text(encoding="utf-8"), re.M)
    return f"`{said[1] if said else path.stem}`"


def of_method(path: Path) -> Iterator[Departure]:
    """Read the departures in the docstring of a method's module.

    Args:
        path: the module. Below the line ``HEADING``, each item begins with ``- ``
            and has three fields between ``|``, or is a remark without any.

    Raises:
        ValueError: an item has another number of fields, or none follows the heading.
    """
    docstring = ast.get_docstring(parse(path)) or ""
    _, heading, block = docstring.partition(HEADING)
    items = re.split(r"^ *- ", block.partition("\n\n")[0], flags=re.M)[1:]
    if not items and (heading or "Departure" in docstring):
        raise ValueError(f"{path}: no item follows {HEADING!r}")
    for item in items:
        fields = [" ".join(field.split()) for field in item.split("|")]
        if len(fields) not in (1, 3):
            raise ValueError(f"{path}: not three fields between '|': {item.strip()}")
        yield Departure(name_of(path), *(field.replace("``", "`") for field in fields))


def departures(kind: str) -> list[Departure]:
    """Return the departures of a kind.

    Args:
        kind: ``methods``, or the name of a list in ``docs/departures.toml``.
    """
    if kind == "methods":
        return [row for path in plugins("methods") for row in of_method(path)]
    text = (TREE / "docs" / "departures.toml").read_text(encoding="utf-8")
    return [Departure("", **row) for row in tomllib.loads(text)[kind]]


def table(kind: str) -> str:
    """Return the departures of a kind as a Markdown table."""
    columns = ["method", "what", "published code", "here"]
    first = 0 if kind == "methods" else 1
    rows = [columns, ["---"] * len(columns), *departures(kind)]
    return "\n".join(f"| {' | '.join(row[first:])} |" for row in rows)


def listing(folder: str) -> str:
    """Return a table with the first line about each plug-in of a folder."""
    rows = ["| name | what it is |", "|:--|:--|"]
    for path in plugins(folder):
        about = (ast.get_docstring(parse(path)) or "").partition("\n")[0]
        rows.append(f"| {name_of(path)} | {about.replace('``', '`')} |")
    return "\n".join(rows)


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown, with its outputs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any]) -> str:
    """Return an output as Markdown: a picture, a table or text."""
    if output["output_type"] == "error":
        raise ValueError(f"a cell has failed: {output['ename']}: {output['evalue']}")
    data = output.get("data", {})
    if "image/png" in data:
        png = "".join(data["image/png"]).replace("\n", "")
        width = output.get("metadata", {}).get("image/png", {}).get("width", 400)
        uri = f"data:image/png;base64,{png}"
        return f'<img alt="Output of the cell above" width="{width}" src="{uri}">'
    if "text/html" in data:
        html = "".join(data["text/html"])
        html = re.sub(r"<style.*?</style>\n?", "", html, flags=re.DOTALL)
        return html.replace('<table border="1" class="dataframe">', "<table>")
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Fill in what is generated, and point links out of ``docs/`` at copied files."""
    fill = {"departures": table, "list": listing}
    markdown = MARKER.sub(lambda marker: fill[marker[1]](marker[2]), markdown)
    return markdown.replace("](../results/", "](results/")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the committed tables and figures that pages link to, and the notebooks."""
    from mkdocs.structure.files import File

    results = TREE / "results"
    for path in sorted(p for p in results.rglob("*") if p.suffix in (".md", ".png")):
        name = str(path.relative_to(TREE))
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        files.remove(files.src_uris[f"notebooks/{path.name}"])
        page = File.generated(
            config, f"notebooks/{path.stem}.md", content=notebook_page(path)
        )
        files.append(page)
    return files
