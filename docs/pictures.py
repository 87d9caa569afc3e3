"""Draw the pictures of terminals in the documentation.

``python docs/pictures.py`` writes ``docs/table.svg``: what ``dcbench table`` prints of
the published numbers, which a clone has without any record.
"""

import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from dcbench_bacon.cli.arguments.options import PAPER_DATASETS
from dcbench_bacon.reporting.numbers.contents import published_table
from dcbench_bacon.reporting.printing.terminal import to_rich

WIDTH = 104  # columns
METHODS = ("random", "dm", "idm", "bacon")
COMMAND = (
    f"dcbench table --published --methods {','.join(METHODS)} --datasets all "
    "--ipc 1,10,50 --gain-over dm"
)


def picture() -> str:
    """Return the picture of the six-column table, as SVG that requests no font."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    table = published_table(
        methods=METHODS, datasets=PAPER_DATASETS, ipc=(1, 10, 50), gain_over="dm"
    )
    console.print(f"$ {COMMAND}", style="bold", highlight=False)
    console.print(to_rich(table, WIDTH))
    svg = console.export_svg(title="dcbench", theme=MONOKAI)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    Path(__file__).with_name("table.svg").write_text(picture(), encoding="utf-8")
