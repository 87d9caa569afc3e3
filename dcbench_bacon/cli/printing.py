"""The printing of tables: for the terminal where there is one, as text elsewhere."""

import click
from rich.console import Console

from dcbench_bacon.reporting.printing.rendering import render
from dcbench_bacon.reporting.printing.terminal import to_rich
from dcbench_bacon.reporting.table import Table


def show(table: Table, format: str | None) -> None:
    """Print a table.

    Args:
        table: the table.
        format: a format of ``rendering.render``; None for a table as wide as the
            terminal, or for Markdown where the output goes into a file or a pipe.
    """
    console = Console()
    if format is None and console.is_terminal:
        console.print(to_rich(table, console.width))
    else:
        click.echo(render(table, format or "md"), nl=False)
