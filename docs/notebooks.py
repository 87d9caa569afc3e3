"""Run the notebooks and keep their outputs: ``python docs/notebooks.py``.

The committed notebooks contain the outputs of a run, so that the pages are made without
running anything. A test runs them as well, and fails if a cell does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "notebooks"
MOST_SECONDS = 300  # for a cell


def notebooks() -> list[Path]:
    """Return the notebooks in the order of their names."""
    return sorted(FOLDER.glob("*.ipynb"))


def run(path: Path) -> Any:
    """Return a notebook with the outputs of a run, in one thread.

    Args:
        path: the notebook.

    Raises:
        CellExecutionError: a cell has failed.
    """
    import nbformat
    from nbclient import NotebookClient

    # The commands that cells call are those of this environment.
    programs = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
    os.environ["OMP_NUM_THREADS"] = "1"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=MOST_SECONDS, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.clear()  # times of this run
    return notebook


if __name__ == "__main__":
    import nbformat

    for path in notebooks():
        nbformat.write(run(path), path)
        print(path)
