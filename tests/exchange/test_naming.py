"""Names in tables for sets of other tools."""

from pathlib import Path

import pytest

from dcbench_bacon.errors import UsageError
from dcbench_bacon.exchange.formats import ReadingOptions
from dcbench_bacon.exchange.interpretation.naming import name_of
from dcbench_bacon.reporting.literature import published


@pytest.mark.parametrize("method", ["dm", "rded", "gvbsm", "k-center"])
def test_no_published_number_stands_beside_a_set_of_another_tool(
    method: str, tmp_path: Path
) -> None:
    """Neither a stated name nor that of a folder is the name of a method."""
    assert published.sources(method, "cifar10", 10)
    with pytest.raises(UsageError, match="no method"):
        name_of(tmp_path / "x.pt", ReadingOptions(name=method))
    folder = tmp_path / method
    folder.mkdir()
    assert name_of(folder, ReadingOptions()) == f"{tmp_path.name}/{method}"
    assert (
        name_of(tmp_path / "x.pt", ReadingOptions(name=f"my {method}"))
        == f"my {method}"
    )
