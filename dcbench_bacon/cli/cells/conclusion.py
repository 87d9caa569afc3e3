"""The end of ``dcbench run``: its table, and the command that prints it again."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dcbench_bacon.cli.printing import show
from dcbench_bacon.recipes.grids import ready_grid
from dcbench_bacon.reporting.literature.references import RANDOM
from dcbench_bacon.reporting.numbers import contents, longform
from dcbench_bacon.reporting.numbers.ablation import ablation
from dcbench_bacon.reporting.numbers.ranking import order_of
from dcbench_bacon.running.grids.grid import CellResult


def conclude(
    results: Sequence[CellResult],
    output: Path,
    preset: str,
    *,
    arms: str | None,
    gain_over: str | None,
) -> None:
    """Print the table of a grid, and the command that prints it again.

    Args:
        results: the results of the cells.
        output: the results folder.
        preset: the preset of the grid.
        arms: the name of a ready grid, whose arms are the rows; None for none.
        gain_over: the method of the gain row; None for random images, if the grid has
            them beside others.
    """
    records = [result.record for result in results if result.record.status == "done"]
    if not records:
        return
    if arms:
        table = ablation(records, ready_grid(arms), presets=(preset,))
        words = ["--grid", arms]
    else:
        methods = {record.cell.method for record in records}
        over = gain_over or (RANDOM if {RANDOM} < methods else None)
        table = contents.table_of(
            records, layout="paper", presets=(preset,), gain_over=over
        )
        words = ["--layout", "paper", *(["--gain-over", over] if over else [])]
        if preset == "demo":  # few sets and networks invite wrong conclusions
            notes = order_of(longform.frame(records), presets=(preset,))
            table = replace(table, notes=(*table.notes, *notes))
    show(table, None)
    words += ["--preset", preset, "--output", str(output)]
    again = shlex.join(["dcbench", "table", *words])
    Console(stderr=True).print(
        f"Records: {output / 'records'}   This table again: {again}",
        highlight=False,
        soft_wrap=True,
    )
